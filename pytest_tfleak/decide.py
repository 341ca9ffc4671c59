"""Decide the status of a verdict; no other module does.

``Grounds`` is a frozen value that holds all evidence: what the judge found, what the
experiments showed about known growth, what the baseline and ``ignore`` accept, and how
the body ended. ``_RULES`` lists the rules in order of precedence. All functions are
pure: they use no clock, no I/O, no pytest and no TensorFlow.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING
from typing import NamedTuple

from pytest_tfleak.judge import Doubt
from pytest_tfleak.judge import Judgement
from pytest_tfleak.known import PART
from pytest_tfleak.known import Known
from pytest_tfleak.known import KnownGrowth
from pytest_tfleak.known import Trial
from pytest_tfleak.known import is_lowered
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import left_nothing
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.signals import is_size
from pytest_tfleak.signals import row_of
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import FaultSummary
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SameAs
from pytest_tfleak.verdict import SecondsByPart
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import fingerprint
from pytest_tfleak.verdict import limit_of

if TYPE_CHECKING:
    from pytest_tfleak.run.isolation import Leftover

_CUT = (Reason.OUT_OF_TIME, Reason.OUT_OF_ROOM, Reason.TOO_FEW_ITERATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Why a body did not run all its iterations, or was not repeated at all."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """All evidence for a verdict.

    ``judged`` is the judgement on the run itself. If experiments took known causes
    away, ``growth`` says which ones, and ``rejudged`` is the judgement on the run
    without them. ``findings`` come from ``find_all``; some may be accepted since.
    """

    nodeid: str
    plan: Plan = field(default_factory=Plan)
    via: str = "marker"
    judged: Judgement = field(default_factory=Judgement)
    growth: KnownGrowth = field(default_factory=KnownGrowth)
    rejudged: Judgement | None = None
    findings: tuple[Finding, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()  # name and error of probes that failed
    ended: Ended | None = None
    notes: tuple[str, ...] = ()
    seconds_by_part: SecondsByPart = field(default_factory=SecondsByPart)
    same_as: SameAs | None = None
    faults: FaultSummary | None = None

    @property
    def without_causes(self) -> Judgement | None:
        """Return what was judged without the known causes, if that had enough time."""
        if self.rejudged is None or any(
            doubt.reason in _CUT for doubt in self.rejudged.doubts
        ):
            return None
        return self.rejudged

    @property
    def stands_on(self) -> Judgement:
        """Return the judgement that counts."""
        return self.without_causes or self.judged


class _Outcome(NamedTuple):
    status: Status
    reason: Reason | None = None
    detail: str | None = None


def decide(grounds: Grounds) -> Verdict:
    """Return the verdict on what was measured."""
    outcomes = (rule(grounds) for rule in _RULES)
    status, reason, detail = next(one for one in outcomes if one is not None)
    judged = grounds.stands_on
    return Verdict(
        nodeid=grounds.nodeid,
        status=status,
        reason=reason,
        via=grounds.via,
        detail=detail,
        depth=grounds.plan.depth,
        iterations=judged.iterations,
        confirmation=judged.confirmation,
        warmup=judged.warmup,
        seconds=judged.seconds,
        body_seconds=judged.body_seconds,
        seconds_by_part=grounds.seconds_by_part,
        same_as=grounds.same_as,
        signals=judged.signals,
        # in the order in which a message shows them
        findings=(*_failing(grounds), *_accepted(grounds)),
        notes=grounds.notes,
        faults=grounds.faults,
    )


def _has_ended(grounds: Grounds) -> _Outcome | None:
    ended = grounds.ended
    if ended is None:
        return None
    return _Outcome(Status.NOT_MEASURED, ended.reason, ended.detail)


def _leaks(grounds: Grounds) -> _Outcome | None:
    """Fail on any finding that is not accepted and cannot be known growth."""
    if any(not _missing_for(finding, grounds) for finding in _failing(grounds)):
        return _Outcome(Status.LEAK)
    return None


def _lacks_gpu(grounds: Grounds) -> _Outcome | None:
    """Keep a test that requires a GPU from passing on a machine without one."""
    plan, signals = grounds.plan, grounds.stands_on.signals
    if plan.depth == "leftovers":  # no memory is read
        return None
    required = {
        "require_gpu": ("gpu.allocator", plan.require_gpu),
        "gpu_process": ("gpu.process", plan.gpu_process is not None),
    }
    for option, (name, is_required) in required.items():
        if is_required and not _is_measured(signals, name):
            detail = f"{option} is set, and GPU memory was not measured: "
            detail += _why_not(signals, name)
            return _Outcome(Status.NOT_MEASURED, Reason.GPU_NOT_MEASURED, detail)
    return None


def _is_unread(grounds: Grounds) -> _Outcome | None:
    if not grounds.stands_on.is_unread:
        return None
    return _Outcome(Status.NOT_MEASURED, Reason.NO_SIGNAL, "no signal could be read")


def _is_doubtful(grounds: Grounds) -> _Outcome | None:
    """Keep doubts about a signal even if growth of other signals is accepted."""
    doubt = next(_doubts(grounds), None)
    if doubt is None:
        return None
    return _Outcome(Status.INCONCLUSIVE, doubt.reason, doubt.detail)


def _is_clean(_: Grounds) -> _Outcome:
    return _Outcome(Status.CLEAN)


#: The first rule that applies decides.
_RULES = (_leaks, _has_ended, _lacks_gpu, _is_unread, _is_doubtful, _is_clean)


def _failing(grounds: Grounds) -> list[Finding]:
    return ordered(f for f in grounds.findings if not f.accepted)


def _accepted(grounds: Grounds) -> list[Finding]:
    return ordered(f for f in grounds.findings if f.accepted)


def _is_measured(signals: Sequence[SignalReport], name: str) -> bool:
    return any(s.status == "measured" for s in signals if s.name.startswith(name))


def _why_not(signals: Sequence[SignalReport], name: str) -> str:
    reasons = (s.reason for s in signals if s.name.startswith(name) and s.reason)
    return next(reasons, "TensorFlow has found no GPU")


def _doubts(grounds: Grounds) -> Iterator[Doubt]:
    """Yield what keeps a run without a leak from being clean, most important first."""
    for finding in _failing(grounds):
        yield _doubt_of(finding, grounds)
    for doubt in grounds.stands_on.doubts:
        if not _is_answered(doubt, grounds):
            yield doubt
    if grounds.without_causes is not None:
        yield from _unrelated_doubts(grounds)
    if grounds.broken:
        failed = ", ".join(f"{name} ({why})" for name, why in grounds.broken)
        yield Doubt(reason=Reason.PROBE_FAILED, detail=f"not read to the end: {failed}")


def _is_answered(doubt: Doubt, grounds: Grounds) -> bool:
    """Return whether the growth in doubt is accepted by the baseline or ``ignore``."""
    return any(
        finding.signal == doubt.signal
        for finding in grounds.findings
        if finding.accepted and (finding.baseline or finding.ignored)
    )


def _unrelated_doubts(grounds: Grounds) -> Iterator[Doubt]:
    """Yield doubts about signals that no known cause affects."""
    related = {signal for cause in grounds.growth.causes for signal in cause.signals}
    found = {finding.signal for finding in grounds.findings}
    for doubt in grounds.judged.doubts:
        if doubt.signal is not None and doubt.signal not in related | found:
            yield doubt


def _missing_for(finding: Finding, grounds: Grounds) -> list[Known]:
    """Return the known causes that could explain a finding and were not ruled out."""
    if finding.per_iteration is None or finding.known is not None:
        return []
    growth = grounds.growth
    unjudged = growth.causes if grounds.without_causes is None else ()
    entries = (*unjudged, *growth.untried)
    return [entry for entry in entries if finding.signal in entry.signals]


def _doubt_of(finding: Finding, grounds: Grounds) -> Doubt:
    """Return a doubt that names the missing experiments and what prevented them."""
    growth, signal = grounds.growth, finding.signal
    missing = _missing_for(finding, grounds)
    shown = [entry for entry in missing if entry in growth.causes]
    names = ", ".join(f"{entry.title} ({entry.issue})" for entry in shown or missing)
    if shown:
        detail = f"a part of {signal} is known growth: "
        task = f"judging what is left without {names}"
    else:
        detail = f"{signal} may be known growth: "
        task = f"the experiment{'' if len(missing) == 1 else 's'} on {names}"
    if growth.failure is not None:
        reason = Reason.NOT_REPEATABLE
        detail += f"{task} did not finish: {growth.failure}"
    else:
        out_of_room = growth.is_out_of_room
        reason = Reason.OUT_OF_ROOM if out_of_room else Reason.OUT_OF_TIME
        detail += f"{left_nothing(growth.limit)} for {task}"
    return Doubt(reason=reason, detail=detail, signal=signal)


def find_all(grounds: Grounds, leftovers: Sequence[Leftover]) -> tuple[Finding, ...]:
    """Return findings on what grew, and on what the body entered and never left.

    Known growth has findings of its own, which are accepted if the plan says so.
    """
    findings = with_remedies(grounds.stands_on.findings, grounds)
    if grounds.without_causes is not None:
        findings += _gone_with_causes(grounds)
    return (*findings, *_never_left(findings, leftovers, grounds))


def with_remedies(findings: Iterable[Finding], grounds: Grounds) -> list[Finding]:
    """Add the known cause and the remedy that the experiments suggest for findings."""
    # what was judged without the causes has none of their growth to lose
    without = () if grounds.without_causes is None else grounds.growth.causes
    trials = [trial for trial in grounds.growth.trials if trial.entry not in without]
    released = grounds.growth.released
    return [_with_remedy(finding, trials, released) for finding in findings]


def _with_remedy(
    finding: Finding, trials: Sequence[Trial], released: frozenset[str]
) -> Finding:
    """Add the remedy that the experiments suggest for a finding."""
    signal = finding.signal
    trials = [trial for trial in trials if trial.signal == signal]
    most = _largest(trial for trial in trials if trial.entry and trial.entry.remedy)
    if most is not None and most.entry is not None:
        least = min(trial.after for trial in trials)
        part = "This is for the larger part. " if least > limit_of(finding) else ""
        return replace(
            finding,
            known=most.entry.name,
            advice=f"{part}{most.entry.remedy}",
            experiments=_experiments(trials, most.entry),
        )
    advice = None
    if signal in released:
        advice = "{clear_session} releases it: call it after each iteration"
    return replace(finding, advice=advice, experiments=_experiments(trials))


def _largest(trials: Iterable[Trial]) -> Trial | None:
    """Return the trial that lowered a signal most."""
    return max(trials, key=lambda trial: trial.before - trial.after, default=None)


def _experiments(
    trials: Iterable[Trial], entry: Known | None = None, rest: Finding | None = None
) -> tuple[Experiment, ...]:
    """Return the experiments to show: all, or those on one entry if it is given.

    Of growth without its ``rest`` they show what stays of that part.
    """
    left = 0.0 if rest is None else rest.per_iteration or 0.0
    return tuple(
        Experiment(
            name=trial.words,
            per_iteration=trial.after if rest is None else max(0.0, trial.after - left),
        )
        for trial in trials
        if entry is None or trial.entry == entry
    )


def _gone_with_causes(grounds: Grounds) -> list[Finding]:
    """Return the findings, or parts of them, that disappeared with the causes."""
    accepts = grounds.plan.known == "report"
    left = {finding.signal: finding for finding in grounds.stands_on.findings}
    own, known = [], []
    for finding in grounds.judged.findings:
        rest = left.get(finding.signal)
        gone = finding if rest is None else _part_gone(finding, rest)
        cause = None if gone is None else _cause_of(gone, grounds.growth)
        if gone is not None and cause is not None:
            trials = [t for t in grounds.growth.trials if t.signal == gone.signal]
            experiments = _experiments(trials, cause, rest)
            known.append(
                replace(
                    gone, known=cause.name, accepted=accepts, experiments=experiments
                )
            )
        elif rest is None:
            own.append(finding)  # no experiment explains why it disappeared
    return own + known


def _part_gone(finding: Finding, rest: Finding) -> Finding | None:
    """Return the part of a finding that disappeared, None if it grows as before."""
    before, after = finding.per_iteration, rest.per_iteration
    if before is None or after is None:
        return None
    if not is_lowered(before, after, limit_of(finding), PART):
        return None
    total = round(finding.total * (before - after) / before)
    return replace(finding, per_iteration=before - after, total=total)


def _cause_of(gone: Finding, growth: KnownGrowth) -> Known | None:
    """Return the cause whose removal ended growth, None if no experiment shows one."""
    if gone.per_iteration is None:
        return None  # objects that outlived the run need not grow
    most = _largest(
        trial
        for trial in growth.trials
        if trial.signal == gone.signal and trial.entry in growth.causes
    )
    if most is not None:
        return most.entry
    # taking away any cause also frees the memory that it keeps in use
    if is_size(gone.signal, gone.unit) and any(
        gone.signal in cause.signals for cause in growth.causes
    ):
        return growth.causes[0]
    return None


def _never_left(
    findings: Sequence[Finding], leftovers: Sequence[Leftover], grounds: Grounds
) -> Iterator[Finding]:
    """Yield what was entered and never left, unless another finding shows it."""
    found = {finding.signal for finding in findings}
    for leftover in leftovers:
        row = row_of(f"tf.{leftover.kind}", "entries")
        allowance = getattr(grounds.plan, row.option) if row.option else 0
        if leftover.leak and row.name not in found and leftover.count > allowance:
            yield Finding(
                signal=row.name,
                unit=row.unit,
                per_iteration=None,
                total=leftover.count,
                allowance=allowance,
                first=1,
                last=grounds.stands_on.iterations,
                allow=row.option,
                what=leftover.text,
                origin=leftover.origin,
                stack=leftover.stack,
                fingerprint=fingerprint(row.name, "left"),
            )


def notes_on_known(grounds: Grounds) -> Iterator[str]:
    """Yield notes on what the experiments showed and no finding mentions."""
    growth, without = grounds.growth, grounds.without_causes
    if without is None:
        yield from growth.notes
        return
    shown = {finding.known for finding in grounds.findings}
    for entry in growth.causes:
        if entry.name not in shown:
            yield f"A part of it is known growth: {entry.title} ({entry.issue})."
    yield (
        f"Judged on {without.iterations} iterations without the known growth of "
        "TensorFlow, which is shown apart."
    )
    if _failing(grounds):
        yield from growth.notes


def accept_ignored(
    findings: Sequence[Finding], patterns: Sequence[str]
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Accept findings whose holder or line matches a pattern of ``ignore``.

    Return all findings, and notes on those that match.
    """
    marked, notes = [], []
    for finding in findings:
        pattern = None if finding.accepted else _matching(finding, patterns)
        if pattern is None:
            marked.append(finding)
            continue
        marked.append(replace(finding, accepted=True, ignored=pattern))
        notes.append(
            f"{finding.signal} grows, and does not fail the test: it matches "
            f"ignore={pattern!r}."
        )
    return tuple(marked), tuple(notes)


def _modules_of(file: str) -> Iterator[str]:
    """Yield what a file may be called as a module: ``legacy``, ``app.legacy``, ..."""
    parts = PurePath(file).with_suffix("").parts
    parts = parts[:-1] if parts[-1:] == ("__init__",) else parts
    for first in range(len(parts)):
        yield ".".join(parts[first:])


def _matching(finding: Finding, patterns: Sequence[str]) -> str | None:
    names = list(edges_of(finding.path)) if finding.path is not None else []
    names.append(" -> ".join(names))
    for line in filter(None, (finding.origin, finding.stored)):
        names += [line.file, f"{line.file}:{line.line}", line.function]
        names += _modules_of(line.file)
    found = (p for p in patterns if any(fnmatchcase(name, p) for name in names))
    return next(found, None)
