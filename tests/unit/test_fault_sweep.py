"""Which calls fail, and which of them leave something."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tfleak.decide import Ended
from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import decide
from pytest_tfleak.diagnosis.diagnose import NO_TIME
from pytest_tfleak.fault_sweep import Body
from pytest_tfleak.fault_sweep import FaultSweep
from pytest_tfleak.fault_sweep import Stage
from pytest_tfleak.fault_sweep import SweptBody
from pytest_tfleak.fault_sweep import find_suspects
from pytest_tfleak.fault_sweep import joined
from pytest_tfleak.fault_sweep import spread
from pytest_tfleak.fault_sweep import with_doubts
from pytest_tfleak.judge import Doubt
from pytest_tfleak.judge import Judgement
from pytest_tfleak.plan import Plan
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.failing_passes import FailingPasses
from pytest_tfleak.run.faults import Call
from pytest_tfleak.run.faults import Faults
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.isolation import Leftover
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import make_finding


@pytest.mark.parametrize(
    ("calls", "most", "failing"),
    [
        (3, 50, [1, 2, 3]),
        (3, 3, [1, 2, 3]),
        (9, 3, [1, 5, 9]),
        (100, 1, [1]),
    ],
)
def test_the_calls_are_spread_evenly(calls: int, most: int, failing: list[int]) -> None:
    assert spread(calls, most) == failing


def test_each_call_is_tried_only_once_where_there_are_too_many() -> None:
    numbers = spread(173, 50)
    assert len(set(numbers)) == 50
    assert numbers[0] == 1
    assert numbers[-1] == 173


def trace_of_counts(name: str, counts: Sequence[int], warmup: int = 1) -> Trace:
    """Return a trace whose first readings are those of a warm-up."""
    signal = Signal(name=name, unit="x", allowance=0)
    trace = Trace([signal], warmup=warmup, capacity=50)
    for row, count in enumerate(counts):
        trace.buffer[row] = count
    trace.warmed_up, trace.measured = warmup, len(counts) - warmup
    return trace


def test_a_call_after_which_a_count_is_higher_is_a_suspect() -> None:
    trace = trace_of_counts("tf.sessions", [0, 0, 1, 1, 1, 2, 2])
    assert find_suspects(trace, [1, 2, 3, 1, 2, 3]) == {2: frozenset({"tf.sessions"})}


def test_without_a_warm_up_each_rise_belongs_to_its_own_pass() -> None:
    trace = trace_of_counts("tf.sessions", [0, 0, 1, 1, 1, 2], warmup=0)
    assert find_suspects(trace, [1, 2, 3, 1, 2, 3]) == {3: frozenset({"tf.sessions"})}


def test_a_count_that_rose_once_of_three_times_is_no_suspect() -> None:
    trace = trace_of_counts("tf.tensors", [0, 1, 1, 1])
    assert find_suspects(trace, [1, 1, 1]) == {}


def test_memory_is_no_suspect() -> None:
    trace = trace_of_counts("host.heap", [0, 1, 2, 3])
    assert find_suspects(trace, [1, 2, 3]) == {}


class FaultyCalls(Faults):
    """Counts and records calls of ``call`` instead of TensorFlow's."""

    def call(self) -> None:
        self._count += 1
        call = Call(self._count, "MatMul", [])
        if self._records is not None:
            self._records.append(call)
        elif self._count == self._target:
            self.failed, self.raised = call, RuntimeError("made to fail")
            raise self.raised


class Sweep:
    """Sweeps over a body; a fake measurement calls it and reads ``kept``.

    The clean passes, the sweep and each group of suspects end after as many iterations
    as ``cut`` says, with the ``grounds`` of each.
    """

    def __init__(
        self, body: Callable[[Sweep], object], plan: Plan, **grounds: dict[str, Any]
    ) -> None:
        self.faults = FaultyCalls("ResourceExhaustedError")
        self.kept: list[object] = []
        self.plans: list[Plan] = []
        self.cut: dict[int, int] = {}
        #: The calls that leave a tape if they fail.
        self.left_by: set[int] = set()
        self.max_time = 300.0
        self._body, self._plan, self._grounds = body, plan, grounds

    def run(self) -> Verdict:
        def call() -> None:
            with self.faults:
                self._body(self)

        body = SweptBody(call=call, endings=Endings(), faults=self.faults)
        self.deadline = Deadline(perf_counter() + self.max_time, "max_time")
        sweep = FaultSweep(body, self._plan, self.measure, self.deadline)
        return decide(sweep.run())

    def measure(self, body: Body, plan: Plan, stage: Stage) -> Grounds:
        part = len(self.plans)
        self.plans.append(plan)
        iterations = self.cut.get(part, plan.iterations)
        counts = []
        for row in range(plan.warmup + iterations):
            if row == plan.warmup:
                stage.begin(loop := SimpleNamespace(is_quick=False))  # type: ignore[arg-type]
                assert not loop.is_quick
            body()
            counts.append(len(self.kept))
        if isinstance(body, FailingPasses) and self.left_by:
            body.aftermath.left["tapes", None] = (TAPE, self.left_by)
        trace = trace_of_counts("tf.sessions", counts, plan.warmup)
        if iterations:
            stage.is_enough(SimpleNamespace(trace=trace))  # type: ignore[arg-type]
        fields = self._grounds.get(("clean", "sweep", "group")[min(part, 2)], {})
        return Grounds(nodeid="test_x", plan=plan, **fields)


