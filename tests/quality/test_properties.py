"""What is true of the judge for any readings."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import iterations_wanted
from pytest_tfleak.plan import Plan
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Stopped
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.quality.simulate import BLOCKS
from tests.quality.simulate import CLEAN
from tests.quality.simulate import EMPTIED
from tests.quality.simulate import FALLING
from tests.quality.simulate import FLIPPING
from tests.quality.simulate import HEAP
from tests.quality.simulate import LEAKS
from tests.quality.simulate import RSS
from tests.quality.simulate import SCALES
from tests.quality.simulate import TENSORS
from tests.quality.simulate import Family
from tests.quality.simulate import look_twice
from tests.quality.simulate import readings_of
from tests.quality.simulate import trace_of
from tests.quality.simulate import verdict_of

SESSIONS = make_signal("tf.sessions")
THIRD_PARTY = Signal(name="mylib.handles", unit="handles", allowance=2)
CONTEXT = make_signal("host.uss")
#: Without those that fall: what falls may be a buffer that was emptied.
RISING = (*LEAKS, *CLEAN)
#: Of a random generator: one whose numbers Hypothesis picks is not random.
seeds = st.integers(0, 2**32)
SHAPES = (*RISING, *EMPTIED, *FALLING, *FLIPPING)
Columns = Mapping[Signal, Sequence[int | None]]

series = st.lists(st.integers(-(10**6), 10**6), min_size=10, max_size=80)
gaps = st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=60)


def split(readings: Sequence[int | None]) -> tuple[int, int]:
    """Return how many rows are measured and how many confirm."""
    return len(readings) - len(readings) // 2, len(readings) // 2


def judged(
    columns: Columns, rows: Sequence[int | None], plan: Plan | None = None
) -> Verdict:
    measured, confirmed = split(rows)
    trace = trace_of(columns, measured=measured, confirmed=confirmed)
    return verdict_of(trace, plan or Plan(iterations=max(1, measured)))


def outcome(verdict: Verdict) -> tuple[Status, Reason | None, tuple[Finding, ...]]:
    return verdict.status, verdict.reason, verdict.findings


@given(gaps, st.sampled_from([TENSORS, HEAP, RSS, THIRD_PARTY]))
def test_any_readings_have_exactly_one_verdict(
    readings: list[int | None], signal: Signal
) -> None:
    first = judged({signal: readings}, readings)
    assert first == judged({signal: readings}, readings)
    assert Verdict.from_dict(first.to_dict()) == first


@given(st.integers(-(2**62), 2**62), st.integers(5, 100))
def test_a_constant_series_is_clean(value: int, iterations: int) -> None:
    rows = [value] * iterations
    trace = trace_of({TENSORS: rows}, measured=iterations, confirmed=0)
    plan = Plan(iterations=iterations)
    assert not is_suspicious(trace, plan)
    assert verdict_of(trace, plan).status is Status.CLEAN


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(5, 100))
def test_constant_growth_is_a_leak_only_above_the_allowance(
    size: int, allowance: int, iterations: int
) -> None:
    rows = [size * row for row in range(2 * iterations)]
    plan = Plan(iterations=iterations, host_per_iteration=allowance)
    trace = trace_of({HEAP: rows}, measured=iterations, confirmed=0)
    assert is_suspicious(trace, plan) == (size > allowance)
    expected = Status.LEAK if size > allowance else Status.CLEAN
    assert judged({HEAP: rows}, rows, plan).status is expected


@given(series, st.integers(-(10**9), 10**9))
def test_what_was_in_use_before_does_not_matter(rows: list[int], base: int) -> None:
    moved = [base + reading for reading in rows]
    before, after = judged({TENSORS: rows}, rows), judged({TENSORS: moved}, moved)
    assert before.status is after.status
    assert [f.total for f in before.findings] == [f.total for f in after.findings]


@given(series, st.sampled_from([2, 4, 8, 1024]))
def test_the_unit_of_a_count_does_not_matter(rows: list[int], factor: int) -> None:
    scaled = [factor * reading for reading in rows]
    plain, large = judged({TENSORS: rows}, rows), judged({TENSORS: scaled}, scaled)
    assert (plain.status, plain.reason) == (large.status, large.reason)
    assert [factor * f.total for f in plain.findings] == [
        f.total for f in large.findings
    ]


@given(series, st.integers(0, 3))
def test_a_larger_allowance_never_adds_a_leak(rows: list[int], allowance: int) -> None:
    plans = [
        Plan(iterations=split(rows)[0], tensors=a) for a in (allowance, allowance + 1)
    ]
    small, large = (judged({TENSORS: rows}, rows, plan).status for plan in plans)
    assert not (large is Status.LEAK and small is Status.CLEAN)


@given(st.sampled_from(RISING), seeds, st.floats(0, 50))
def test_more_growth_never_turns_a_leak_clean(
    shape: Family, seed: int, growth: float
) -> None:
    """As a run decides it: with the confirmation that the readings ask for."""
    plan, rng = Plan(iterations=50), Random(seed)
    signal = rng.choice([TENSORS, HEAP, BLOCKS, RSS])
    rows = readings_of(shape, signal, rng, plan)
    step = growth * SCALES[signal]
    more = [reading + round(step * at) for at, reading in enumerate(rows)]
    before, after = (look_twice({signal: one}, plan).status for one in (rows, more))
    assert not (before is Status.LEAK and after is Status.CLEAN)


@given(st.sampled_from(SHAPES), seeds, st.integers(1, 12))
def test_twice_the_bytes_with_twice_the_allowance_are_judged_alike(
    shape: Family, seed: int, doublings: int
) -> None:
    plan, factor = Plan(iterations=50), 2**doublings
    allowance = factor * plan.host_per_iteration
    large = Plan(iterations=50, host_per_iteration=allowance)
    rows = readings_of(shape, HEAP, Random(seed), plan)
    plain = look_twice({HEAP: rows}, plan)
    scaled = look_twice({HEAP: [factor * reading for reading in rows]}, large)
    assert (plain.status, plain.reason) == (scaled.status, scaled.reason)


names = st.sampled_from([TENSORS, HEAP, RSS, SESSIONS, CONTEXT, THIRD_PARTY])
readings = st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=40)
rates = st.dictionaries(
    st.sampled_from(["host.heap", "tf.tensors"]), st.floats(-9, 9e9)
)
left = st.dictionaries(st.sampled_from(["tf.sessions", "x"]), st.integers(0, 2**40))
limits = st.none() | st.builds(
    Stopped,
    limit=st.sampled_from(["memory_limit", "the machine"]),
    signals=st.just(("host.heap",)),
    per_iteration=st.floats(0, 1e15),
    is_huge=st.booleans(),
)


@given(
    st.dictionaries(names, readings, max_size=4),
    st.tuples(*[st.integers(0, 40)] * 3),
    st.tuples(rates, left, left, limits, st.booleans()),
    st.sets(st.sampled_from(["host.heap", "tf.tensors"])),
    st.none() | st.text(),
)
def test_no_trace_is_too_odd_to_be_judged(
    columns: dict[Signal, list[int | None]],
    parts: tuple[int, int, int],
    found: tuple[Any, ...],
    untrusted: set[str],
    unconfirmed: str | None,
) -> None:
    warmup, measured, confirmed = parts
    trace = trace_of(columns, warmup=warmup, measured=measured, confirmed=confirmed)
    trace.kept, trace.released, trace.left, trace.stopped, trace.judges_warmup = found
    trace.untrusted, trace.unconfirmed = untrusted, unconfirmed
    plan = Plan(iterations=max(1, measured), warmup=warmup)
    assert is_suspicious(trace, plan) in (True, False)
    assert iterations_wanted(trace, plan) >= 0
    verdict = verdict_of(trace, plan)
    assert Verdict.from_dict(verdict.to_dict()) == verdict


@given(series, st.permutations([TENSORS, HEAP, SESSIONS, THIRD_PARTY]))
def test_the_order_of_signals_does_not_matter(
    rows: list[int], order: list[Signal]
) -> None:
    columns: Columns = {
        TENSORS: rows,
        HEAP: rows[::-1],
        SESSIONS: rows,
        THIRD_PARTY: rows,
    }
    plain = judged(columns, rows)
    shuffled = judged({signal: columns[signal] for signal in order}, rows)
    assert plain.status is shuffled.status
    assert set(plain.findings) == set(shuffled.findings)


@given(series)
def test_a_signal_that_never_decides_changes_nothing(rows: list[int]) -> None:
    alone = judged({TENSORS: rows}, rows)
    with_context = judged({TENSORS: rows, CONTEXT: rows[::-1]}, rows)
    assert outcome(alone) == outcome(with_context)
