"""What is true of the judge for any readings."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.plan import Plan
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.quality.simulate import HEAP
from tests.quality.simulate import RSS
from tests.quality.simulate import TENSORS
from tests.quality.simulate import trace_of
from tests.quality.simulate import verdict_of

SESSIONS = make_signal("tf.sessions")
THIRD_PARTY = Signal(name="mylib.handles", unit="handles", allowance=2)
CONTEXT = make_signal("host.uss")
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