QUICK = Plan(iterations=6, warmup=1)
TAPE = Leftover(kind="tapes", count=1, text="1 tape was never left", leak=True)


def three_calls(sweep: Sweep) -> None:
    for _ in range(3):
        sweep.faults.call()


def leaks_at_the_second(sweep: Sweep) -> None:
    sweep.faults.call()
    try:
        sweep.faults.call()
    except RuntimeError:
        sweep.kept.append(object())


def test_a_sweep_that_finds_nothing_is_clean() -> None:
    sweep = Sweep(three_calls, QUICK)
    verdict = sweep.run()
    assert verdict.status is Status.CLEAN
    assert verdict.faults is not None
    assert verdict.faults.failed == 3
    assert "all 3 were tried" in verdict.notes[0]


def test_the_clean_passes_have_the_depth_that_was_asked_for() -> None:
    """So "only when a call fails" stands on as many iterations as ever."""
    sweep = Sweep(three_calls, QUICK)
    sweep.run()
    clean = sweep.plans[0]
    assert (clean.depth, clean.iterations) == ("full", QUICK.iterations)


def test_there_is_a_warm_up_even_if_none_was_asked_for() -> None:
    sweep = Sweep(leaks_at_the_second, replace(QUICK, warmup=0))
    sweep.run()
    assert [plan.warmup for plan in sweep.plans] == [0, 1, 1, 1]


def test_calls_that_a_body_no_longer_makes_are_not_clean() -> None:
    broken: list[int] = []

    def gives_up(sweep: Sweep) -> None:
        try:
            if not broken:
                three_calls(sweep)
        except RuntimeError:
            broken.append(1)

    verdict = Sweep(gives_up, QUICK).run()
    assert outcome(verdict) == (Status.INCONCLUSIVE, Reason.NOT_REPEATABLE)
    assert "made fewer calls; 3 of 3 calls were not reached" in str(verdict.detail)


def test_calls_for_which_no_time_was_left() -> None:
    sweep = Sweep(three_calls, QUICK)
    sweep.cut = {1: 2}
    verdict = sweep.run()
    assert outcome(verdict) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    assert verdict.detail == "max_time left no time to make 1 of 3 calls fail"
    assert verdict.faults is not None
    assert verdict.faults.failed == 2
    assert "2 of the 3 TensorFlow calls" in verdict.notes[0]


def test_no_call_for_which_time_was_left() -> None:
    sweep = Sweep(three_calls, QUICK)
    sweep.cut = {1: 0}
    verdict = sweep.run()
    assert outcome(verdict) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    assert verdict.faults is None


def test_the_parts_share_the_time() -> None:
    sweep = Sweep(leaks_at_the_second, QUICK)
    sweep.max_time = 100.0
    sweep.run()
    limits = [plan.max_time or inf for plan in sweep.plans]
    assert limits == sorted(set(limits), reverse=True)
    assert limits[0] <= 100
    assert len(limits) == 4


def test_suspects_for_which_no_time_was_left() -> None:
    sweep = Sweep(leaks_at_the_second, QUICK)
    sweep.max_time = 0.0
    verdict = sweep.run()
    assert len(sweep.plans) == 2
    assert outcome(verdict) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    assert "max_time left no time to confirm it" in str(verdict.detail)


def test_a_scope_that_is_left_is_a_leak_whatever_a_library_keeps() -> None:
    kept = make_finding("tf.tensors", path=at("native"))
    sweep = Sweep(
        leaks_at_the_second,
        QUICK,
        sweep={"findings": (make_finding("tf.tapes", per_iteration=None),)},
        group={"findings": (kept,)},
    )
    sweep.left_by = {1, 2}
    verdict = sweep.run()
    assert verdict.status is Status.LEAK
    (finding,) = verdict.failing
    assert finding.failing is not None
    assert (finding.signal, finding.failing.count) == ("tf.tapes", 2)


def failing_at(*numbers: int) -> FailingCalls:
    first, last = (
        FailedCall(number=number, operation="MatMul", origin=None)
        for number in (numbers[0], numbers[-1])
    )
    return FailingCalls(count=len(numbers), total=9, first=first, last=last)


LINE, OTHER_LINE = (
    Origin(file="app.py", line=line, function="run", text="") for line in (3, 4)
)


