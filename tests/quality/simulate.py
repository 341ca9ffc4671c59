"""Simulated readings: planted leaks, clean code that looks like one, and the two looks.

A family is a function of a random generator and a number of iterations. It returns what
is in use after each of twice that many judged iterations and its warm-up, in units of
the allowance (6 KiB of heap, 64 blocks) or, for counts, in single objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from random import Random

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import judge
from pytest_tfleak.plan import Plan
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Verdict

WARMUP = 5
HEAP = Signal(
    name="host.heap", unit="B", allowance="host_per_iteration", total="host_total"
)
BLOCKS = Signal(name="python.blocks", unit="blocks", allowance="blocks")
TENSORS = Signal(name="tf.tensors", unit="tensors", allowance="tensors")
RSS = Signal(
    name="host.rss",
    unit="B",
    nature="noisy",
    allowance="host_per_iteration",
    total="host_total",
    instead_of="host.heap",
)
#: What one unit of a family is for each signal; 0 in a family is 0 everywhere.
SCALES = {HEAP: 6 * 1024, BLOCKS: 64, TENSORS: 1, RSS: 6 * 1024}
MIB = 1024**2 / SCALES[HEAP]

Column = Sequence[int | None]
Family = Callable[[Random, int], list[float]]


def look_twice(
    columns: Mapping[Signal, Column], plan: Plan, *, read: int | None = None
) -> Verdict:
    """Judge columns as a run would: confirm what the first look finds suspicious.

    ``read`` says how many rows there are, where ``max_time`` ended the loop early.
    """
    rows = plan.warmup + 2 * plan.iterations if read is None else read
    rows = min(rows, *(len(column) for column in columns.values()))
    measured = max(0, min(plan.iterations, rows - plan.warmup))
    warmup = min(plan.warmup, rows)
    trace = trace_of(columns, warmup=warmup, measured=measured, confirmed=0)
    if is_suspicious(trace, plan):
        trace.confirmed = min(plan.iterations, rows - trace.rows)
    return judge(trace, plan)


def trace_of(
    columns: Mapping[Signal, Column],
    *,
    measured: int = 20,
    confirmed: int = 20,
    warmup: int = 0,
) -> Trace:
    """Return a trace that holds all rows of the columns, and was read so far."""
    longest = max((len(column) for column in columns.values()), default=0)
    trace = Trace(tuple(columns), warmup, max(longest, measured + confirmed))
    trace.warmed_up, trace.measured, trace.confirmed = warmup, measured, confirmed
    for column, readings in enumerate(columns.values()):
        for row, value in enumerate(readings):
            if value is not None:
                trace.buffer[row * trace.width + column] = value
    return trace


def readings_of(family: Family, signal: Signal, rng: Random, plan: Plan) -> list[int]:
    """Return the readings of a signal in a family: warm-up, look and confirmation."""
    scale = SCALES[signal]
    base = rng.randrange(10**7, 10**9) if signal.unit == "B" else rng.randrange(10**4)
    shape = family(rng, plan.iterations)
    readings = [base + round(scale * value) for value in shape]
    if signal is RSS:
        readings = [value // 4096 * 4096 for value in readings]
    return readings


def _axis(n: int) -> range:
    return range(-WARMUP, 2 * n)


def _add(*parts: list[float]) -> list[float]:
    return [math.fsum(values) for values in zip(*parts, strict=True)]


# Clean code


def level(rng: Random, n: int) -> list[float]:
    """Nothing is kept."""
    return [0.0 for _ in _axis(n)]


def one_off_step(rng: Random, n: int) -> list[float]:
    """A pool takes 1 MiB at any place and keeps it."""
    at = rng.randrange(0, 2 * n)
    return [MIB if i >= at else 0.0 for i in _axis(n)]


def doubling_table(rng: Random, n: int) -> list[float]:
    """A table doubles whenever it is full."""
    entry = rng.choice([0.05, 0.5, 3.0])
    held = rng.randrange(1, 40)
    return [entry * 2 ** math.ceil(math.log2(held + i + WARMUP)) for i in _axis(n)]


def filling_cache(rng: Random, n: int) -> list[float]:
    """A cache takes an entry an iteration until it is full."""
    return fill_until(rng.choice([10, 24, 60, 80]), rng.choice([1, 2, 5, 40]), n)


def fill_until(full: int, entry: float, n: int) -> list[float]:
    """Return a cache that takes its last entry in iteration ``full``."""
    return [float(entry * min(i + 1 + WARMUP, full + WARMUP)) for i in _axis(n)]


def drawn_cache(rng: Random, n: int) -> list[float]:
    """A cache of random keys: the fuller it is, the rarer a miss."""
    keys = rng.choice([4, 8, 16, 24])
    entry = rng.choice([1, 5, 40])
    seen: set[int] = set()
    used = []
    for _ in _axis(n):
        seen.add(rng.randrange(keys))
        used.append(float(entry * len(seen)))
    return used


def decaying_warm_up(rng: Random, n: int) -> list[float]:
    """Growth that fades with a time constant of 2 to 30 iterations."""
    return warm_up_of(rng.uniform(2, 30), 10 ** rng.uniform(1, 3.5), n)


def warm_up_of(constant: float, size: float, n: int) -> list[float]:
    """Return growth that fades with a time constant."""
    return [size * (1 - math.exp(-(i + WARMUP) / constant)) for i in _axis(n)]


def logarithmic_warm_up(rng: Random, n: int) -> list[float]:
    """Growth that fades as 1/i, as a cache with a long tail does."""
    size = 10 ** rng.uniform(1, 3)
    return [size * math.log(i + WARMUP + 1) for i in _axis(n)]


def sawtooth(rng: Random, n: int) -> list[float]:
    """A buffer is flushed every 3 to 20 iterations."""
    return sawtooth_of(rng.randint(3, 20), rng.randrange(20), rng.choice([1, 4, 50]), n)


def sawtooth_of(period: int, phase: int, size: float, n: int) -> list[float]:
    """Return a buffer that is flushed every ``period`` iterations."""
    return [float(size * ((i + phase) % period)) for i in _axis(n)]


def bounded_walk(rng: Random, n: int) -> list[float]:
    """Entries come and go between nothing and a bound."""
    bound = rng.choice([5, 10, 20, 40])
    size = rng.choice([1, 3, 10])
    here, used = rng.randint(0, bound), []
    for _ in _axis(n):
        here = min(bound, max(0, here + rng.choice([-2, -1, -1, 0, 1, 1, 2])))
        used.append(float(size * here))
    return used


def allocator_jitter(rng: Random, n: int) -> list[float]:
    """What is in use wavers about a level."""
    spread = rng.choice([1, 5, 30])
    if rng.random() < 0.5:
        return [rng.gauss(0, spread) for _ in _axis(n)]
    return [rng.uniform(0, spread) for _ in _axis(n)]


def clean_drift(rng: Random, n: int) -> list[float]:
    """About 1 KB is kept each iteration, and the allocator wavers."""
    kept = rng.uniform(0, 2 * 1000 / SCALES[HEAP])
    return [kept * i + rng.uniform(0, 0.3) for i in _axis(n)]


def drift_and_steps(rng: Random, n: int) -> list[float]:
    """Drift under the allowance, and two one-off steps."""
    return _add(clean_drift(rng, n), one_off_step(rng, n), one_off_step(rng, n))


# Leaks: at the allowance or above, one object or more for counts


def constant_leak(rng: Random, n: int) -> list[float]:
    """The same amount every iteration."""
    size = rng.choice([1.02, 1.5, 4, 100])
    return [size * i for i in _axis(n)]


def sparse_leak(rng: Random, n: int) -> list[float]:
    """The same amount every 2nd, 5th or 10th iteration."""
    return sparse_leak_of(rng.choice([2, 5, 10]), rng.choice([1.05, 3, 20]), rng, n)


def sparse_leak_of(every: int, size: float, rng: Random, n: int) -> list[float]:
    """Return a leak in every so manieth iteration, ``size`` an iteration."""
    phase = rng.randrange(every)
    return [size * every * ((i + WARMUP + phase) // every) for i in _axis(n)]


def wavering_sparse_leak(rng: Random, n: int) -> list[float]:
    """A sparse leak under an allocator that wavers."""
    return _add(sparse_leak(rng, n), [rng.uniform(0, 0.5) for _ in _axis(n)])


def growing_leak(rng: Random, n: int) -> list[float]:
    """Each iteration leaks a little more than the one before."""
    size = rng.choice([1, 3, 10])
    return [size * (1.02 * i + (i + WARMUP) ** 2 / (2 * n)) for i in _axis(n)]


def noisy_leak(rng: Random, n: int) -> list[float]:
    """A leak of the allowance or more; jitter up to three times as large."""
    size, jitter = rng.choice([1, 2, 10]), rng.uniform(0, 3)
    return [size * (i + rng.uniform(-jitter, jitter)) for i in _axis(n)]


def gaussian_leak(rng: Random, n: int) -> list[float]:
    """A leak of the allowance or more; normal jitter of up to twice its size."""
    size, jitter = rng.choice([1, 2, 10]), rng.uniform(0, 2)
    return [size * (i + rng.gauss(0, jitter)) for i in _axis(n)]


def leak_of_many_sizes(rng: Random, n: int) -> list[float]:
    """What is lost in an iteration differs from nothing to twice the mean."""
    size, used = rng.choice([1.3, 3, 20]), [0.0]
    for _ in _axis(n)[1:]:
        used.append(used[-1] + rng.uniform(0, 2 * size))
    return used


def leak_on_drift(rng: Random, n: int) -> list[float]:
    """A leak of the allowance on clean drift."""
    return _add(constant_leak(rng, n), clean_drift(rng, n))


def leak_on_warm_up(rng: Random, n: int) -> list[float]:
    """A leak of the allowance or more on a warm-up that decays."""
    warm_up = warm_up_of(rng.uniform(2, 10), 10 ** rng.uniform(0, 2), n)
    return _add(constant_leak(rng, n), warm_up)


def leak_and_step(rng: Random, n: int) -> list[float]:
    """A leak of the allowance or more; a table beside it doubles at any place."""
    size, at, step = (
        rng.choice([1.02, 1.5, 4]),
        rng.randrange(2 * n),
        rng.choice([2, 4, 8, MIB]),
    )
    doubled = [step if i >= at else 0.0 for i in _axis(n)]
    return _add([size * i for i in _axis(n)], clean_drift(rng, n), doubled)


def late_leak(rng: Random, n: int) -> list[float]:
    """A leak that begins within the first three fifths of the first look."""
    begins, size = rng.randrange(3 * n // 5 + 1), rng.choice([1.1, 5, 100])
    return [size * max(0, i - begins) for i in _axis(n)]


CLEAN: tuple[Family, ...] = (
    level,
    one_off_step,
    doubling_table,
    filling_cache,
    drawn_cache,
    decaying_warm_up,
    logarithmic_warm_up,
    sawtooth,
    bounded_walk,
    allocator_jitter,
    clean_drift,
    drift_and_steps,
)
LEAKS: tuple[Family, ...] = (
    constant_leak,
    sparse_leak,
    wavering_sparse_leak,
    growing_leak,
    noisy_leak,
    gaussian_leak,
    leak_of_many_sizes,
    leak_on_drift,
    leak_on_warm_up,
    leak_and_step,
    late_leak,
)
