"""The library door, and the one place that joins loop, judge and diagnosis.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_tfleak.census import Census
from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.kinds import describe
from pytest_tfleak.diagnosis.kinds import describe_left
from pytest_tfleak.isolation import Leftover
from pytest_tfleak.isolation import Surroundings
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import judge
from pytest_tfleak.loop import Loop
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.reach import reachable
from pytest_tfleak.reports.terminal import failure_text
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

ProbeMaker = Callable[[Census], Sequence[Probe]]


class LeakError(AssertionError):
    """Raised by ``assert_no_leaks``; ``verdict`` holds what was found."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(failure_text(verdict))
        self.verdict = verdict


class NestedMeasurementError(RuntimeError):
    """A measurement was started inside the body of another one."""


def find_leaks(body: Callable[[], object], **options: object) -> Verdict:
    """Call ``body`` again and again and return the verdict.

    ``options`` are the marker's keywords. Raises PlanError for an unknown option or a
    value out of range; what the body raises passes through.
    """
    plan = make_plan(**options)
    name = getattr(body, "__qualname__", type(body).__qualname__)
    return Measurement(body, plan, nodeid=str(name), handed=[body]).run()


def assert_no_leaks(body: Callable[[], object], **options: object) -> Verdict:
    """Call ``find_leaks`` and raise LeakError where the verdict is LEAK.

    With ``strict=True`` an INCONCLUSIVE verdict is raised as well.
    """
    verdict = find_leaks(body, **options)
    undecided = verdict.status is not Status.CLEAN and options.get("strict", False)
    if verdict.status is Status.LEAK or undecided:
        raise LeakError(verdict)
    return verdict


class Measurement:
    """One measurement of one body; ``verdict`` is set whatever the body does."""

    _running = False

    def __init__(
        self,
        body: Callable[[], object],
        plan: Plan,
        *,
        nodeid: str,
        probes: ProbeMaker = make_probes,
        handed: Iterable[object] = (),
    ) -> None:
        self._body = body
        self._plan = plan
        self._nodeid = nodeid
        self._make_probes = probes
        self._handed = tuple(handed)
        self._left_types: dict[str, dict[str, int]] = {}
        self._notes: list[str] = []
        self.verdict: Verdict | None = None

    def run(self) -> Verdict:
        """Measure and judge. Raises what the body raises."""
        if Measurement._running:
            raise NestedMeasurementError(
                "this code is being measured already: take either the marker (or "
                "--tfleak) or a check inside the test, not both"
            )
        Measurement._running = True
        surroundings = Surroundings()
        try:
            self.verdict = self._measure()
        finally:
            Measurement._running = False
            leftovers = surroundings.restore()
            self._handed = ()
        self.verdict = _add_leftovers(self.verdict, leftovers, self._plan)
        self.verdict = _demand_gpu(self.verdict, self._plan)
        return self.verdict

    def _measure(self) -> Verdict:
        census = Census(self._plan.ignore)
        probes = self._make_probes(census)
        loop = Loop(self._body, self._plan, probes, census)
        try:
            with loop:
                loop.warm_up()
                loop.measure()
                if is_suspicious(loop.trace, self._plan):
                    loop.confirm()
                if self._plan.clear_session != "never":
                    loop.clear()
                self._take_stock(loop, census, probes)
        except BaseException as error:
            self.verdict = self._interrupted(loop, error)
            raise
        if loop.not_cleared is not None and self._plan.clear_session == "iteration":
            self._notes.append(f"The Keras session was not cleared: {loop.not_cleared}.")
        verdict = judge(loop.trace, self._plan, self._nodeid)
        since_freeze = loop.trace.confirmed or loop.trace.measured
        findings = (
            self._describe(finding, loop.trace.kinds, census, since_freeze)
            for finding in verdict.findings
        )
        return dataclasses.replace(
            verdict, findings=tuple(findings), notes=tuple(self._notes)
        )

    def _take_stock(self, loop: Loop, census: Census, probes: Sequence[Probe]) -> None:
        """Count what the run made and left: what was handed to the body may hold it."""
        self._count_what_is_left(loop.trace, census, probes)
        loop.trace.kinds.update(census.survivors())
        if any(loop.trace.left.values()):
            census.refreeze()  # what looks left may be garbage that was frozen
            self._count_what_is_left(loop.trace, census, probes)
        for probe in probes:
            self._notes.extend(probe.notes())

    def _count_what_is_left(
        self, trace: Trace, census: Census, probes: Sequence[Probe]
    ) -> None:
        census.take()
        for probe in probes:
            for signal, objects in probe.still_there().items():
                held = reachable(self._handed, objects) if objects else set()
                left = [o for o in objects if id(o) not in held]
                trace.left[signal] = len(left)
                names = Counter(full_name(type(o)) for o in left)
                self._left_types[signal] = dict(names)
                del objects, left
        census.release()

    def _interrupted(self, loop: Loop, error: BaseException) -> Verdict:
        reason, words = _why_it_ended(error)
        done = loop.trace.rows + 1
        return dataclasses.replace(
            judge(loop.trace, self._plan, self._nodeid),
            status=Status.NOT_MEASURED,
            reason=reason,
            detail=f"{words} in iteration {done}",
            findings=(),
            notes=tuple(self._notes),
        )

    def _describe(
        self, finding: Finding, survivors: Mapping[str, int], census: Census, n: int
    ) -> Finding:
        if finding.per_iteration is None:
            kind, what = describe_left(self._left_types.get(finding.signal, {}))
        else:
            kind, what = describe(finding, survivors, census.kind_of, n)
        return dataclasses.replace(finding, kind=kind, what=what)


