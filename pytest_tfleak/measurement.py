"""Run one measurement from start to verdict, and offer it as a library.

``find_leaks`` and ``assert_no_leaks`` are the public functions. ``Measurement`` is the
only class that knows all stages: loop, judge, diagnosis and decision.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING
from typing import Any

from pytest_tfleak.decide import Ended
from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import accept_ignored
from pytest_tfleak.decide import decide
from pytest_tfleak.decide import find_all
from pytest_tfleak.decide import notes_on_known
from pytest_tfleak.decide import with_remedies
from pytest_tfleak.diagnosis.closed_session import after_close
from pytest_tfleak.diagnosis.closed_session import never_left
from pytest_tfleak.diagnosis.closed_session import still_open
from pytest_tfleak.diagnosis.diagnose import Inquiry
from pytest_tfleak.diagnosis.diagnose import Insights
from pytest_tfleak.diagnosis.experiments.early import EarlySearch
from pytest_tfleak.diagnosis.experiments.keras_names import clear_session_at_hand
from pytest_tfleak.diagnosis.experiments.search import Search
from pytest_tfleak.diagnosis.experiments.search import run_without
from pytest_tfleak.diagnosis.explained_before import ExplainedLeaks
from pytest_tfleak.diagnosis.explained_before import SameLeak
from pytest_tfleak.diagnosis.findings import describe_growth
from pytest_tfleak.diagnosis.findings import describe_leftovers
from pytest_tfleak.diagnosis.findings import describe_unjudged
from pytest_tfleak.diagnosis.findings import explain_findings
from pytest_tfleak.diagnosis.findings import is_kept_by_user
from pytest_tfleak.diagnosis.findings import most_of_users
from pytest_tfleak.diagnosis.holder.expressions import expressions_for
from pytest_tfleak.diagnosis.one_call import explain_left
from pytest_tfleak.diagnosis.one_call import findings_on
from pytest_tfleak.diagnosis.one_call import notes_on
from pytest_tfleak.diagnosis.origin.entries import Entries
from pytest_tfleak.diagnosis.origin.managers import manager_of
from pytest_tfleak.diagnosis.survivors.containers import Containers
from pytest_tfleak.fault_sweep import Body
from pytest_tfleak.fault_sweep import FaultSweep
from pytest_tfleak.fault_sweep import Stage
from pytest_tfleak.fault_sweep import SweptBody
from pytest_tfleak.judge import Judgement
from pytest_tfleak.judge import is_enough_at_limit
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import judge
from pytest_tfleak.judge import unjudged_rate
from pytest_tfleak.known import Known
from pytest_tfleak.known import KnownGrowth
from pytest_tfleak.known import known_here
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.known import names_clear_session
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.base import in_words
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Budget
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.confirm import confirm
from pytest_tfleak.run.confirm import confirm_at_limit
from pytest_tfleak.run.confirm import count_what_ran
from pytest_tfleak.run.confirm import note_idle
from pytest_tfleak.run.confirm import threads_beside
from pytest_tfleak.run.environment import WITHOUT_GIL
from pytest_tfleak.run.environment import without_gil
from pytest_tfleak.run.faults import Faults
from pytest_tfleak.run.guard import LimitReached
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.interrupts import used_up
from pytest_tfleak.run.isolation import Leftover
from pytest_tfleak.run.isolation import Surroundings
from pytest_tfleak.run.leftovers import Leftovers
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.run.one_call import OneCall
from pytest_tfleak.run.one_call import Outlasting
from pytest_tfleak.run.progress import LiveTerminal
from pytest_tfleak.run.progress import Progress
from pytest_tfleak.run.progress import show_progress
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.run.stopwatch import CONFIRMATION
from pytest_tfleak.run.stopwatch import DIAGNOSIS
from pytest_tfleak.run.stopwatch import KNOWN_GROWTH
from pytest_tfleak.run.stopwatch import LOOP
from pytest_tfleak.run.stopwatch import Stopwatch
from pytest_tfleak.run.system_log import SystemLog
from pytest_tfleak.run.teardown import Teardown
from pytest_tfleak.run.teardown import judge_torn_down
from pytest_tfleak.signals import names_of
from pytest_tfleak.signals import row_of
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SecondsByPart
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

if TYPE_CHECKING:
    from pytest_tfleak.compare.baseline import Baseline

_COUNTED_AGAIN = 5  # iterations
#: How many iterations must fit into the memory that is left to look for known causes.
_ROOM_FOR_EXPERIMENTS = 40
_OBJECTS = "python.objects"

ProbeMaker = Callable[[Census], Sequence[Probe]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a measurement needs in addition to the body and the plan."""

    nodeid: str
    via: str = "library"
    probes: ProbeMaker = make_probes
    #: What the body receives, by name; it can store objects in there. Fixtures that are
    #: set up again take the place of the old ones, which must not live on in here.
    handed: dict[str, object] = field(default_factory=dict)
    terminal: LiveTerminal | None = None
    baseline: Baseline | None = None
    endings: Endings = field(default_factory=Endings)
    #: The fixtures that are set up once for all calls, if any of them clean up.
    teardown: Teardown | None = None
    #: The fixtures that the next test has anew, though they are set up once for all
    #: calls: what they gather in these calls is no leak of user code.
    renewed: frozenset[str] = frozenset()
    #: The leaks of earlier tests, which need no second search.
    earlier: ExplainedLeaks | None = None
    #: Ends what was set up for this test alone, at depth "leftovers"; it returns the
    #: values of fixtures.
    tear_down_early: Callable[[], Outlasting] = Outlasting
    #: What is different if this is a part of a sweep of faults.
    stage: Stage = field(default_factory=Stage)
    #: Enters a context around the body itself, without its fixtures, in each call.
    surround: Callable[[AbstractContextManager[None] | None], None] | None = None
    #: When the test's own timeout expires, on ``perf_counter``'s clock.
    test_ends: float = inf


