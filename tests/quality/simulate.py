"""Simulated readings: planted leaks, clean code that looks like leaks, and both looks.

A family is a function of a random generator and a number of iterations. It returns what
is in use after the warm-up and after as many judged iterations as a run may have, in
units of the allowance (6 KiB of heap, 64 KiB of RSS, 64 blocks) or, for counts, in
single objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from random import Random

from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import decide
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import iterations_wanted
from pytest_tfleak.judge import judge
from pytest_tfleak.judge.steps import LONGEST
from pytest_tfleak.plan import Plan
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Verdict

WARMUP = 5
#: There are so many times the iterations of the first look, in case a run needs them.
MOST_LOOKS = LONGEST
HEAP = make_signal("host.heap")
BLOCKS = make_signal("python.blocks")
TENSORS = make_signal("tf.tensors")
RSS = make_signal("host.rss")
#: What one unit of a family is for each signal; 0 in a family is 0 everywhere.
SCALES = {HEAP: 6 * 1024, BLOCKS: 64, TENSORS: 1, RSS: 64 * 1024}
MIB = 1024**2 / SCALES[HEAP]

Column = Sequence[int | None]
Family = Callable[[Random, int], list[float]]


def look_twice(
    columns: Mapping[Signal, Column], plan: Plan, *, read: int | None = None
) -> Verdict:
    """Judge columns as a run would: confirm what the first look finds suspicious.

    ``read`` says how many rows there are if ``max_time`` ended the loop early.
    """
    rows = plan.warmup + MOST_LOOKS * plan.iterations if read is None else read
    rows = min(rows, *(len(column) for column in columns.values()))
    measured = max(0, min(plan.iterations, rows - plan.warmup))
    warmup = min(plan.warmup, rows)
    trace = trace_of(columns, warmup=warmup, measured=measured, confirmed=0)
    if is_suspicious(trace, plan):
        trace.confirmed = min(plan.iterations, rows - trace.rows)
        while more := min(iterations_wanted(trace, plan), rows - trace.rows):
            trace.confirmed += more
    return verdict_of(trace, plan)


def verdict_of(trace: Trace, plan: Plan, nodeid: str = "") -> Verdict:
    """Judge a trace and return the verdict, as a run without a diagnosis does."""
    judged = judge(trace, plan)
    grounds = Grounds(nodeid=nodeid, plan=plan, judged=judged, findings=judged.findings)
    return decide(grounds)


def trace_of(
    columns: Mapping[Signal, Column],
    *,
    measured: int = 20,
    confirmed: int = 20,
    warmup: int = 0,
) -> Trace:
    """Return a trace that holds all rows of the columns, of which so many were read."""
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
    return range(-WARMUP, MOST_LOOKS * n)


def _add(*parts: list[float]) -> list[float]:
    return [math.fsum(values) for values in zip(*parts, strict=True)]


# Clean code


def level(rng: Random, n: int) -> list[float]:
    """No memory is kept."""
    return [0.0 for _ in _axis(n)]


def one_off_step(rng: Random, n: int) -> list[float]:
    """A pool takes 1 MiB at some point and keeps it."""
    at = rng.randrange(0, 2 * n)
    return [MIB if i >= at else 0.0 for i in _axis(n)]


def doubling_table(rng: Random, n: int) -> list[float]:
    """A table doubles whenever it is full."""
    entry = rng.choice([0.05, 0.5, 3.0])
    held = rng.randrange(1, 40)
    return [entry * 2 ** math.ceil(math.log2(held + i + WARMUP)) for i in _axis(n)]


def filling_cache(rng: Random, n: int) -> list[float]:
    """A cache takes an entry per iteration until it is full."""
    return fill_until(rng.choice([10, 24, 60, 80]), rng.choice([1, 2, 5, 40]), n)


def fill_until(full: int, entry: float, n: int) -> list[float]:
    """Return a cache that takes its last entry in iteration ``full``."""
    return [float(entry * min(i + 1 + WARMUP, full + WARMUP)) for i in _axis(n)]


def drawn_cache(rng: Random, n: int) -> list[float]:
    """A cache of random keys: the fuller it is, the rarer a miss is."""
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
    """The number of entries goes up and down between 0 and a bound."""
    bound = rng.choice([5, 10, 20, 40])
    size = rng.choice([1, 3, 10])
    here, used = rng.randint(0, bound), []
    for _ in _axis(n):
        here = min(bound, max(0, here + rng.choice([-2, -1, -1, 0, 1, 1, 2])))
        used.append(float(size * here))
    return used


def allocator_jitter(rng: Random, n: int) -> list[float]:
    """What is in use fluctuates around a level."""
    spread = rng.choice([1, 5, 30])
    if rng.random() < 0.5:
        return [rng.gauss(0, spread) for _ in _axis(n)]
    return [rng.uniform(0, spread) for _ in _axis(n)]


def clean_drift(rng: Random, n: int) -> list[float]:
    """About 1 KB is kept in each iteration, and the allocator fluctuates."""
    kept = rng.uniform(0, 2 * 1000 / SCALES[HEAP])
    return [kept * i + rng.uniform(0, 0.3) for i in _axis(n)]


def drift_and_steps(rng: Random, n: int) -> list[float]:
    """Drift under the allowance, and two one-off steps."""
    return _add(clean_drift(rng, n), one_off_step(rng, n), one_off_step(rng, n))


# Clean code whose heap is level while its RSS is not


def arenas(rng: Random, n: int) -> list[float]:
    """Threads take arenas of 64 KiB to 4 MiB, most of them early."""
    mean, sizes = rng.uniform(3, 20), [2**k for k in range(7)]
    taken = [
        (rng.expovariate(1 / mean) - WARMUP, rng.choice(sizes))
        for _ in range(rng.randint(1, 24))
    ]
    return [float(sum(size for at, size in taken if at <= i)) for i in _axis(n)]


def high_water_mark(rng: Random, n: int) -> list[float]:
    """The highest use so far stays resident, and the use fluctuates."""
    spread, most, used = 10 ** rng.uniform(1, 2.5), 0.0, []
    for _ in _axis(n):
        most = max(most, rng.gauss(0, spread))
        used.append(most)
    return used


def touched_slowly(rng: Random, n: int) -> list[float]:
    """A buffer of 1 to 500 MiB is allocated at once, and written to bit by bit."""
    size, share = rng.uniform(16, 8000), rng.uniform(0.01, 0.2)
    return [size * (1 - (1 - share) ** (i + WARMUP + 10)) for i in _axis(n)]


def trimmed(rng: Random, n: int) -> list[float]:
    """Free pages pile up, and are returned to the system now and then."""
    most, used, here = rng.uniform(16, 640), [], 0.0
    for _ in _axis(n):
        here += rng.uniform(0, most / 5)
        if here > most * rng.uniform(0.7, 1.3):
            here = 0.0
        used.append(here)
    return used


# Clean code that looks just like a leak until it frees what it took


def emptied_at_random(rng: Random, n: int) -> list[float]:
    """A buffer takes an item per call and is emptied every 5 to 48 calls on average."""
    return _emptied(rng, n, lambda held: 0)


def emptied_in_part(rng: Random, n: int) -> list[float]:
    """Now and then, a buffer loses half or three quarters of what it holds."""
    share = rng.choice([0.25, 0.5])
    return _emptied(rng, n, lambda held: math.floor(share * held))


def evicted_at_random(rng: Random, n: int) -> list[float]:
    """Now and then, a cache loses a random part of its entries."""
    return _emptied(rng, n, lambda held: rng.randrange(held + 1))


def _emptied(rng: Random, n: int, left: Callable[[int], int]) -> list[float]:
    period, size = rng.choice([5, 8, 12, 20, 30, 48]), rng.choice([1.1, 4, 20])
    items = rng.choice([[1], [0, 1, 1, 2]])
    held, used = 0, []
    for _ in _axis(n):
        held = left(held) if rng.random() < 1 / period else held + rng.choice(items)
        used.append(size * held)
    return used


def batch(rng: Random, n: int) -> list[float]:
    """A buffer is emptied once in the first two looks, when it is full."""
    period, size = rng.randrange(n, 2 * n), rng.choice([1.1, 4, 20])
    phase = rng.randrange(period)
    return [float(size * ((i + WARMUP + phase) % period)) for i in _axis(n)]


def halved_batch(rng: Random, n: int) -> list[float]:
    """A buffer that is full loses half of what it holds."""
    period, size = rng.randrange(n // 2, 2 * n), rng.choice([1.1, 4, 20])
    held, used = rng.randrange(period), []
    for _ in _axis(n):
        held = (held + 1) // 2 if held + 1 >= period else held + 1
        used.append(float(size * held))
    return used


# Readings of a pool, which counts whole chunks: often more than is in use


def flipping_level(rng: Random, n: int) -> list[float]:
    """What is in use stays the same."""
    return _flipping(rng, level(rng, n))


def flipping_sawtooth(rng: Random, n: int) -> list[float]:
    """A buffer is flushed every 3 to 20 iterations."""
    return _flipping(rng, sawtooth(rng, n))


def flipping_cache(rng: Random, n: int) -> list[float]:
    """A cache takes an entry an iteration until it is full."""
    return _flipping(rng, filling_cache(rng, n))


def flipping_leak(rng: Random, n: int) -> list[float]:
    """An array grows by the same amount every iteration."""
    size = rng.choice([1.1, 1.5, 5.33, 10.7, 40])
    return _flipping(rng, [size * (i + WARMUP) for i in _axis(n)])


def _flipping(rng: Random, used: list[float]) -> list[float]:
    """Return readings some of which are rounded up to the size of a chunk."""
    base, chunk = rng.uniform(1, 16) * MIB, rng.choice([None, MIB, MIB / 4])
    every, phase, share = rng.choice([None, 2, 3]), rng.randrange(3), rng.choice([3, 5])
    readings = []
    for row, grown in enumerate(used):
        value = base + grown
        size = 2.0 ** math.ceil(math.log2(value)) if chunk is None else chunk
        in_full = rng.random() < share / 10 if every is None else (row + phase) % every
        readings.append(size * math.ceil(value / size) if in_full else value)
    return readings


# Leaks: at the allowance or above, one object or more for counts


def constant_leak(rng: Random, n: int) -> list[float]:
    """The same amount every iteration."""
    size = rng.choice([1.02, 1.5, 4, 100])
    return [size * i for i in _axis(n)]


def sparse_leak(rng: Random, n: int) -> list[float]:
    """The same amount in every 2nd, 5th or 10th iteration."""
    return sparse_leak_of(rng.choice([2, 5, 10]), rng.choice([1.05, 3, 20]), rng, n)


def sparse_leak_of(every: int, size: float, rng: Random, n: int) -> list[float]:
    """Return a leak in every nth iteration, of ``size`` per iteration on average."""
    phase = rng.randrange(every)
    return [size * every * ((i + WARMUP + phase) // every) for i in _axis(n)]


def wavering_sparse_leak(rng: Random, n: int) -> list[float]:
    """A sparse leak under an allocator that fluctuates."""
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
    """An iteration loses between nothing and twice the mean."""
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
    """A leak of the allowance or more; a table beside it doubles at some point."""
    size, at, step = (
        rng.choice([1.02, 1.5, 4]),
        rng.randrange(2 * n),
        rng.choice([2, 4, 8, MIB]),
    )
    doubled = [step if i >= at else 0.0 for i in _axis(n)]
    return _add([size * i for i in _axis(n)], clean_drift(rng, n), doubled)


def kept_mappings(rng: Random, n: int) -> list[float]:
    """256 KiB to 4 MiB per call, in RSS alone; other resident memory fluctuates."""
    size, wavers = rng.choice([4, 5, 16, 64]), rng.uniform(0, 2)
    return [size * i + rng.uniform(0, wavers * size) for i in _axis(n)]


def late_leak(rng: Random, n: int) -> list[float]:
    """A leak that begins within the first three fifths of the first look."""
    begins, size = rng.randrange(3 * n // 5 + 1), rng.choice([1.1, 5, 100])
    return [size * max(0, i - begins) for i in _axis(n)]


# Leaks beside which something older is freed in the first two looks


def leak_and_fall(rng: Random, n: int) -> list[float]:
    """The same amount in every iteration; once, that of 2 to 60 of them is freed."""
    size = rng.choice([1.02, 1.5, 4, 100])
    return _add([size * i for i in _axis(n)], _fall(rng, n, size))


def drifting_leak_and_fall(rng: Random, n: int) -> list[float]:
    """The same on clean drift."""
    return _add(leak_and_fall(rng, n), clean_drift(rng, n))


def sparse_leak_and_fall(rng: Random, n: int) -> list[float]:
    """A leak in every 2nd, 5th or 10th iteration."""
    size = rng.choice([1.05, 3])
    leak = sparse_leak_of(rng.choice([2, 5, 10]), size, rng, n)
    return _add(leak, _fall(rng, n, size))


def noisy_leak_and_fall(rng: Random, n: int) -> list[float]:
    """The readings fluctuate."""
    size, jitter = rng.choice([1.02, 1.5, 4]), rng.uniform(0, 1.5)
    fall = _fall(rng, n, size)
    return _add([size * (i + rng.uniform(-jitter, jitter)) for i in _axis(n)], fall)


def leak_and_falls(rng: Random, n: int) -> list[float]:
    """Older objects are freed in two or three parts."""
    size, count = rng.choice([1.02, 1.5, 4]), rng.choice([2, 3])
    falls = [_fall(rng, n, size, most=60 // count) for _ in range(count)]
    return _add([size * i for i in _axis(n)], *falls)


def leak_and_slow_fall(rng: Random, n: int) -> list[float]:
    """Older objects are freed within 2 to 12 iterations, such as threads that end."""
    size = rng.choice([1.02, 1.5, 4])
    fall = _fall(rng, n, size, least=10, takes=rng.randint(2, 12))
    return _add([size * i for i in _axis(n)], fall)


def leak_of_many_sizes_and_fall(rng: Random, n: int) -> list[float]:
    """Iterations lose different amounts."""
    size = rng.choice([1.3, 3, 20])
    fall, used = _fall(rng, n, size), [0.0]
    for _ in _axis(n)[1:]:
        used.append(used[-1] + rng.uniform(0, 2 * size))
    return _add(used, fall)


def _fall(
    rng: Random, n: int, size: float, *, least: int = 2, most: int = 60, takes: int = 1
) -> list[float]:
    at, depth = rng.randrange(1, 2 * n - takes), size * rng.randint(least, most)
    return [-depth * min(1.0, max(0.0, (i - at + 1) / takes)) for i in _axis(n)]


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
#: Clean code that looks just like a leak until it frees what it took.
EMPTIED: tuple[Family, ...] = (
    emptied_at_random,
    emptied_in_part,
    evicted_at_random,
    batch,
    halved_batch,
)
FLIPPING: tuple[Family, ...] = (flipping_level, flipping_sawtooth, flipping_cache)
FALLING: tuple[Family, ...] = (
    leak_and_fall,
    drifting_leak_and_fall,
    sparse_leak_and_fall,
    noisy_leak_and_fall,
    leak_and_falls,
    leak_and_slow_fall,
    leak_of_many_sizes_and_fall,
)
#: Clean code that changes RSS alone.
PAGES: tuple[Family, ...] = (arenas, high_water_mark, touched_slowly, trimmed)
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