def _why_it_ended(error: BaseException) -> tuple[Reason, str]:
    # by name: this module knows nothing of pytest
    names = {cls.__name__ for cls in type(error).__mro__}
    if "Skipped" in names:
        return Reason.BODY_SKIPPED, "the test was skipped"
    if names & {"KeyboardInterrupt", "Exit", "SystemExit", "GeneratorExit"}:
        return Reason.INTERRUPTED, "the run was interrupted"
    return Reason.BODY_FAILED, f"the test ended with {type(error).__name__}"


_LEFTOVER_ALLOWANCES = {"session_stack": "sessions", "graph_stack": "graphs"}


def _add_leftovers(
    verdict: Verdict, leftovers: Sequence[Leftover], plan: Plan
) -> Verdict:
    """Add what was entered and never left, where no finding shows it already."""
    if verdict.status is Status.NOT_MEASURED:
        return verdict
    found = {finding.signal for finding in verdict.findings}
    added = []
    for leftover in leftovers:
        signal = f"tf.{leftover.kind}"
        allow = _LEFTOVER_ALLOWANCES.get(leftover.kind, "")
        allowance = getattr(plan, allow) if allow else 0
        if not leftover.leak or signal in found or leftover.count <= allowance:
            continue
        added.append(
            Finding(
                signal=signal,
                unit="entries",
                per_iteration=None,
                total=leftover.count,
                allowance=allowance,
                first=1,
                last=verdict.iterations,
                allow=allow,
                what=leftover.text,
            )
        )
    if not added:
        return verdict
    return dataclasses.replace(
        verdict,
        status=Status.LEAK,
        reason=None,
        detail=None,
        findings=(*verdict.findings, *added),
    )


def _demand_gpu(verdict: Verdict, plan: Plan) -> Verdict:
    if not plan.require_gpu or verdict.status is Status.LEAK:
        return verdict
    gpu: list[Any] = [s for s in verdict.signals if s.name.startswith("gpu.allocator")]
    if any(signal.status == "measured" for signal in gpu):
        return verdict
    why = next((s.reason for s in gpu if s.reason), "TensorFlow has found no GPU")
    return dataclasses.replace(
        verdict,
        status=Status.NOT_MEASURED,
        reason=Reason.GPU_NOT_MEASURED,
        detail=f"require_gpu is set, and GPU memory was not measured: {why}",
    )