_OF_READINGS = (Reason.UNSTEADY, Reason.FADING)
_MOST_THREADS = 3  # whose names are shown


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
    setting = Setting(nodeid=name, handed={"body": body})
    return Measurement(body, plan, setting).run()


def assert_no_leaks(body: Callable[[], object], **options: object) -> Verdict:
    """Call ``find_leaks`` and raise LeakError if the verdict is LEAK or NOT_MEASURED.

    With ``strict=True``, INCONCLUSIVE raises as well.
    """
    verdict = find_leaks(body, **options)
    raised = {Status.LEAK, Status.NOT_MEASURED}
    if make_plan(**options).strict:
        raised.add(Status.INCONCLUSIVE)
    if verdict.status in raised:
        raise LeakError(verdict)
    return verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What all stages of a measurement share."""

    loop: Loop
    census: Census
    leftovers: Leftovers
    log: SessionLog
    early: EarlySearch


class Measurement:
    """One measurement of one body; it sets ``verdict`` even if the body raises."""

    _running = False

    def __init__(
        self, body: Callable[[], object], plan: Plan, setting: Setting
    ) -> None:
        if not callable(body):
            raise TypeError(f"expected a function, got {body!r}")
        self._body = body
        self._plan = plan
        self._setting = setting
        self._endings = setting.endings
        self._budget = Budget(plan, test_ends=setting.test_ends)
        self._handed = setting.handed
        self._notes: list[str] = []
        self._surroundings: Surroundings | None = None
        self._left_before: tuple[Leftover, ...] = ()
        self._insights = Insights()
        self._same: SameLeak | None = None
        self._is_judged = False
        self._is_enough = False  # a part of a sweep that needs no diagnosis
        self._stopwatch = Stopwatch()
        self._log, self._system = SessionLog(), SystemLog(audits=False)
        self._caller: Loop | OneCall | None = None
        self._progress: Progress | None = None
        #: Whether the body may have been called.
        self.has_begun = False
        #: Whether Python objects are judged though the plan does not ask for it, and
        #: the note to write instead if the user's code does not keep them.
        self._judges_objects = False
        self._unjudged = ""
        #: How the body ended the run, if the iterations before that showed growth.
        self._how_it_ended = ""
        self.grounds = Grounds(nodeid=setting.nodeid, plan=plan, via=setting.via)
        self.verdict: Verdict | None = None

    @property
    def calls(self) -> int:
        """Return how often the body has returned."""
        return 0 if self._caller is None else self._caller.calls

    def run(self) -> Verdict:
        """Measure and judge. Raises what the body raises."""
        __tracebackhide__ = True
        if without_gil():
            raise RuntimeError(WITHOUT_GIL)
        if self._plan.faults:
            return self._sweep()
        if Measurement._running:
            raise NestedMeasurementError(
                "this code is already being measured: use either the marker (or "
                "--tfleak) or a check inside the test, not both"
            )
        ended_by: BaseException | None = None
        try:
            Measurement._running = True  # inside the try: Ctrl-C may come at any time
            self._remember_surroundings()
            if self._plan.depth == "leftovers":
                self._measure_one_call()
            else:
                self._measure_with_progress()
        except BaseException as error:
            if not self._how_it_ended:
                raise
            ended_by = error
        finally:
            Measurement._running = False
            self._handed = {}
            leftovers = self._restore_surroundings()
            self._log.forget()
            self._notes.extend(left.note for left in leftovers if not left.leak)
            if _is_failure(self.grounds.ended):
                self._notes.extend(never_left(leftovers))
            if self.verdict is not None:  # the body raised: decide again with all notes
                self._decide()
        if ended_by is not None:
            try:
                return self._decide_in_part(ended_by)
            finally:
                del ended_by  # its traceback holds this frame
        self._look_for_entries(leftovers)
        self._complete((*leftovers, *self._setting.stage.left()))
        verdict = self._decide()
        if self._setting.earlier is not None:
            self._setting.earlier.remember(verdict)
        return verdict

    def _sweep(self) -> Verdict:
        """Measure the body while its TensorFlow calls fail, one in each iteration."""
        __tracebackhide__ = True
        faults = Faults(self._plan.fault_error)
        call, surround = self._body, self._setting.surround
        if surround is None:

            def call() -> None:
                __tracebackhide__ = True
                with faults:
                    self._body()

        else:
            surround(faults)
        self._budget.start()
        body = SweptBody(call=call, endings=self._endings, faults=faults)
        deadline = self._budget.for_loop()
        try:
            self.grounds = FaultSweep(
                body, self._plan, self._measure_part, deadline
            ).run()
        finally:
            faults.stop()
            if surround is not None:
                surround(None)
        self.verdict = decide(self.grounds)
        return self.verdict

    def _measure_part(self, body: Body, plan: Plan, stage: Stage) -> Grounds:
        """Measure what one part of a sweep calls; return the grounds."""
        __tracebackhide__ = True
        plan = replace(plan, faults=False)
        setting = replace(self._setting, stage=stage, earlier=None)
        part = Measurement(body, plan, setting)
        try:
            part.run()
        finally:
            self._caller, self.has_begun = part._caller, part.has_begun
            self.grounds, self.verdict = part.grounds, part.verdict
        return part.grounds

    def _decide_in_part(self, ended_by: BaseException) -> Verdict:
        """Return the verdict on what ran if it is LEAK; otherwise raise the error."""
        __tracebackhide__ = True
        before = list(self._notes)
        self._notes.append(self._how_it_ended)
        self._complete(())
        verdict = self._decide()
        if verdict.status is Status.LEAK:
            return verdict
        self._notes = before
        self._know(findings=())
        self._decide()
        raise ended_by

    def _measure_with_progress(self) -> None:
        __tracebackhide__ = True
        setting, deadline = self._setting, self._budget.for_loop()
        with show_progress(
            setting.terminal, setting.nodeid, self._plan, deadline
        ) as self._progress:
            self._measure()

    def _measure(self) -> None:
        __tracebackhide__ = True
        run = self._prepare()
        run.log.watch()
        try:
            with run.loop, self._system:
                self._know(**self._judge(run), broken=_broken(run.loop))
                self._is_judged = True
                if self._found() and self._is_diagnosed:
                    self._diagnose(run)
        except BaseException as error:
            self._end(run, error)
            raise
        finally:
            run.log.stop()
        self._note_end(run.loop)

    @property
    def _is_diagnosed(self) -> bool:
        return self._plan.diagnose == "on" and not self._is_enough

    def _begin(self, part: str, deadline: Deadline = NO_DEADLINE) -> None:
        """Note which part of the measurement begins, and when it has to end."""
        self._stopwatch.enter(part)
        if self._progress is not None:
            self._progress.enter(part, deadline)

    def _measure_one_call(self) -> None:
        """Call the body once, and find what it leaves. Raises what the body raises."""
        __tracebackhide__ = True
        log = self._log
        call = OneCall(
            self._body, self._plan.iterations, self._setting.tear_down_early, log
        )
        self._caller = call
        self.has_begun = True
        self._stopwatch.start()
        started = perf_counter()
        try:
            left = call.run()
            self._notes.extend(notes_on(left, self._plan))
            judged = Judgement(
                iterations=self._plan.iterations,
                body_seconds=call.body_seconds,
                findings=findings_on(left, self._plan),
            )
            self._know(judged=judged)
            self._is_judged = True
            if judged.findings and self._plan.diagnose == "on":
                self._begin(DIAGNOSIS)
                self._budget.start()
                self._budget.start_diagnosis()
                deadline = self._budget.for_holders()
                self._insights = explain_left(left, self._handed, deadline)
        except BaseException as error:
            if not self._is_judged:
                which = _which_call(call.calls, self._plan)
                ended = self._ended_by(error, call.system, which=which)
                self._know(ended=ended)
            self._decide()
            raise
        finally:
            log.stop()
            judged = replace(self.grounds.judged, seconds=perf_counter() - started)
            parts = SecondsByPart(**self._stopwatch.read())
            self._know(judged=judged, seconds_by_part=parts)

    def _prepare(self) -> _Run:
        """Build what the stages share. Raises ProbeError."""
        census = Census(self._plan.ignore)
        loop = Loop(
            self._body,
            self._plan,
            self._setting.probes(census),
            census,
            self._progress,
            self._budget,
        )
        self._caller = loop
        loop.begins = self._setting.stage.begin
        self._setting.stage.watch(self._log.created_at)
        leftovers = Leftovers(census, loop.probes, self._handed)
        return _Run(
            loop=loop,
            census=census,
            leftovers=leftovers,
            log=self._log,
            early=EarlySearch(loop, self._plan, self._budget),
        )

    def _judge(self, run: _Run) -> dict[str, Any]:
        """Run the body and judge the readings. Raises what the body raises.

        Return what is known then, as fields of ``Grounds``.
        """
        __tracebackhide__ = True
        loop = run.loop
        self.has_begun = True
        self._stopwatch.start()
        before = Trace((), 0, 0)
        try:
            reached = self._run_all(run, before)
            if reached:
                self._judge_until_limit(run, reached)
        except BaseException as error:
            try:
                self._judge_in_part(run, error)
            except Exception:  # judging may fail too, for lack of memory
                self._know(ended=self._why_it_ended(run, error))
            raise
        loop.calls_judged = loop.calls
        if not self._is_enough:
            self._judge_unjudged(run)
        self._budget.start_diagnosis()
        if self._plan.clear_session != "never":
            loop.clear()
        run.leftovers.count(loop.trace)
        _leave_out(before, loop.trace)
        loop.note_reasons(loop.trace)
        for probe in loop.probes:
            self._notes.extend(probe.notes())
        judged = self._describe(run, loop.trace, loop.trace.confirmed)
        if not run.early.conclude():
            return {"judged": judged}
        return {**self._known_before(run), "rejudged": judged}

    def _run_all(self, run: _Run, before: Trace) -> str:
        """Run all iterations; return which limit ended them early, "" if none did.

        ``before`` receives what is left before known causes are taken away.
        """
        __tracebackhide__ = True
        try:
            run.loop.warm_up(run.early.look)
            if not run.early.is_due:
                run.loop.measure(run.early.look)
            if run.early.is_due and self._take_known_away(run):
                run.leftovers.count(before)
            self._measure_until_limit(run)
        except LimitReached as reached:  # judged later: its traceback is no survivor
            return str(reached)
        return ""

    def _measure_until_limit(self, run: _Run) -> None:
        """Run the rest, and again if experiments on known causes took up the room."""
        __tracebackhide__ = True
        try:
            self._measure_rest(run)
        except LimitReached:
            stopped = run.loop.guard.stopped
            is_enough = is_enough_at_limit(run.loop.trace, stopped, self._plan)
            if is_enough or not run.early.is_away:
                raise
            run.loop.guard.allow_more()
        else:
            return
        self._measure_rest(run)

    def _take_known_away(self, run: _Run) -> bool:
        """Take causes of known growth away for the rest of the loop, if there are any.

        If the body fails meanwhile, it may be for the lack of them: run it as it is.
        """
        __tracebackhide__ = True
        self._begin(KNOWN_GROWTH, self._budget.for_early_causes())
        try:
            return run.early.take_away()
        except BaseException as error:
            if self._endings.passes_through(error):
                raise
            run.early.put_back()
            return False
        finally:
            self._begin(LOOP, self._budget.for_loop())

    def _measure_rest(self, run: _Run) -> None:
        """Run the iterations that are still to be judged, and confirm growth."""
        __tracebackhide__ = True
        notes = list(self._notes)
        try:
            self._measure_to_the_end(run)
        except BaseException as error:
            ends = isinstance(error, LimitReached) or used_up(error) is not None
            ends = ends or self._endings.passes_through(error)
            if ends or not run.early.is_away:
                raise
            self._notes = notes
            run.early.put_back()
            self._begin(LOOP, self._budget.for_loop())
            self._measure_to_the_end(run)

    def _judge_until_limit(self, run: _Run, why: str) -> None:
        """Judge the iterations that ran before a resource would have run out."""
        __tracebackhide__ = True
        loop = run.loop
        self._notes.append(f"Stopped early, after {loop.trace.rows} iterations: {why}.")
        self._setting.stage.is_enough(loop)  # it notes what it has seen until then
        count_what_ran(loop, self._plan, is_used_up=True)
        loop.calls_judged = loop.calls
        loop.guard.allow_more()
        self._begin(CONFIRMATION)
        names = partial(self._name_caches, run)
        self._notes.extend(confirm_at_limit(loop, self._plan, self._endings, names))
        self._judge_torn_down(loop)

    def _measure_to_the_end(self, run: _Run) -> None:
        __tracebackhide__ = True
        is_away = run.early.is_away
        run.loop.measure(run.early.check)
        if is_away and not run.early.conclude():
            run.early.put_back()
            run.loop.measure()
        note_idle(run.loop)
        self._is_enough = self._setting.stage.is_enough(run.loop)
        if self._is_enough:
            return
        self._begin(CONFIRMATION)
        names = partial(self._name_caches, run)
        self._notes.extend(confirm(run.loop, self._plan, self._endings, names))
        self._judge_torn_down(run.loop)
        self._begin(LOOP)  # what follows is part of each run, confirmed or not

    def _known_before(self, run: _Run) -> dict[str, Any]:
        """Return what is known of the growth whose causes were taken away early."""
        early = run.early
        findings = []
        for finding in early.findings():
            kind, what = describe_growth(
                finding, early.kinds, run.census.kind_of, early.counted
            )
            findings.append(replace(finding, kind=kind, what=what))
        judged = Judgement(iterations=early.counted, findings=tuple(findings))
        return {"judged": judged, "growth": early.growth}

    def _found(self) -> tuple[Finding, ...]:
        """Return the findings on growth that no known cause has been shown to make."""
        grounds = self.grounds
        judged = grounds.judged if grounds.rejudged is None else grounds.rejudged
        return judged.findings

    def _judge_torn_down(self, loop: Loop) -> None:
        """Judge growth anew where fixtures may clean up what the body leaves."""
        __tracebackhide__ = True
        teardown = self._setting.teardown
        if teardown is None:
            return
        earlier = set(teardown.values())
        end = partial(self._set_up_again, teardown)
        notes = judge_torn_down(loop, self._plan, self._endings, teardown, end)
        self._notes.extend(notes)
        now = teardown.values()
        for name in earlier:
            self._handed.pop(f"fixture:{name}", None)
            if name in now:
                self._handed[f"fixture:{name}"] = now[name]

    def _set_up_again(self, teardown: Teardown) -> None:
        """Set fixtures up again; what they enter then is no leftover of the body."""
        self._left_before = self._restore_surroundings()
        try:
            teardown.end()
        finally:
            self._remember_surroundings()

    def _remember_surroundings(self) -> None:
        if not self._setting.stage.puts_back:
            self._surroundings = Surroundings()

    def _restore_surroundings(self) -> tuple[Leftover, ...]:
        """Restore the process-wide state; return all that was left behind."""
        surroundings, self._surroundings = self._surroundings, None
        if surroundings is None:
            return self._left_before
        return (*self._left_before, *surroundings.restore(self._log.created_at))

    def _judge_unjudged(self, run: _Run) -> None:
        """Look at types that pile up within the allowances of memory.

        Without the option ``objects``, only objects of the user's own classes that the
        user's code keeps are judged; others are a note.
        """
        __tracebackhide__ = True
        trace = run.loop.trace
        rate = unjudged_rate(trace, self._plan, _OBJECTS)
        if rate < 1 or trace.judged < 2 * _COUNTED_AGAIN:
            return
        if is_suspicious(trace, self._plan):
            return
        each = trace.body_seconds / max(1, trace.rows)
        if not run.loop.deadline.fits(2 * _COUNTED_AGAIN * each):
            return
        try:
            counts = self._count_again(run)
        except BaseException as error:
            if self._endings.passes_through(error):
                raise
            return  # the judged iterations completed: later errors do not count
        types = describe_unjudged(counts, _COUNTED_AGAIN)
        if not types:
            return
        self._unjudged = (
            f"Python objects pile up, within the allowances of memory: {types} per "
            "iteration. objects=0 would judge them."
        )
        is_own = most_of_users(counts) >= _COUNTED_AGAIN
        # what was confirmed to be no leak may be a buffer, as long as the next look,
        # and what the plan allows to pile up may come with other objects
        is_explained = trace.confirmed or is_suspicious(trace, Plan())
        if is_own and self._plan.diagnose == "on" and not is_explained:
            self._judge_objects(run)
        if not self._judges_objects:
            self._notes.append(self._unjudged)

    def _judge_objects(self, run: _Run) -> None:
        """Judge Python objects as well, unless the body fails meanwhile.

        What has run until then is the warm-up, as not all of it was read.
        """
        __tracebackhide__ = True
        trace, notes = run.loop.trace, list(self._notes)
        self._plan = replace(self._plan, objects=0.0)
        try:
            run.loop.refreeze()
            run.loop.trace = trace.restarted(room=0)
            self._measure_to_the_end(run)
            found = judge(run.loop.trace, self._plan).findings
        except BaseException as error:
            if self._endings.passes_through(error):
                raise
            found = ()
        self._judges_objects = {finding.signal for finding in found} == {_OBJECTS}
        if not self._judges_objects:
            self._plan, self._notes = replace(self._plan, objects=None), notes
            run.loop.go_back_to(trace)

    def _count_again(self, run: _Run) -> dict[str, int]:
        """Return how many objects of each type were added in each of two short runs.

        ``python.objects`` itself also counts objects that only replaced older ones.
        """
        __tracebackhide__ = True
        looks = []
        for iterations in (0, _COUNTED_AGAIN, _COUNTED_AGAIN):
            if iterations:
                run.loop.repeat(iterations, ())
            run.loop.refreeze(partial(_count_types, counts := Counter[str]()))
            looks.append(counts)
        first, second, third = looks
        more = (second - first) & (third - second)  # what came once is not growth
        return {n: c for n, c in more.items() if run.census.kind_of(n) is None}

    def _name_caches(self, run: _Run, caches: Sequence[object]) -> list[str | None]:
        """Find names for bounded caches, if the diagnosis is on and finds any."""
        if self._plan.diagnose == "on":
            with suppress(Exception), run.loop.thawed():
                deadline = self._budget.for_holders()
                return expressions_for(caches, self._handed, deadline)
        return [None] * len(caches)

    def _judge_in_part(self, run: _Run, error: BaseException) -> None:
        """Judge the iterations that completed before the body ended the run.

        No experiment can show any more whether a library causes the growth. So it fails
        the test only if no known cause could explain it, or if it exhausted a resource.
        """
        loop = run.loop
        loop.release_reserve()
        ended, resource = self._why_it_ended(run, error), used_up(error)
        words = f"in iteration {loop.trace.rows + 1}: {self._endings.in_words(error)}."
        if not self._endings.is_from_outside(error):
            count_what_ran(loop, self._plan, is_used_up=resource is not None)
        loop.note_reasons(loop.trace)
        judged = self._describe(run, loop.trace, loop.trace.judged)
        self._know(judged=judged, ended=ended, broken=_broken(loop))
        away = run.early.growth.causes
        if not judged.findings or self._endings.is_from_outside(error):
            return
        if resource is not None:
            self._how_it_ended = f"The leak ended the run: out of {resource} {words}"
            return
        self._how_it_ended = f"Judged on what ran before the body ended {words}"
        signals = {finding.signal for finding in judged.findings}
        unavoidable = (e for e in known_here() if e.remedy is None and e not in away)
        untried = tuple(e for e in unavoidable if signals & set(e.signals))
        failure = self._endings.in_words(error)
        self._know(growth=KnownGrowth(untried=untried, failure=failure))

    def _diagnose(self, run: _Run) -> None:
        """Look for known causes, then for holders and lines."""
        findings = self._found()
        run.loop.guard.allow_more()
        if self._is_known_from_earlier(run, findings):
            return
        # if counted objects grow, they account for the memory that grows with them
        rows = [row_of(f.signal, f.unit) for f in findings]
        is_counted = any(row.counts_objects for row in rows)
        containers = Containers(run.loop, plain=not is_counted)
        growth, rejudged = self._explain(run, containers)
        causes = growth.causes
        self._know(growth=self.grounds.growth.joined(growth), broken=_broken(run.loop))
        if rejudged is not None:
            self._know(rejudged=rejudged)
        failing = with_remedies(self._found(), self.grounds)
        if failing:
            self._insights = self._inquire(run, failing, causes, containers)

    def _is_known_from_earlier(self, run: _Run, findings: Sequence[Finding]) -> bool:
        """Return whether an earlier test has the same leak: then search no further."""
        earlier = self._setting.earlier
        if earlier is None or self.grounds.growth.causes:  # the causes would come back
            return False
        deadline = self._budget.for_holders()
        self._begin(DIAGNOSIS, deadline)
        try:
            nodeid = self._setting.nodeid
            self._same = earlier.find(nodeid, run.loop, findings, run.census, deadline)
        except BaseException as error:
            if self._endings.passes_through(error):
                raise
            return False  # the full search meets the same error, and reports it
        if self._same is None:
            return False
        self._know(same_as=self._same.test)
        return True

    def _explain(
        self, run: _Run, containers: Containers
    ) -> tuple[KnownGrowth, Judgement | None]:
        """Look for known causes, then judge again without those that have no remedy."""
        loop, away = run.loop, self.grounds.growth.causes
        self._begin(KNOWN_GROWTH, self._budget.for_causes())
        search = Search(loop, self._plan, self._found(), self._budget, away)
        try:
            containers.remember(self._budget.for_causes())
            if loop.trace.stopped is not None and not self._has_room(loop):
                return self._untried(loop), None
            growth = search.run()
            if not growth.causes:
                return growth, None
            loop.taken_away = self.grounds.growth.joined(growth).taken_away
            return growth, self._judge_without(run, growth.causes)
        except BaseException as error:
            if self._endings.passes_through(error):
                raise
            note = self._endings.cut_short("The search for known causes", error)
            self._notes.append(note)
            failure = self._endings.in_words(error)
            return replace(search.result, failure=failure), None

    def _untried(self, loop: Loop) -> KnownGrowth:
        """Return which known causes there is no room for, if they may explain growth.

        They all add to a registry; if none grows, the memory is that of the body.
        """
        found = {finding.signal for finding in self._found()}
        registered = found.intersection(names_of("registry", "context"))
        entries = (e for e in known_here() if e.remedy is None)
        untried = tuple(e for e in entries if registered.intersection(e.signals))
        limit = loop.guard.narrowest.limit
        return KnownGrowth(untried=untried, limit=limit, is_out_of_room=True)

    def _has_room(self, loop: Loop) -> bool:
        """Return whether experiments on known causes fit into what is left."""
        return loop.guard.iterations_left >= _ROOM_FOR_EXPERIMENTS

    def _judge_without(self, run: _Run, causes: Sequence[Known]) -> Judgement:
        """Run the body again without some causes, and judge that run."""
        loop, deadline = run.loop, self._budget.for_second_run()
        self._begin(KNOWN_GROWTH, deadline)
        run.leftovers.count(before := Trace((), 0, 0))
        trace = run_without(causes, loop, self._plan, deadline)
        loop.calls_judged = loop.calls
        run.leftovers.count(trace)
        _leave_out(before, trace)
        loop.note_reasons(trace)
        return self._describe(run, trace, trace.rows)

    def _inquire(
        self,
        run: _Run,
        findings: Sequence[Finding],
        causes: Sequence[Known],
        containers: Containers,
    ) -> Insights:
        """Look for holders and lines; the verdict stands even if the search fails.

        ``causes`` are still to be taken away while the body runs.
        """
        self._begin(DIAGNOSIS, self._budget.for_holders())
        inquiry = Inquiry(
            run.loop,
            run.census,
            self._handed,
            run.leftovers.objects,
            run.log.created_at,
            containers,
            self._budget,
        )
        try:
            return inquiry.run(findings, causes)
        except BaseException as error:
            if self._endings.passes_through(error):
                raise
            note = self._endings.cut_short("The search for who holds it", error)
            return Insights(notes=[note])

    def _describe(self, run: _Run, trace: Trace, since_freeze: int) -> Judgement:
        """Judge a trace, and add to each finding what kind of object grows.

        ``since_freeze`` is the number of iterations since the objects that already
        existed were frozen, 0 for all that are measured.
        """
        judged = judge(trace, self._plan)
        described = []
        for finding in judged.findings:
            if finding.per_iteration is None:
                kind, what = describe_leftovers(
                    run.leftovers.types.get(finding.signal, {})
                )
            else:
                kind, what = describe_growth(
                    finding,
                    trace.kinds,
                    run.census.kind_of,
                    trace.counted or since_freeze or trace.measured,
                )
            described.append(replace(finding, kind=kind, what=what))
        return replace(judged, findings=tuple(described))

    def _end(self, run: _Run, error: BaseException) -> None:
        """Set the verdict of a run that an exception ended early."""
        self._note_end(run.loop)
        if self._is_judged:  # the findings so far stand
            self._notes.append("The search for the cause was interrupted.")
            self._complete(())
        elif self.grounds.ended is None:  # not raised while the body was running
            self._know(ended=self._why_it_ended(run, error))
        self._decide()

    def _why_it_ended(self, run: _Run, error: BaseException) -> Ended:
        trace = run.loop.trace
        which = _which_iteration(trace, self._plan)
        where = f" in iteration {trace.rows + 1}"
        return self._ended_by(error, self._system, where, which)

    def _ended_by(
        self,
        error: BaseException,
        system: SystemLog,
        where: str = "",
        which: Iterable[str] = (),
    ) -> Ended:
        """Return why the body ended. If it failed, note what was open at that moment.

        ``where`` and the notes ``which`` say in which call, if there are several.
        """
        reason, words = self._endings.why_it_ended(error)
        words += where
        closed = None
        if reason is Reason.BODY_FAILED:
            closed = after_close(error, self._log)
            with suppress(Exception):  # for lack of memory
                self._notes.extend(which)
                if found := still_open(self._log, system):
                    self._notes.append(f"Still open when it failed: {found}.")
        return Ended(reason=reason, detail=f"{words}; {closed}" if closed else words)

    def _note_end(self, loop: Loop) -> None:
        """Note what is known only after the loop has ended."""
        took = partial(
            replace, seconds=loop.trace.seconds, body_seconds=loop.body_seconds
        )
        judged, rejudged = self.grounds.judged, self.grounds.rejudged
        parts = SecondsByPart(**self._stopwatch.read())
        self._know(judged=took(judged), seconds_by_part=parts)
        if rejudged is not None:
            self._know(rejudged=took(rejudged))
        for probe in loop.probes:
            self._notes.extend(probe.take_complaints())
            if probe.failure is not None and judged.findings:
                self._notes.append(
                    f"The probe {probe.name!r} was not read to the end: "
                    f"{probe.failure}."
                )
        if loop.not_cleared is not None:
            why = loop.not_cleared
            self._notes.append(f"The Keras session was not cleared: {why}.")

    def _look_for_entries(self, leftovers: Sequence[Leftover]) -> None:
        """See whether the context manager that left a scope is entered twice.

        That takes another call of the body, whose own scopes are put back.
        """
        __tracebackhide__ = True
        lines = [line for left in leftovers if left.leak for line in left.lines]
        if not (self._is_diagnosed and manager_of(lines)):
            return
        if self._plan.depth == "leftovers" or not self._budget.for_holders().fits(0):
            return
        surroundings = Surroundings()
        try:
            with Entries() as entries:
                self._body()
        except BaseException as error:
            if self._endings.passes_through(error):
                raise
        finally:
            surroundings.restore()
        self._insights.entered_twice |= entries.twice

    def _complete(self, leftovers: Sequence[Leftover]) -> None:
        """Collect all findings, explain them, and accept those that are allowed."""
        findings = find_all(self.grounds, leftovers)
        self._know(findings=findings)
        self._notes.extend(notes_on_known(self.grounds))
        self._notes.extend(_notes_on_threads(self.grounds.judged))
        self._notes.extend(self._insights.notes)
        findings = self._without_others_objects(self._explained(findings))
        findings = self._name_clear_session(findings)
        self._notes.extend(self._notes_on_fixtures(findings))
        if self._setting.via != "library":  # the option is pytest's
            self._notes.extend(_notes_on_exit(findings))
        findings, notes = accept_ignored(findings, self._plan.ignore)
        self._notes.extend(notes)
        if self._setting.baseline is not None:
            nodeid = self._setting.nodeid
            findings, notes = self._setting.baseline.accept(nodeid, findings)
            self._notes.extend(notes)
        self._know(findings=findings)

    def _explained(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Explain the findings; if that fails, return them unexplained."""
        if self._same is not None:
            return self._same.explain(findings)
        try:
            return explain_findings(findings, self._insights)
        except Exception as error:
            self._notes.append(f"The diagnosis failed: {in_words(error)}.")
            return findings

    def _without_others_objects(
        self, findings: tuple[Finding, ...]
    ) -> tuple[Finding, ...]:
        """Drop a finding on Python objects that only the option would judge."""
        if not self._judges_objects:
            return findings
        renewed = self._setting.renewed
        left = tuple(
            finding
            for finding in findings
            if finding.signal != _OBJECTS or is_kept_by_user(finding, renewed)
        )
        if len(left) < len(findings):
            self._notes.append(self._unjudged)
        return left

    def _notes_on_fixtures(self, findings: Sequence[Finding]) -> Iterator[str]:
        """Yield a note on fixtures that gather something over all calls."""
        holders = {
            finding.path.root.name
            for finding in findings
            if not finding.accepted
            and finding.path is not None
            and finding.path.root.kind == "fixture"
        }
        for name in sorted(holders & self._setting.renewed):
            what = "The instance" if name == "self" else f"The fixture {name}"
            yield (
                f"{what} is set up once for all calls. If each call has a new one in "
                'real use, measure with repeat="test".'
            )

    def _name_clear_session(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """Have advice name the call of the Keras that the body uses."""
        if not any(names_clear_session(one.advice or "") for one in findings):
            return tuple(findings)
        call = self.grounds.growth.clear_session or clear_session_at_hand()
        return tuple(
            replace(one, advice=name_clear_session(one.advice, call))
            if one.advice is not None
            else one
            for one in findings
        )

    def _know(self, **more: Any) -> None:
        self.grounds = replace(self.grounds, **more)

    def _decide(self) -> Verdict:
        self._know(notes=tuple(self._notes))
        self.verdict = decide(self.grounds)
        return self.verdict


def _is_failure(ended: Ended | None) -> bool:
    return ended is not None and ended.reason is Reason.BODY_FAILED


def _which_call(calls: int, plan: Plan) -> Iterator[str]:
    """Yield which call failed, if there are to be several."""
    if plan.iterations > 1:
        yield f"It failed in call {calls + 1} of {plan.iterations}."


def _which_iteration(trace: Trace, plan: Plan) -> Iterator[str]:
    """Yield which iteration failed, unless it is the first."""
    if trace.judged:
        yield (
            f"It failed in iteration {trace.judged + 1} of "
            f"{max(plan.iterations, trace.judged + 1)} (after {trace.warmed_up} "
            "warm-up)."
        )
    elif trace.rows:
        yield f"It failed in iteration {trace.rows + 1} of {trace.warmup} warm-up."


def _broken(loop: Loop) -> tuple[tuple[str, str], ...]:
    return tuple(loop.failures.items())


def _notes_on_exit(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a note on what may keep the process from exiting."""
    rows = [row_of(finding.signal, finding.unit) for finding in findings]
    grows = next((row.grows for row in rows if row.may_hang_at_exit), None)
    if grows is not None:
        yield (
            f"TensorFlow may hang when the process exits while {grows} are left: if "
            "the run does not end after its summary, use --tfleak-exit-timeout=60."
        )


def _notes_on_threads(judged: Judgement) -> Iterator[str]:
    """Yield a note if other threads may be why a run has shown nothing clear."""
    if not any(doubt.reason in _OF_READINGS for doubt in judged.doubts):
        return
    names = list(threads_beside())
    if names:
        more = ["..."] * (len(names) > _MOST_THREADS)
        yield (
            f"Other threads ran ({', '.join([*names[:_MOST_THREADS], *more])}), and "
            "what they allocate counts as the body's: stop them, or let the body wait "
            "for them."
        )


def _leave_out(before: Trace, trace: Trace) -> None:
    """Take from what a run left what was there before it."""
    for signal, count in before.left.items():
        trace.left[signal] -= min(count, trace.left[signal])


def _count_types(counts: Counter[str], objects: list[Any]) -> None:
    counts.update(full_name(cls) for cls in map(type, objects))
