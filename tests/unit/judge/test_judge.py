"""How growth is judged: allowances, confirmation, and signals that were not read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence

import pytest

from pytest_tfleak.judge import allowance_of
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
OBJECTS = make_signal("python.objects")
THIRD_PARTY = Signal(name="mylib.handles", unit="handles", allowance=2)
CONTEXT = make_signal("host.uss")

PLAN = Plan(iterations=20)
LEAK = list(range(40))
LEVEL = [7] * 40
Columns = Mapping[Signal, Sequence[int | None]]


def verdict_on(
    readings: Sequence[int | None], signal: Signal = TENSORS, plan: Plan = PLAN
) -> Verdict:
    return verdict_of(trace_of({signal: readings}), plan)


def grow(*changes: int, rows: int = 40) -> list[int]:
    """Return readings that grow by these changes, in turn."""
    readings = [0]
    for row in range(rows - 1):
        readings.append(readings[-1] + changes[row % len(changes)])
    return readings


# What a verdict says


def test_a_finding_says_what_how_fast_how_much_and_when() -> None:
    (finding,) = verdict_on([5] * 12 + [5 + 3 * row for row in range(28)]).findings
    assert finding == Finding(
        signal="tf.tensors",
        unit="tensors",
        per_iteration=3,
        total=81,
        allowance=0,
        first=14,  # the first that is higher than the one before
        last=40,
        allow="tensors",
    )


def test_a_verdict_has_the_number_of_iterations_and_seconds() -> None:
    trace = trace_of({TENSORS: [0] * 45}, warmup=5)
    trace.seconds, trace.body_seconds = 2.0, 1.5
    verdict = verdict_of(trace, PLAN, "test_a.py::test")
    assert verdict.nodeid == "test_a.py::test"
    assert (verdict.warmup, verdict.iterations, verdict.confirmation) == (5, 40, 20)
    assert (verdict.seconds, verdict.body_seconds) == (2.0, 1.5)


# The allowance


@pytest.mark.parametrize(
    ("signal", "rate", "taken_away", "status"),
    [
        (HEAP, 10_000, 0, Status.LEAK),
        (HEAP, 10_000, 1_000_000, Status.CLEAN),  # 6 KiB and 5,000 bytes are allowed
        (HEAP, 12_000, 1_000_000, Status.LEAK),
        (TENSORS, 1, 1_000_000, Status.LEAK),  # a count is exact
    ],
)
def test_a_size_may_grow_by_a_share_of_known_growth_that_was_taken_away(
    signal: Signal, rate: int, taken_away: float, status: Status
) -> None:
    trace = trace_of({signal: [rate * row for row in range(40)]})
    trace.taken_away = {signal.name: taken_away}
    assert verdict_of(trace, PLAN).status is status


@pytest.mark.parametrize(
    ("signal", "readings", "allowing", "forbidding"),
    [
        (TENSORS, grow(2), Plan(tensors=2), Plan(tensors=1.9)),
        (TENSORS, grow(0, 1), Plan(tensors=0.5), Plan(tensors=0.49)),
        (HEAP, grow(1000), Plan(host_per_iteration=1000), Plan(host_per_iteration=999)),
        (
            HEAP,
            grow(0, 0, 3000),
            Plan(host_per_iteration=1000),
            Plan(host_per_iteration=999),
        ),
    ],
)
def test_an_allowance_is_exact_if_growth_is_exact(
    signal: Signal, readings: list[int], allowing: Plan, forbidding: Plan
) -> None:
    assert verdict_on(readings, signal, allowing).status is Status.CLEAN
    assert verdict_on(readings, signal, forbidding).status is Status.LEAK


def test_noise_does_not_hide_a_leak_as_large_as_the_allowance() -> None:
    jitter = (0, 900, 400, 1300, 200, 700, 1100)
    readings = [row * 998 + jitter[row * row % 7 + row % 3 - 2] for row in range(40)]
    assert (
        verdict_on(readings, HEAP, Plan(host_per_iteration=1000)).status is Status.LEAK
    )
    assert (
        verdict_on(readings, HEAP, Plan(host_per_iteration=1300)).status is Status.CLEAN
    )


def test_an_allowance_may_be_a_number_of_the_signal() -> None:
    assert verdict_on(grow(2), THIRD_PARTY).status is Status.CLEAN
    (finding,) = verdict_on(grow(3), THIRD_PARTY).findings
    assert (finding.allowance, finding.allow) == (2, "")


@pytest.mark.parametrize(
    ("signal", "plan", "allowance"),
    [
        (TENSORS, Plan(tensors=3), 3),
        (THIRD_PARTY, Plan(), 2),
        (CONTEXT, Plan(), None),
        (OBJECTS, Plan(), None),
        (OBJECTS, Plan(objects=4), 4),
    ],
)
def test_an_allowance_comes_from_the_plan_or_from_the_signal(
    signal: Signal, plan: Plan, allowance: float | None
) -> None:
    assert allowance_of(signal, trace_of({signal: LEVEL}), plan) == allowance


def test_a_signal_without_an_allowance_is_shown_and_never_decides() -> None:
    verdict = verdict_of(trace_of({CONTEXT: grow(10**6), TENSORS: LEVEL}), PLAN)
    assert verdict.status is Status.CLEAN
    report = verdict.signal("host.uss")
    assert (report.decides, report.allowance, report.per_iteration) == (
        False,
        None,
        1e6,
    )


# Growth in total


def test_growth_in_total_is_judged_over_the_planned_iterations() -> None:
    # 100,000 bytes in the 20 planned iterations, and more in the confirmation
    readings = [0] * 10 + [100_000] * 10 + [900_000] * 20
    plan = dataclasses.replace(PLAN, host_total=100_000)
    assert verdict_on(readings, HEAP, plan).status is Status.CLEAN
    (finding,) = verdict_on(
        readings, HEAP, dataclasses.replace(plan, host_total=99_999)
    ).findings
    assert (finding.total, finding.allowance) == (100_000, 99_999)
    assert (finding.first, finding.last, finding.allow) == (1, 20, "host_total")


def test_a_total_needs_no_confirmation() -> None:
    plan = dataclasses.replace(PLAN, host_total=10)
    trace = trace_of({HEAP: [0] * 10 + [11] * 10}, confirmed=0)
    assert verdict_of(trace, plan).status is Status.LEAK


# What is left after the run


def test_an_object_that_is_still_there_is_a_leak_without_any_growth() -> None:
    trace = trace_of({SESSIONS: [1] * 20}, confirmed=0)
    assert verdict_of(trace, PLAN).status is Status.CLEAN
    trace.left["tf.sessions"] = 1
    (finding,) = verdict_of(trace, PLAN).findings
    assert (finding.per_iteration, finding.total, finding.allow) == (
        None,
        1,
        "sessions",
    )
    assert verdict_of(trace, Plan(iterations=20, sessions=1)).status is Status.CLEAN


def test_objects_that_pile_up_and_are_still_there_are_one_finding() -> None:
    trace = trace_of({SESSIONS: LEAK})
    trace.left["tf.sessions"] = 40
    (finding,) = verdict_of(trace, PLAN).findings
    assert (finding.per_iteration, finding.total) == (1, 39)


def test_an_allowance_of_what_may_be_left_counts_objects_not_a_rate() -> None:
    trace = trace_of({SESSIONS: LEAK})
    trace.left["tf.sessions"] = 40
    assert verdict_of(trace, Plan(iterations=20, sessions=39)).status is Status.LEAK
    assert verdict_of(trace, Plan(iterations=20, sessions=40)).status is Status.CLEAN


# Confirmation


def test_growth_is_suspicious_and_a_leak_only_when_confirmed() -> None:
    trace = trace_of({TENSORS: LEAK}, confirmed=0)
    assert is_suspicious(trace, PLAN)
    verdict = verdict_of(trace, PLAN)
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    assert verdict.detail == "tf.tensors grows, but max_time left no time to confirm it"


@pytest.mark.parametrize(
    ("confirmed", "status"), [(5, Status.INCONCLUSIVE), (6, Status.LEAK)]
)
def test_a_confirmation_cut_short_must_hold_three_tenths(
    confirmed: int, status: Status
) -> None:
    assert (
        verdict_of(trace_of({TENSORS: LEAK}, confirmed=confirmed), PLAN).status
        is status
    )


# Too few readings


@pytest.mark.parametrize(
    ("planned", "measured", "reason"),
    [
        (4, 4, Reason.TOO_FEW_ITERATIONS),
        (20, 4, Reason.OUT_OF_TIME),
        (20, 9, Reason.OUT_OF_TIME),
    ],
)
def test_few_iterations_prove_nothing(
    planned: int, measured: int, reason: Reason
) -> None:
    trace = trace_of({TENSORS: LEVEL}, measured=measured, confirmed=0)
    verdict = verdict_of(trace, Plan(iterations=planned))
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, reason)
    assert str(measured) in (verdict.detail or "")


@pytest.mark.parametrize(("planned", "measured"), [(5, 5), (20, 10)])
def test_a_level_series_is_clean_after_five_planned_iterations_or_ten_of_more(
    planned: int, measured: int
) -> None:
    trace = trace_of({TENSORS: LEVEL}, measured=measured, confirmed=0)
    assert verdict_of(trace, Plan(iterations=planned)).status is Status.CLEAN


@pytest.mark.parametrize(
    "columns",
    [{}, {TENSORS: [None] * 40}, {CONTEXT: LEVEL}],
    ids=["none", "read", "uss"],
)
def test_without_a_signal_that_decides_nothing_was_measured(columns: Columns) -> None:
    verdict = verdict_of(trace_of(columns), PLAN)
    assert (verdict.status, verdict.reason) == (Status.NOT_MEASURED, Reason.NO_SIGNAL)


def test_a_signal_that_was_not_read_says_why_and_is_not_0() -> None:
    trace = trace_of({HEAP: [None] * 40, TENSORS: LEVEL})
    assert verdict_of(trace, PLAN).signal("host.heap").reason == "not read"
    trace.reasons["host.heap"] = "no glibc"
    report = verdict_of(trace, PLAN).signal("host.heap")
    assert (report.status, report.reason) == ("unavailable", "no glibc")
    assert (report.per_iteration, report.total, report.decides) == (None, None, False)


def test_readings_that_are_not_trusted_are_shown_and_do_not_decide() -> None:
    trace = trace_of({HEAP: grow(10**6), TENSORS: LEVEL})
    assert verdict_of(trace, PLAN).status is Status.LEAK
    trace.untrusted.add("host.heap")
    trace.reasons["host.heap"] = "another thread allocates"
    verdict = verdict_of(trace, PLAN)
    report = verdict.signal("host.heap")
    assert verdict.status is Status.CLEAN
    assert (report.status, report.reason) == ("untrusted", "another thread allocates")
    assert (report.decides, report.total) == (False, 39 * 10**6)


@pytest.mark.parametrize("gap", [3, 7])
def test_a_leak_is_found_across_missing_readings(gap: int) -> None:
    holes = [None if row % gap == 1 else row for row in LEAK]
    (finding,) = verdict_on(holes).findings
    assert finding.per_iteration == 1


def test_a_signal_with_four_readings_does_not_decide() -> None:
    assert verdict_on([0, 1, 2, 3] + [None] * 36).status is Status.CLEAN
    assert verdict_on([0, 1, 2, 3, 4, 5, 6, 7] + [None] * 32).status is Status.LEAK


# One signal instead of another


def test_rss_decides_only_if_there_is_no_heap_figure() -> None:
    leaking = grow(100_000)
    with_heap = trace_of({HEAP: LEVEL, RSS: leaking})
    assert verdict_of(with_heap, PLAN).status is Status.CLEAN
    assert not verdict_of(with_heap, PLAN).signal("host.rss").decides
    for trace in (
        trace_of({HEAP: [None] * 40, RSS: leaking}),
        trace_of({RSS: leaking}),
    ):
        (finding,) = verdict_of(trace, PLAN).findings
        assert finding.signal == "host.rss"
    with_heap.untrusted.add("host.heap")
    assert verdict_of(with_heap, PLAN).status is Status.LEAK


def test_each_signal_has_its_own_finding() -> None:
    verdict = verdict_of(
        trace_of({HEAP: grow(9000), TENSORS: LEAK, SESSIONS: LEVEL}), PLAN
    )
    assert [finding.signal for finding in verdict.findings] == [
        "tf.tensors",
        "host.heap",
    ]


@pytest.mark.parametrize(
    ("kept", "status"),
    [
        ({}, Status.LEAK),
        ({TENSORS.name: 1.0}, Status.LEAK),
        ({TENSORS.name: 0.3}, Status.LEAK),
        ({TENSORS.name: 0.1}, Status.CLEAN),
        ({TENSORS.name: -1.0}, Status.CLEAN),
    ],
)
def test_what_a_full_collection_frees_is_no_leak(
    kept: dict[str, float], status: Status
) -> None:
    trace = trace_of({TENSORS: LEAK})
    trace.kept.update(kept)
    assert verdict_of(trace, PLAN).status is status


def test_what_is_kept_must_exceed_the_allowance() -> None:
    trace = trace_of({HEAP: [8_000 * row for row in range(40)]})
    trace.kept[HEAP.name] = 4_000.0
    assert verdict_of(trace, PLAN).status is Status.CLEAN


def test_what_is_collected_before_the_confirmation_hides_no_leak() -> None:
    readings = [1_000_000 + 10_000 * row for row in range(40)]
    trace = trace_of({HEAP: readings[:20] + [r - 300_000 for r in readings[20:]]})
    assert verdict_of(trace, PLAN).status is not Status.LEAK

    trace.collected[20] = {HEAP.name: 300_000}

    (finding,) = verdict_of(trace, PLAN).findings
    assert finding.per_iteration == pytest.approx(10_000)


def test_memory_that_the_pause_took_is_not_subtracted_from_rss() -> None:
    readings = [10_000_000 + 1_000_000 * row for row in range(40)]
    trace = trace_of({RSS: readings})
    trace.collected[20] = {RSS.name: -12_000_000}

    (finding,) = verdict_of(trace, PLAN).findings
    assert finding.per_iteration == pytest.approx(1_000_000)


# Signals that count the same memory

BYTES_OF_TENSORS = make_signal("host.tensors")
KEPT = [20_000 * row for row in range(40)]
STILL = [0] * 40


def signals_found(columns: Columns) -> set[str]:
    verdict = verdict_of(trace_of(columns), PLAN)
    return {finding.signal for finding in verdict.findings}


def test_bytes_of_tensors_are_a_finding_if_no_other_figure_shows_them() -> None:
    assert signals_found({BYTES_OF_TENSORS: KEPT, HEAP: STILL}) == {"host.tensors"}


def test_bytes_of_tensors_are_no_second_finding_beside_the_heap() -> None:
    assert signals_found({BYTES_OF_TENSORS: KEPT, HEAP: KEPT}) == {"host.heap"}


def test_what_another_device_shows_is_another_finding() -> None:
    card = make_signal("gpu.tensors", "GPU:1")
    other = make_signal("gpu.allocator", "GPU:0")
    assert signals_found({card: KEPT, other: KEPT}) == {card.name, other.name}
    same = make_signal("gpu.allocator", "GPU:1")
    assert signals_found({card: KEPT, same: KEPT}) == {same.name}


THREADS = make_signal("process.threads")


@pytest.mark.parametrize(
    ("leak", "each", "every", "status"),
    [
        (20_000, 100_000, 2, "inconclusive"),
        (0, 100_000, 2, "clean"),
        (1_000, 100_000, 2, "clean"),  # within the allowance
        (20_000, 100_000, 1, "inconclusive"),  # each iteration has one
        (0, 1_000, 1, "clean"),
    ],
)
def test_what_ending_threads_free_may_hide_a_leak(
    leak: int, each: int, every: int, status: str
) -> None:
    ended = [row // every for row in range(40)]
    heap = [leak * row - each * ended[row] for row in range(40)]
    columns = {HEAP: heap, THREADS: [90 - over for over in ended]}
    verdict = verdict_of(trace_of(columns), PLAN)
    assert verdict.status.value == status
    if status == "inconclusive":
        assert verdict.reason is Reason.UNSTEADY
        assert "host.heap falls by" in str(verdict.detail)


def test_threads_that_the_body_starts_and_ends_hide_nothing() -> None:
    heap = [row % 5 * 20_000 for row in range(40)]
    threads = [3 + (row % 5 > 0) for row in range(40)]
    verdict = verdict_of(trace_of({HEAP: heap, THREADS: threads}), PLAN)
    assert verdict.status is Status.CLEAN


BLOCKS = make_signal("python.blocks")


@pytest.mark.parametrize(
    ("idle", "status"),
    [(0, "leak"), (700, "leak"), (4_900, "leak"), (5_000, "inconclusive")],
)
def test_growth_counts_if_other_threads_move_far_less(idle: int, status: str) -> None:
    rows = [200 * row for row in range(100)]
    trace = trace_of({BLOCKS: rows}, measured=50, confirmed=50)
    trace.idle = {"python.blocks": idle}
    assert verdict_of(trace, Plan()).status.value == status


@pytest.mark.parametrize("idle", [1_600, 1_601])
def test_what_other_threads_move_may_hide_a_leak(idle: int) -> None:
    trace = trace_of({BLOCKS: [7] * 100}, measured=50, confirmed=50)
    trace.idle = {"python.blocks": idle}
    verdict = verdict_of(trace, Plan())
    if idle == 1_600:  # a quarter of the allowance
        assert verdict.status is Status.CLEAN
        return
    assert verdict.reason is Reason.UNSTEADY
    assert verdict.detail == (
        "python.blocks moves by 1,601 while the body does not run: other threads "
        "allocate"
    )
