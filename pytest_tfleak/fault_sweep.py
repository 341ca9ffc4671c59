"""Make each TensorFlow call of a body fail once, and find what that leaves.

1. Clean passes: an ordinary measurement. Its last pass says which calls there are. If
   the body leaks without a fault, that is the verdict.
2. The sweep: in each iteration one call fails. What a pass leaves, more than the one
   before, makes its call a suspect. Without suspects, growth over the whole sweep is
   confirmed and explained as ever.
3. Each group of suspects that leave the same is a measurement of its own, in which only
   those calls fail. So whatever holds for a leak holds here: confirmed, with holder,
   line and cause.

All of them share the time that ``max_time`` allows.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Protocol

from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import decide
from pytest_tfleak.diagnosis.causes.all_causes import cause_named
from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.places import explain
from pytest_tfleak.diagnosis.causes.places import fill
from pytest_tfleak.diagnosis.diagnose import NO_TIME
from pytest_tfleak.diagnosis.origin.entries import Entries
from pytest_tfleak.diagnosis.origin.managers import FailedWay
from pytest_tfleak.diagnosis.origin.managers import enters_by_hand
from pytest_tfleak.diagnosis.origin.managers import how_it_fails
from pytest_tfleak.judge import Doubt
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.plan import Plan
from pytest_tfleak.reports.message import place_of
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.failing_passes import Aftermath
from pytest_tfleak.run.failing_passes import FailingPasses
from pytest_tfleak.run.failing_passes import OwnError
from pytest_tfleak.run.faults import Call
from pytest_tfleak.run.faults import Faults
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.isolation import Leftover
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.signals import is_size
from pytest_tfleak.signals import row_of
from pytest_tfleak.trace import Trace
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import lines_of
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import FaultSummary
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status

#: At most so many passes run before the judged ones, in which calls fail, too: the
#: first error of a process imports modules. One has to: its reading is the first.
_WARMUP = 2
#: How many iterations a group of suspects is judged on.
_FEWEST, _MOST = 10, 30
_MOST_GROUPS = 6
_MOST_NOTES = 3
_NEVER_SUSPECT = ("object",)
#: Families of signals: user code opens these, so it has to close them, whoever holds
#: them.
_OF_USERS = ("session", "scope", "graph", "system")
#: Kinds of roots: what TensorFlow holds by itself, and where nobody has looked.
_OF_LIBRARIES = ("context", "graph", "default-graph", "unsought")
#: The share of the calls that the test must reach, or the sweep proves nothing.
_REACHED = 0.5

Body = Callable[[], object]


class Stage:
    """What a measurement does differently as a part of a sweep."""

    #: Whether each iteration puts the process-wide state back by itself.
    puts_back = False

    def begin(self, loop: Loop) -> None:
        """Prepare for the judged iterations, which begin now."""

    def is_enough(self, loop: Loop) -> bool:
        """Return whether the judged iterations need no confirmation or diagnosis."""
        return False

    def watch(self, created_at: Callable[[object], Sequence[Frame]]) -> None:
        """Take note of what returns the lines that created a session or graph."""

    def left(self) -> Sequence[Leftover]:
        """Return the scopes that single passes left open."""
        return ()


class Measure(Protocol):
    """Measures a body and returns the grounds for a verdict."""

    def __call__(self, body: Body, plan: Plan, stage: Stage) -> Grounds:
        """Return the grounds. Raises what the body raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptBody:
    """A body, and what is known about it."""

    call: Body
    endings: Endings
    faults: Faults  # ``call`` enters it where the body's own part begins