@pytest.mark.parametrize(
    ("held_by", "lines", "counts"),
    [
        ("2:app.KEPT", (LINE, LINE), [3]),
        ("2:app.KEPT", (LINE, None), [3]),
        ("2:app.KEPT", (None, LINE), [3]),
        ("2:app.KEPT", (LINE, OTHER_LINE), [1, 2]),
        (None, (LINE, LINE), [3]),
        (None, (LINE, None), [1, 2]),
    ],
)
def test_findings_that_differ_in_the_calls_alone_are_one(
    held_by: str | None, lines: tuple[Origin | None, Origin | None], counts: list[int]
) -> None:
    groups = [
        Grounds(
            nodeid="test_x",
            plan=QUICK,
            findings=(
                make_finding(
                    "tf.sessions",
                    fingerprint=held_by,
                    origin=line,
                    failing=failing_at(*numbers),
                ),
            ),
        )
        for line, numbers in zip(lines, ([7], [2, 3]), strict=True)
    ]
    found = joined(Grounds(nodeid="test_x", plan=QUICK), groups).findings
    assert [f.failing.count for f in found if f.failing] == counts
    if len(found) == 1 and found[0].failing:
        assert found[0].origin == LINE
        assert (found[0].failing.first.number, found[0].failing.last.number) == (2, 7)


def test_a_group_that_proves_nothing_keeps_the_sweep_from_being_clean() -> None:
    doubt = Doubt(reason=Reason.UNSTEADY, detail="now and then")
    group = {"judged": Judgement(doubts=(doubt,)), "rejudged": None}
    verdict = Sweep(leaks_at_the_second, QUICK, group=group).run()
    assert outcome(verdict) == (Status.INCONCLUSIVE, Reason.UNSTEADY)


@pytest.mark.parametrize("reason", [Reason.NOT_REPEATABLE, Reason.OUT_OF_TIME])
def test_a_doubt_stays_if_known_growth_was_taken_away(reason: Reason) -> None:
    grounds = Grounds(nodeid="test_x", plan=QUICK, rejudged=Judgement())
    verdict = decide(with_doubts(grounds, [Doubt(reason=reason, detail="why")]))
    assert outcome(verdict) == (Status.INCONCLUSIVE, reason)


def test_a_doubt_changes_no_leak() -> None:
    grounds = Grounds(nodeid="test_x", plan=QUICK, findings=(make_finding(),))
    assert with_doubts(grounds, [Doubt(reason=Reason.FADING, detail="")]) is grounds


def of_group(finding: Finding, plan: Plan = QUICK, notes: tuple[str, ...] = ()) -> Any:
    """Return the outcome of a sweep in which a group of suspects has one finding."""
    group = {"findings": (finding,), "notes": notes}
    return outcome(Sweep(leaks_at_the_second, plan, group=group).run())


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("tf.sessions", (Status.LEAK, None)),
        ("tf.tapes", (Status.LEAK, None)),
        ("process.threads", (Status.LEAK, None)),
        ("tf.tensors", (Status.INCONCLUSIVE, Reason.UNEXPLAINED)),
        ("host.heap", (Status.INCONCLUSIVE, Reason.UNEXPLAINED)),
    ],
)
def test_without_a_diagnosis_only_what_user_code_opens_fails(
    signal: str, expected: tuple[Status, Reason | None]
) -> None:
    plan = replace(QUICK, diagnose="off")
    assert of_group(make_finding(signal, path=None), plan) == expected


def at(kind: str) -> RetainingPath:
    return RetainingPath(root=Root(kind=kind))


@pytest.mark.parametrize(
    ("path", "notes", "expected"),
    [
        (at("module"), (), (Status.LEAK, None)),
        (at("native"), (), (Status.CLEAN, None)),
        (at("context"), (), (Status.CLEAN, None)),
        (at("unsought"), (), (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)),
        (None, (NO_TIME,), (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)),
        (None, (), (Status.INCONCLUSIVE, Reason.UNEXPLAINED)),
    ],
)
def test_what_a_library_keeps_does_not_fail(
    path: RetainingPath | None, notes: tuple[str, ...], expected: tuple[Any, Any]
) -> None:
    assert of_group(make_finding("tf.tensors", path=path), notes=notes) == expected


@pytest.mark.parametrize(
    ("per_iteration", "path", "expected"),
    [
        (1.0, at("native"), Status.LEAK),
        (None, at("module"), Status.LEAK),
        (None, at("native"), Status.CLEAN),
    ],
)
def test_the_graph_of_the_last_error_counts_if_user_code_holds_it(
    per_iteration: float | None, path: RetainingPath, expected: Status
) -> None:
    finding = make_finding("tf.graphs", per_iteration=per_iteration, path=path)
    assert of_group(finding)[0] is expected


FADING = Doubt(reason=Reason.FADING, detail="")


@pytest.mark.parametrize(
    ("clean", "words"),
    [
        ({"findings": (make_finding(),)}, "the test already leaks without a fault"),
        (
            {"judged": Judgement(doubts=(FADING,))},
            "it is not certain that nothing leaks without a fault",
        ),
        (
            {"ended": Ended(reason=Reason.BODY_SKIPPED, detail="")},
            "the test could not be measured without a fault",
        ),
    ],
)
def test_why_no_call_was_made_to_fail(clean: dict[str, Any], words: str) -> None:
    verdict = Sweep(three_calls, QUICK, clean=clean).run()
    assert verdict.notes == (f"No call was made to fail, because {words}.",)
    assert verdict.faults is None


def outcome(verdict: Verdict) -> tuple[Status, Reason | None]:
    return verdict.status, verdict.reason
