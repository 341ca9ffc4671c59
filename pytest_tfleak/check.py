"""The library door, and the one place that joins loop, judge and diagnosis.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from pytest_tfleak.amend import accept_ignored
from pytest_tfleak.amend import add_leftovers
from pytest_tfleak.amend import demand_gpu
from pytest_tfleak.births import Births
from pytest_tfleak.census import Census
from pytest_tfleak.confirming import confirm
from pytest_tfleak.diagnosis.closing import after_close
from pytest_tfleak.diagnosis.containers import Containers
from pytest_tfleak.diagnosis.experiments import SHARE
from pytest_tfleak.diagnosis.experiments import Explanation
from pytest_tfleak.diagnosis.experiments import Search
from pytest_tfleak.diagnosis.experiments import run_without
from pytest_tfleak.diagnosis.inquiry import Inquiry
from pytest_tfleak.diagnosis.inquiry import Insights
from pytest_tfleak.diagnosis.kinds import describe
from pytest_tfleak.diagnosis.kinds import describe_left
from pytest_tfleak.diagnosis.telling import tell
from pytest_tfleak.ending import cut_short
from pytest_tfleak.ending import is_interrupt
from pytest_tfleak.ending import why_it_ended
from pytest_tfleak.isolation import Surroundings
from pytest_tfleak.judge import judge
from pytest_tfleak.known import Known
from pytest_tfleak.loop import Loop
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.progress import LiveTerminal
from pytest_tfleak.progress import show_progress
from pytest_tfleak.reports.terminal import failure_text
from pytest_tfleak.sharing import SecondLook
from pytest_tfleak.sharing import share_out
from pytest_tfleak.stock import Stock
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

#: Signals that count objects which account for the memory that grows beside them.
OBJECTS = frozenset(
    {
        *("tf.tensors", "tf.variables", "tf.sessions", "tf.graphs", "tf.functions"),
        *("tf.iterators", "tf.datasets", "keras.layers"),
    }
)
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
    name = str(getattr(body, "__qualname__", type(body).__qualname__))
    return Measurement(body, plan, nodeid=name, handed={"the body": body}).run()


def assert_no_leaks(body: Callable[[], object], **options: object) -> Verdict:
    """Call ``find_leaks`` and raise LeakError where the verdict is LEAK.

    So is what could not be measured; with ``strict=True``, so is INCONCLUSIVE.
    """
    verdict = find_leaks(body, **options)
    raised = {Status.LEAK, Status.NOT_MEASURED}
    if make_plan(**options).strict:
        raised.add(Status.INCONCLUSIVE)
    if verdict.status in raised:
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
        handed: Mapping[str, object] | None = None,
        door: str = "library",
        terminal: LiveTerminal | None = None,
    ) -> None:
        if not callable(body):
            raise TypeError(f"expected a function, got {body!r}")
        self._body = body
        self._plan = plan
        self._nodeid = nodeid
        self._door = door
        self._terminal = terminal
        self._make_probes = probes
        self._handed = dict(handed or {})
        self._notes: list[str] = []
        self._insights = Insights()
        self.verdict: Verdict | None = None

    def run(self) -> Verdict:
        """Measure and judge. Raises what the body raises."""
        __tracebackhide__ = True
        if Measurement._running:
            raise NestedMeasurementError(
                "this code is being measured already: take either the marker (or "
                "--tfleak) or a check inside the test, not both"
            )
        Measurement._running = True
        surroundings = Surroundings()
        try:
            show = show_progress(self._terminal, self._nodeid, self._plan)
            with show as on_iteration:
                self.verdict = self._measure(on_iteration)
        finally:
            Measurement._running = False
            leftovers = surroundings.restore()
            self._handed = {}
        verdict = add_leftovers(self.verdict, leftovers, self._plan)
        verdict = self._tell(verdict)
        verdict = accept_ignored(verdict, self._plan)
        verdict = demand_gpu(verdict, self._plan)
        self.verdict = replace(verdict, door=self._door)
        return self.verdict

    def _tell(self, verdict: Verdict) -> Verdict:
        """Say what was found out; where that fails, the findings stand as they are."""
        try:
            return replace(verdict, findings=tell(verdict.findings, self._insights))
        except Exception as error:
            note = f"The diagnosis failed: {type(error).__name__}: {error}."
            return replace(verdict, notes=(*verdict.notes, note))

    def _measure(self, on_iteration: Callable[[Trace], None] | None) -> Verdict:
        __tracebackhide__ = True
        census = Census(self._plan.ignore)
        probes = self._make_probes(census)
        loop = Loop(self._body, self._plan, probes, census, on_iteration)
        stock = Stock(census, probes, self._handed)
        findings: tuple[Finding, ...] | None = None
        explanation, again = None, None
        births = Births()
        births.watch()
        try:
            with loop:
                loop.warm_up()
                loop.measure()
                self._notes.extend(confirm(loop, self._plan))
                loop.end_judging()
                if self._plan.clear_session != "never":
                    loop.clear()
                stock.take(loop.trace)
                loop.distrust_broken(loop.trace)
                for probe in probes:
                    self._notes.extend(probe.notes())
                since_freeze = loop.trace.confirmed or loop.trace.measured
                findings = self._findings(loop.trace, census, stock, since_freeze)
                if findings and self._plan.diagnose == "on":
                    until = perf_counter() + self._plan.diagnose_time
                    signals = {finding.signal for finding in findings}
                    containers = Containers(loop, plain=signals.isdisjoint(OBJECTS))
                    search = Search(loop, self._plan, findings)
                    explanation, again = self._explain(
                        search, containers, loop, census, stock
                    )
                    rest = (1 - SHARE) * self._plan.diagnose_time
                    until = max(until, perf_counter() + rest)
                    failing = findings if again is None else again[1]
                    inquiry = Inquiry(
                        loop,
                        census,
                        self._handed,
                        stock.objects_left,
                        births.frames_of,
                        containers,
                    )
                    if failing:
                        causes = explanation.causes
                        self._insights = self._inquire(inquiry, failing, causes, until)
        except BaseException as error:
            if findings is None:
                self.verdict = self._interrupted(loop, error, births)
            else:
                self._notes.append("The search for the cause was interrupted.")
                self.verdict = self._judged(loop, findings)
            raise
        finally:
            births.stop()
        if loop.not_cleared is not None and self._plan.clear_session == "iteration":
            why = loop.not_cleared
            self._notes.append(f"The Keras session was not cleared: {why}.")
        verdict = self._judged(loop, findings)
        if explanation is not None:
            verdict, notes = share_out(
                verdict, explanation, again, loop.trace, self._plan
            )
            self._notes.extend(notes)
        self._notes.extend(self._insights.notes)
        return replace(verdict, notes=tuple(self._notes))

    def _judged(self, loop: Loop, findings: tuple[Finding, ...]) -> Verdict:
        verdict = replace(
            judge(loop.trace, self._plan, self._nodeid),
            findings=findings,
            notes=tuple(self._notes),
        )
        if not loop.broken or verdict.status is not Status.CLEAN:
            return verdict
        failed = ", ".join(f"{name} ({why})" for name, why in loop.broken.items())
        return replace(
            verdict,
            status=Status.INCONCLUSIVE,
            reason=Reason.PROBE_FAILED,
            detail=f"not read to the end: {failed}",
        )

    def _findings(
        self, trace: Trace, census: Census, stock: Stock, since_freeze: int
    ) -> tuple[Finding, ...]:
        """Judge a trace whose stock was taken; return its findings, described."""
        return tuple(
            self._describe(finding, trace.kinds, census, stock, since_freeze)
            for finding in judge(trace, self._plan).findings
        )

    def _explain(
        self,
        search: Search,
        containers: Containers,
        loop: Loop,
        census: Census,
        stock: Stock,
    ) -> tuple[Explanation, SecondLook | None]:
        """Look for known causes, and judge again without those that have no remedy."""
        try:
            containers.remember()
            explanation = search.run()
            if not explanation.causes:
                return explanation, None
            stock.take(before := Trace((), 0, 0))
            again = run_without(explanation.causes, loop, self._plan)
            stock.take(again)
            for signal, count in before.left.items():
                again.left[signal] -= min(count, again.left[signal])
        except BaseException as error:
            if is_interrupt(error):
                raise
            self._notes.append(cut_short("The trying of known causes", error))
            return search.result.without_causes(), None
        return explanation, (again, self._findings(again, census, stock, again.rows))

    def _inquire(
        self,
        inquiry: Inquiry,
        findings: Sequence[Finding],
        causes: Sequence[Known],
        until: float,
    ) -> Insights:
        """Look for holders and lines; a search that fails never hides the verdict."""
        try:
            return inquiry.run(findings, causes, until)
        except BaseException as error:
            if is_interrupt(error):
                raise
            note = cut_short("The search for who holds it", error)
            return Insights(notes=[note])

    def _interrupted(self, loop: Loop, error: BaseException, births: Births) -> Verdict:
        reason, words = why_it_ended(error)
        words += f" in iteration {loop.trace.rows + 1}"
        closed = after_close(error, births) if reason is Reason.BODY_FAILED else None
        return replace(
            judge(loop.trace, self._plan, self._nodeid),
            status=Status.NOT_MEASURED,
            reason=reason,
            detail=f"{words}; {closed}" if closed else words,
            findings=(),
            notes=tuple(self._notes),
        )

    def _describe(
        self,
        finding: Finding,
        survivors: Mapping[str, int],
        census: Census,
        stock: Stock,
        iterations: int,
    ) -> Finding:
        if finding.per_iteration is None:
            kind, what = describe_left(stock.left_types.get(finding.signal, {}))
        else:
            kind, what = describe(finding, survivors, census.kind_of, iterations)
        return replace(finding, kind=kind, what=what)