class FaultSweep:
    """Sweeps over the calls of one body; ``run`` returns grounds for the verdict."""

    def __init__(
        self, body: SweptBody, plan: Plan, measure: Measure, deadline: Deadline
    ) -> None:
        self._body = body
        self._plan = plan
        self._measure = measure
        self._deadline = deadline
        self._calls: tuple[Call, ...] = ()
        self._aftermath = Aftermath()
        #: The calls that were made to fail in judged iterations.
        self._tried: frozenset[int] = frozenset()
        #: Groups of suspects for which no time was left.
        self._not_looked_at: list[list[int]] = []

    def run(self) -> Grounds:
        """Run all stages. Raises what the body raises without a fault."""
        __tracebackhide__ = True
        clean = self._run(self._clean_pass, self._plan, Stage())
        self._calls = tuple(self._body.faults.calls)
        status = decide(clean).status
        if status is not Status.CLEAN:
            return _with_notes(clean, self._notes_without_sweep(status))
        if not self._calls:
            return _with_notes(clean, ["It made no TensorFlow call that could fail."])
        targets = spread(len(self._calls), self._plan.iterations)
        swept = with_doubts(self._sweep(targets), self._doubts(targets))
        tried = len(self._tried)
        if tried:
            swept = replace(swept, faults=self._summary(tried))
        return _with_notes(swept, [*self._notes(len(targets))])

    def _run(self, body: Body, plan: Plan, stage: Stage) -> Grounds:
        """Measure a part in what is left of the time for all of them."""
        __tracebackhide__ = True
        # the test's own timeout ends each part by itself
        if plan.max_time is not None and self._deadline.option == "max_time":
            plan = replace(plan, max_time=max(0.0, self._deadline.seconds))
        return self._measure(body, plan, stage)

    def _clean_pass(self) -> None:
        __tracebackhide__ = True
        self._body.faults.aim(0)
        self._body.call()

    def _passes(self, targets: Sequence[int]) -> FailingPasses:
        body = self._body
        return FailingPasses(body.call, body.faults, targets, body.endings)

    def _sweep(self, targets: Sequence[int]) -> Grounds:
        plan = replace(self._plan, depth="full", warmup=self._warmup)
        passes = self._passes(targets)
        self._aftermath = passes.aftermath
        stage = _Sweep(passes, plan)
        swept = self._run(passes, plan, stage)
        self._tried = stage.tried
        swept = replace(swept, findings=tuple(self._of_scopes(swept.findings)))
        if not stage.suspects:
            return self._of_all(swept, targets)
        swept = _without_growth(swept)
        looked = self._look_at(stage.suspects)
        leaks = [one for one in looked if decide(one).status is Status.LEAK]
        if leaks:
            return joined(swept, leaks)
        if decide(swept).status is Status.LEAK:
            return swept  # scopes are left, and what grows is of no other use
        if stage.grew and self._deadline.fits(0):
            again = self._passes(targets)
            grown = self._run(again, plan, _Unit(again, plan))
            return self._of_all(grown, targets)
        doubts = [doubt for one in looked for doubt in _doubts_of(one)]
        notes = dict.fromkeys(note for one in looked for note in one.notes)
        swept = replace(swept, notes=(*swept.notes, *notes))
        return with_doubts(swept, [*doubts, *self._doubts_of_rest(stage.grew)])

    @property
    def _warmup(self) -> int:
        return max(1, min(self._plan.warmup, _WARMUP))

    def _of_all(self, grounds: Grounds, targets: Sequence[int]) -> Grounds:
        """Return grounds on growth that no single call explains."""
        failing = self._failing(targets)
        findings = [
            f if f.failing or f.accepted else replace(f, failing=failing)
            for f in grounds.findings
        ]
        return self._of_users(replace(grounds, findings=tuple(findings)))

    def _of_users(self, grounds: Grounds) -> Grounds:
        """Leave out what a library keeps of a failed call by itself.

        Its code has error paths, too, and nobody but its authors can mend them.
        """
        failing = [finding for finding in grounds.findings if not finding.accepted]
        if not failing or any(map(_is_of_users, failing)):
            return grounds
        kept = tuple(finding for finding in grounds.findings if finding.accepted)
        grounds, name = replace(grounds, findings=kept), failing[0].signal
        if any(f.path and f.path.root.kind != "unsought" for f in failing):
            note = (
                f"A library keeps something of a failed call by itself ({name}): no "
                "code of yours holds it, so it does not fail the test."
            )
            return replace(grounds, notes=(*grounds.notes, note))
        judged = replace(grounds.stands_on, findings=())
        grounds = replace(grounds, judged=judged, rejudged=None)
        return with_doubts(grounds, [self._doubt_of_holder(failing, grounds.notes)])

    def _doubt_of_holder(
        self, failing: Sequence[Finding], notes: Sequence[str]
    ) -> Doubt:
        """Return why it is unknown whether user code or a library holds something."""
        name, reason = failing[0].signal, Reason.UNEXPLAINED
        if self._plan.diagnose == "off":
            why = 'diagnose="off" leaves open whether your code or a library holds it'
        elif any(f.path for f in failing) or NO_TIME in notes:
            why, reason = "no time was left to see what holds it", Reason.OUT_OF_TIME
        else:
            why = "the search did not find what holds it"
        detail = f"{name} grows if a call fails: {why}"
        return Doubt(reason=reason, detail=detail, signal=name)

    def _look_at(self, suspects: Mapping[int, frozenset[str]]) -> list[Grounds]:
        """Measure each group of suspects alone; return the grounds, with the calls."""
        plan = replace(
            self._plan,
            depth="quick",
            iterations=max(_FEWEST, min(_MOST, self._plan.iterations)),
            warmup=self._warmup,
        )
        looked: list[Grounds] = []
        groups = self._groups(suspects)
        for numbers in groups:
            has_leak = any(decide(one).status is Status.LEAK for one in looked)
            is_enough = has_leak and len(looked) >= _MOST_GROUPS
            if is_enough or not self._deadline.fits(0):
                break
            passes = self._passes(numbers)
            stage = _Unit(passes, plan)
            grounds = self._run(passes, plan, stage)
            findings = [
                self._with_calls(finding, stage.suspects, numbers)
                for finding in grounds.findings
            ]
            findings = self._with_managers(findings, passes.aftermath, numbers)
            grounds = replace(grounds, findings=tuple(findings))
            looked.append(self._of_users(grounds))
        self._not_looked_at = groups[len(looked) :]
        return looked

    def _groups(self, suspects: Mapping[int, frozenset[str]]) -> list[list[int]]:
        """Group suspects that leave the same in one function, largest group first."""
        groups: dict[object, list[int]] = {}
        for number, signals in suspects.items():
            origin, _ = origin_of(self._call(number).frames)
            where = None if origin is None else (origin.file, origin.function)
            groups.setdefault((signals, where), []).append(number)
        return sorted(groups.values(), key=len, reverse=True)

    def _with_calls(
        self,
        finding: Finding,
        suspects: Mapping[int, frozenset[str]],
        numbers: Sequence[int],
    ) -> Finding:
        if finding.accepted:
            return finding
        leaking = [n for n in numbers if finding.signal in suspects.get(n, ())]
        return replace(finding, failing=self._failing(leaking or numbers))

    def _with_managers(
        self,
        findings: Sequence[Finding],
        aftermath: Aftermath,
        numbers: Sequence[int],
    ) -> list[Finding]:
        """Return findings on the same calls, with what their context manager lacks."""
        failing = [f for f in findings if f.failing is not None and not f.accepted]
        if not failing or not self._may_look:
            return list(findings)
        exits = self._entries([numbers[0], numbers[-1]]).exits
        found = (
            (f, how_it_fails(f.lines, self._ways(f, aftermath), exits)) for f in failing
        )
        lead, slug = next((one for one in found if one[1]), (None, ""))
        if lead is None:
            return list(findings)
        told = _caused(lead, slug)
        return [
            replace(f, cause=told.cause, why=told.why, advice=told.advice)
            if f in failing
            else f
            for f in findings
        ]

    def _ways(self, finding: Finding, aftermath: Aftermath) -> list[FailedWay]:
        """Return the first and the last call after which it leaks."""
        if finding.failing is None:
            return []
        numbers = dict.fromkeys(
            (finding.failing.first.number, finding.failing.last.number)
        )
        return [self._way(number, aftermath) for number in numbers]

    def _way(self, number: int, aftermath: Aftermath) -> FailedWay:
        raised = (frames for frames, some in aftermath.raised.items() if number in some)
        ended_at = (
            (swallowed.file, swallowed.line)
            for swallowed, some in aftermath.swallowed.items()
            if swallowed.is_by_exit and number in some
        )
        return FailedWay(
            lines=lines_of(self._call(number).frames),
            raised=lines_of(next(raised, ())),
            ended_at=next(ended_at, None),
        )

    def _of_scopes(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings, those on scopes with the calls after which they stay."""
        for finding in findings:
            numbers: set[int] = set()
            for (kind, at), (_, some) in self._aftermath.left.items():
                line = finding.origin and (finding.origin.file, finding.origin.line)
                if f"tf.{kind}" == finding.signal and line == at:
                    numbers |= some
            if numbers and finding.per_iteration is None:
                failing = replace(finding, failing=self._failing(numbers))
                yield self._with_manager_of_scope(failing)
            else:
                yield replace(finding, failing=None)

    def _with_manager_of_scope(self, finding: Finding) -> Finding:
        """Return a finding with what the manager lacks that entered its scope.

        TensorFlow does not know who entered a scope. So see what another pass enters.
        """
        calls = finding.failing and (finding.failing.first, finding.failing.last)
        if not calls or finding.accepted or not self._may_look:
            return finding
        entries = self._entries([call.number for call in calls])
        made = [*finding.lines, *filter(enters_by_hand, entries.lines)]
        ways = self._ways(finding, self._aftermath)
        return _caused(finding, how_it_fails(made, ways, entries.exits), made)

    @property
    def _may_look(self) -> bool:
        return self._plan.diagnose == "on" and self._deadline.fits(0)

    def _entries(self, numbers: Sequence[int]) -> Entries:
        """Return which context managers are entered where some calls fail."""
        passes = self._passes(numbers)
        with Entries() as entries:
            for _ in numbers:
                passes()
        return entries

    def _failing(self, numbers: Iterable[int]) -> FailingCalls:
        numbers = sorted(numbers)
        return FailingCalls(
            count=len(numbers),
            total=len(self._calls),
            first=self._failed(numbers[0]),
            last=self._failed(numbers[-1]),
        )

    def _failed(self, number: int) -> FailedCall:
        call = self._call(number)
        origin, _ = origin_of(call.frames)
        return FailedCall(number=number, operation=call.operation, origin=origin)

    def _call(self, number: int) -> Call:
        return self._aftermath.calls.get(number) or self._calls[number - 1]

    def _summary(self, failed: int) -> FaultSummary:
        return FaultSummary(
            calls=len(self._calls), failed=failed, error=self._plan.fault_error
        )

    def _doubts(self, targets: Sequence[int]) -> Iterator[Doubt]:
        """Yield what keeps a sweep from being clean: calls that did not fail."""
        after, untried = self._aftermath, len(targets) - len(self._tried)
        if untried:
            detail = (
                f"{self._deadline.option} left no time to make {untried} of "
                f"{len(targets)} calls fail"
            )
            yield Doubt(reason=Reason.OUT_OF_TIME, detail=detail)
        missed = after.unreached.union(*after.damaged.values())
        if len(missed) <= (1 - _REACHED) * max(1, len(self._tried)):
            return
        why = "once a call had failed, the test "
        if after.damaged:
            why += f"failed by itself: {_shown(next(iter(after.damaged)))}"
        else:
            why += "made fewer calls"
        detail = f"{why}; {len(missed)} of {len(targets)} calls were not reached"
        yield Doubt(reason=Reason.NOT_REPEATABLE, detail=detail)

    def _doubts_of_rest(self, grew: bool) -> Iterator[Doubt]:
        """Yield what no time was left to look at."""
        numbers = [n for group in self._not_looked_at for n in group]
        if numbers or grew:
            when = self._when(numbers) if numbers else "while calls fail"
            detail = (
                f"something grows {when}: {self._deadline.option} left no time to "
                "confirm it"
            )
            yield Doubt(reason=Reason.OUT_OF_TIME, detail=detail)

    def _notes_without_sweep(self, status: Status) -> Iterator[str]:
        if not self._calls:
            return
        why = {
            Status.LEAK: "the test already leaks without a fault",
            Status.INCONCLUSIVE: "it is not certain that nothing leaks without a fault",
            Status.NOT_MEASURED: "the test could not be measured without a fault",
        }[status]
        yield f"No call was made to fail, because {why}."

    def _notes(self, most: int) -> Iterator[str]:
        """Yield what was made to fail, and what the code did about it."""
        total, error = len(self._calls), self._plan.fault_error
        failed = len(self._tried)
        if not failed:
            yield "No call was made to fail, because no time was left for it."
        elif failed < most:
            yield (
                f"{failed} of the {total} TensorFlow calls were made to fail, one in "
                f"each iteration ({error}); {self._deadline.option} left no time for "
                "more."
            )
        elif failed < total:
            yield (
                f"{failed} of the {total} TensorFlow calls were made to fail, spread "
                f"evenly, one in each iteration ({error}); iterations={total} tries "
                "all of them."
            )
        else:
            what = "the only TensorFlow call" if total == 1 else "a TensorFlow call"
            tried = "" if total == 1 else f"; all {total} were tried"
            yield f"In each iteration {what} was made to fail ({error}){tried}."
        after = self._aftermath
        swallowed = [
            f"{_at((s.file, s.line))} swallows the error: {s.by} "
            f"({self._when(numbers)})."
            for s, numbers in after.swallowed.items()
        ]
        yield from _some(swallowed)
        yield from _some(
            f"The test went on after the error and failed by itself: {_shown(own)} "
            f"({self._when(numbers)})."
            for own, numbers in after.own.items()
        )
        yield from _some(
            f"Once a call had failed, the next iterations failed by themselves: "
            f'{_shown(own)}. repeat="test" would renew the fixtures for each.'
            for own in after.damaged
        )
        if after.unreached:
            yield (
                f"In {len(after.unreached)} of {failed} cases the test did not get as "
                "far as the call that was to fail."
            )

    def _when(self, numbers: Iterable[int]) -> str:
        numbers = sorted(numbers)
        call = self._call(numbers[0])
        origin, _ = origin_of(call.frames)
        at = "" if origin is None else f" at {place_of(origin)}"
        if len(numbers) == 1:
            return f"when {call.operation}{at} fails"
        return f"when any of {len(numbers)} calls fails, first {call.operation}{at}"


class _Unit(Stage):
    """Passes in which a few calls fail in turn; what each leaves is counted."""

    puts_back = True

    def __init__(self, passes: FailingPasses, plan: Plan) -> None:
        self._passes = passes
        self._plan = plan
        self.suspects: dict[int, frozenset[str]] = {}
        #: The calls that were to fail in measured iterations.
        self.tried: frozenset[int] = frozenset()

    def watch(self, created_at: Callable[[object], Sequence[Frame]]) -> None:
        self._passes.created_at = created_at

    def begin(self, loop: Loop) -> None:
        self._passes.begin()

    def is_enough(self, loop: Loop) -> bool:
        trace = loop.trace
        failed = self._passes.last(trace.measured)
        self.tried = frozenset(failed)
        self.suspects = find_suspects(trace, failed)
        return False


class _Sweep(_Unit):
    """All calls fail in turn; suspects are looked at apart."""

    def __init__(self, passes: FailingPasses, plan: Plan) -> None:
        super().__init__(passes, plan)
        #: Whether something grows over the whole sweep.
        self.grew = False

    def is_enough(self, loop: Loop) -> bool:
        super().is_enough(loop)
        self.grew = is_suspicious(loop.trace, self._plan)
        return bool(self.suspects)

    def left(self) -> Sequence[Leftover]:
        return [left for left, _ in self._passes.aftermath.left.values()]


def spread(calls: int, most: int) -> list[int]:
    """Return which calls are to fail: all, or as many as may, spread evenly."""
    if calls <= most:
        return list(range(1, calls + 1))
    if most == 1:
        return [1]
    return [1 + round(k * (calls - 1) / (most - 1)) for k in range(most)]


def find_suspects(trace: Trace, failed: Sequence[int]) -> dict[int, frozenset[str]]:
    """Return the calls after which counts are higher, with these counts' signals.

    ``failed`` says which call failed in each measured iteration. If it failed more than
    once, the counts must have risen most of the time.
    """
    suspects: dict[int, set[str]] = {}
    first = max(1, trace.warmed_up)  # a first row rises from nothing
    failed = failed[first - trace.warmed_up :]
    visits = {number: failed.count(number) for number in set(failed)}
    for signal in trace:
        row = row_of(signal.name, signal.unit)
        is_count = row.nature == "exact" and not is_size(signal.name, signal.unit)
        if not is_count or row.allowance is None or row.family in _NEVER_SUSPECT:
            continue
        series = trace.series(signal.name)
        rises = dict.fromkeys(visits, 0)
        for number, was, now in zip(
            failed, series[first - 1 :], series[first:], strict=False
        ):
            rises[number] += was is not None and now is not None and now > was
        for number, count in rises.items():
            if count > visits[number] / 2:
                suspects.setdefault(number, set()).add(signal.name)
    return {number: frozenset(suspects[number]) for number in sorted(suspects)}


def _caused(finding: Finding, slug: str, made: Sequence[Origin] = ()) -> Finding:
    """Return a finding with a cause of the table, as it is if there is none.

    ``made`` are the lines of its context manager, if the finding has none of its own.
    """
    cause = cause_named(slug)
    if cause is None:
        return finding
    case = Case(
        finding=replace(finding, stack=(*finding.stack, *made)), evidence=Evidence()
    )
    why, advice = explain(cause.explains, case), fill(cause.remedy, case)
    return replace(finding, cause=slug, why=why, advice=advice)


def _is_of_users(finding: Finding) -> bool:
    """Return whether a finding is not just on what a library holds by itself."""
    row, path = row_of(finding.signal, finding.unit), finding.path
    # the last error keeps a graph for a while, as its traceback has the frames
    is_last_graph = row.family == "graph" and finding.per_iteration is None
    if row.family in _OF_USERS and not is_last_graph:
        return True
    if path is None or path.is_native or path.root.is_library:
        return False
    return path.root.kind not in _OF_LIBRARIES


def joined(swept: Grounds, leaks: Sequence[Grounds]) -> Grounds:
    """Return the grounds of the first leak, with what the others and the sweep found.

    So its figures are of one run.
    """
    found: list[Finding] = []
    for finding in (f for one in (*leaks, swept) for f in one.findings):
        place = next((n for n, one in enumerate(found) if _is_same(one, finding)), None)
        if place is None:
            found.append(finding)
            continue
        before = found[place]
        found[place] = replace(
            before,
            origin=before.origin or finding.origin,
            stack=before.stack if before.origin else finding.stack,
            stored=before.stored or finding.stored,
            failing=_together(before.failing, finding.failing),
        )
    notes = dict.fromkeys(note for one in leaks for note in one.notes)
    return replace(leaks[0], findings=tuple(found), notes=tuple(notes))


def _is_same(one: Finding, other: Finding) -> bool:
    """Return whether two findings are the same but for the calls that failed.

    If both say what holds it, there may have been no time to find the lines of one.
    """
    if (one.signal, one.fingerprint) != (other.signal, other.fingerprint):
        return False
    is_held = one.fingerprint is not None
    return all(
        mine == its or (is_held and None in (mine, its))
        for mine, its in ((one.origin, other.origin), (one.stored, other.stored))
    )


def _together(
    one: FailingCalls | None, other: FailingCalls | None
) -> FailingCalls | None:
    if one is None or other is None:
        return one
    return FailingCalls(
        count=one.count + other.count,
        total=one.total,
        first=min(one.first, other.first, key=lambda call: call.number),
        last=max(one.last, other.last, key=lambda call: call.number),
    )


def _without_growth(swept: Grounds) -> Grounds:
    """Return a sweep without what its suspects explain: they are judged alone."""
    findings = [f for f in swept.findings if f.failing is not None or f.accepted]
    judged = replace(swept.judged, findings=(), doubts=())
    return replace(swept, judged=judged, findings=tuple(findings))


def with_doubts(grounds: Grounds, doubts: Iterable[Doubt]) -> Grounds:
    """Return grounds with more doubts, which a leak leaves without effect.

    They become part of the judgement that counts, and take care that it still does: a
    doubt for lack of time about the run without known causes would have the verdict
    stand on the other one.
    """
    doubts = tuple(doubts)
    if not doubts or decide(grounds).status is Status.LEAK:
        return grounds
    judged = grounds.stands_on
    judged = replace(judged, doubts=(*doubts, *judged.doubts))
    return replace(grounds, judged=judged, rejudged=None)


def _doubts_of(grounds: Grounds) -> Iterator[Doubt]:
    """Yield the doubt on which the verdict stands, if it is inconclusive."""
    verdict = decide(grounds)
    if verdict.status is Status.INCONCLUSIVE and verdict.reason is not None:
        yield Doubt(reason=verdict.reason, detail=verdict.detail or "")


def _with_notes(grounds: Grounds, notes: Iterable[str]) -> Grounds:
    return replace(grounds, notes=(*notes, *grounds.notes))


def _some(notes: Iterable[str]) -> list[str]:
    """Return the first of some notes, and how many there are more."""
    listed = list(notes)
    if len(listed) > _MOST_NOTES:
        more = len(listed) - _MOST_NOTES
        listed = [*listed[:_MOST_NOTES], f"{more} more of this kind."]
    return listed


def _shown(own: OwnError) -> str:
    name, line = own
    return name if line is None else f"{name} at {_at(line)}"


def _at(line: Frame) -> str:
    origin, _ = origin_of([line])
    return line[0] if origin is None else place_of(origin)
