"""Judge what a trace shows of each signal. Pure: no clock, no randomness, no I/O.

A leak grows in every window, to the end, and along a line; nothing else does:

    leak            1 2 3 4 5 6 7 8 9 10    grows in every window
    leak            0 0 1 1 2 2 3 3 4 4     so does one of every second iteration
    cache fills     1 2 3 4 5 5 5 5 5 5     stops: the last windows are level
    one-off step    0 0 0 9 9 9 9 9 9 9     one slope of many
    sawtooth        1 2 3 1 2 3 1 2 3 1     the lowest readings do not rise
    warm-up         5 8 9 9.5 9.8 9.9       fades: each slope is smaller
    comes and goes  1 2 1 2 3 4 3 4 5 4     strays too far from the line

1. The first look cuts the judged iterations into five windows. Growth that may go on at
   the end is suspicious, and as many iterations again confirm it or do not.
2. The confirmed trace is cut into ten windows, or fewer but no narrower than ten
   iterations, and its last two thirds decide. The level of a window is the median of
   its readings. The largest slope may be a one-off step: it counts for no more than
   twice the second largest.
3. The rate is the median slope over all pairs of levels. Growth is *steady* if each
   slope, and the rise of the lowest readings, is a fair share of the rate, and no level
   strays far from the line. Growth that has stopped, was given back or has faded into
   the allowance is *level*; growth that still shrinks is *fading*; all else is
   *unsteady* and proves nothing.
4. Growth that is only garbage waiting for a full collection is *level*: after one, a
   fair share of the growth of an exact series must remain, and exceed most of the
   allowance.
5. An exact series whose changes repeat themselves three times or more has no noise:
   its rate is the mean of the changes. Noise may hide a leak as large as the allowance,
   so the limit for a series with noise is the allowance minus its uncertainty.
6. An allowance is a rate, or it says how many may be left after the run (``sessions``,
   ``graphs``). Then steady growth is a leak once it adds up to more than that.
7. RSS decides if there is no heap figure. Otherwise it can only raise a doubt: by
   steady growth that is large, outlasts a pause, and is in no exact figure.
8. A single fall may mean that older objects were freed, or that a buffer was emptied.
   Growth is a leak if it goes on after the fall for long enough: the run takes up to
   seven times the iterations of the first look, and the fall must lie so early in it
   that it does not decide (``steps``).
9. A run at quick depth may stop after a few iterations that show that nothing grows
   (``sequential``).
10. Where known growth has been taken away, a size may grow by 0.5 % of that growth on
    top of its allowance.
11. If a pool's figure flips between what is in use and whole chunks, its lows are
    judged (``lows``).
12. Threads that were there before free memory as they end, which may hide growth. If
    more ended than started, five iterations in which none ended must show no growth.

Only steady growth that was confirmed and exceeds the allowance is a finding, which
makes a LEAK; growth that proves nothing is a doubt. ``tests/quality`` requires, at 50
iterations, fewer than 1 false alarm in 1,000 and that 99 % of the leaks are found.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import inf
from statistics import median

from pytest_tfleak.judge.growth import EVEN
from pytest_tfleak.judge.growth import Growth
from pytest_tfleak.judge.growth import measure_growth
from pytest_tfleak.judge.lows import follow_lows
from pytest_tfleak.judge.steps import see_through
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import left_nothing
from pytest_tfleak.quantities import format_quantity
from pytest_tfleak.signals import LARGEST_BLOCK
from pytest_tfleak.signals import base_name
from pytest_tfleak.signals import counts_whole_run
from pytest_tfleak.signals import is_size
from pytest_tfleak.signals import row_of
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Stopped
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import DOUBT
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport

FIRST_LOOK = 5  # windows
CONFIRMED = 10  # windows
NARROWEST = 10  # iterations in a window of a confirmed trace: a leak may be as rare
FEWEST = 5  # iterations: fewer make no five windows
#: As many are enough if huge growth in each of them has used up a resource: the first
#: is not judged.
FEWEST_AT_LIMIT = 4
#: Growth counts beside other threads if it is so many times what they move.
OUTWEIGHS = 4
#: What is left of a size once known growth is taken away may be off by this share of
#: that growth, as no cause is taken away to the last byte.
UNSURE = 0.005
#: The signal that shows threads end.
THREADS = "process.threads"
#: A confirmation cut short by ``max_time`` must hold this share of the measured part.
SHORTEST_CONFIRMATION = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a run proves nothing: of one signal, or of all if ``signal`` is None."""

    reason: Reason
    detail: str
    signal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a trace shows, signal by signal; the status is not decided yet."""

    iterations: int = 0  # judged ones, confirmation included
    confirmation: int = 0
    warmup: int = 0
    seconds: float = 0.0
    body_seconds: float = 0.0
    signals: tuple[SignalReport, ...] = ()
    findings: tuple[Finding, ...] = ()
    doubts: tuple[Doubt, ...] = ()  # weightiest first, none of a signal with a finding
    is_unread: bool = False  # iterations ran, and no signal that decides was read


def judge(trace: Trace, plan: Plan) -> Judgement:
    """Judge a trace; exact signals and noisy ones differ by rule 5."""
    cases = [_case(signal, trace, plan) for signal in trace]
    findings = tuple(_findings(cases, trace, plan))
    if trace.judges_warmup and not any(_uses_up(found, trace) for found in findings):
        findings = ()  # growth in the first iterations may be a warm-up
    return Judgement(
        iterations=trace.judged,
        confirmation=trace.confirmed,
        warmup=trace.warmed_up,
        seconds=trace.seconds,
        body_seconds=trace.body_seconds,
        signals=tuple(_report(case, trace) for case in cases),
        findings=findings,
        doubts=tuple(_doubts(cases, findings, trace, plan)),
        is_unread=trace.judged > 0
        and not any(case.allowance is not None and case.readings for case in cases),
    )


def is_suspicious(trace: Trace, plan: Plan) -> bool:
    """Return whether a trace shows growth that more iterations must confirm."""
    cases = [_case(signal, trace, plan) for signal in trace]
    return any(_may_leak(case, trace) for case in cases) or any(
        _unexplained(cases, trace)
    )


def unjudged_rate(trace: Trace, plan: Plan, name: str) -> float:
    """Return the steady growth per iteration of a signal that does not decide, or 0."""
    for signal in trace:
        if signal.name == name and allowance_of(signal, trace, plan) is None:
            seen = _case(signal, trace, plan).seen
            return seen.per_iteration if seen and seen.shape == "steady" else 0.0
    return 0.0


def is_enough_at_limit(trace: Trace, stopped: Stopped, plan: Plan) -> bool:
    """Return whether growth that ended a run early may be judged.

    After fewer iterations it may be a warm-up, unless it is huge.
    """
    if stopped.is_huge:
        return trace.rows >= FEWEST_AT_LIMIT
    return trace.rows >= plan.warmup + FEWEST


def iterations_wanted(trace: Trace, plan: Plan) -> int:
    """Return how many more iterations show whether a fall was an emptied buffer.

    They may show another fall, so call it again after them. The result is 0 if there
    was no such fall, or if another signal leaks in any case.
    """
    cases = [_case(signal, trace, plan) for signal in trace]
    if any(_growing(case, trace) for case in cases):
        return 0
    wanted = [
        case.growth.decided_after - trace.judged
        for case in cases
        if case.growth is not None
    ]
    return max([0, *wanted])


def allowance_of(signal: Signal, trace: Trace, plan: Plan) -> float | None:
    """Return the accepted growth per iteration, None if the signal never decides."""
    if signal.name in trace.untrusted:
        return None
    if signal.instead_of is not None and _is_measured(signal.instead_of, trace):
        return None
    if not isinstance(signal.allowance, str):
        return signal.allowance
    if counts_whole_run(signal.allowance):
        return 0.0
    value: float | None = getattr(plan, signal.allowance)
    if value is None:
        return None
    unsure = 0.0
    if is_size(signal.name, signal.unit):
        unsure = UNSURE * trace.taken_away.get(signal.name, 0.0)
    return max(value, row_of(signal.name).noise) + unsure


def most_left(signal: Signal, plan: Plan) -> int | None:
    """Return how many may be left after the run, None for an allowance that is a rate.

    If it is 0, nothing may grow during the run, either.
    """
    if isinstance(signal.allowance, str) and counts_whole_run(signal.allowance):
        most: int = getattr(plan, signal.allowance)
        return most
    return None


@dataclass(frozen=True, slots=True)
class _Case:
    """One signal, looked at once; ``growth`` is None if it does not decide."""

    signal: Signal
    series: Sequence[int | None]
    judged: Sequence[int | None]  # without what pauses freed
    readings: Sequence[int]  # the ones of these that are there
    allowance: float | None  # per iteration
    doubtful: float | None  # growth per iteration that is a doubt if it decides nothing
    most: int | None  # left after the run
    seen: Growth | None
    growth: Growth | None


def _case(signal: Signal, trace: Trace, plan: Plan) -> _Case:
    series = trace.series(signal.name)
    judged = trace.without_pauses(signal)
    readings = [value for value in judged if value is not None]
    allowance = allowance_of(signal, trace, plan)
    doubtful = _doubtful(signal, trace, plan) if allowance is None else None
    accepted, seen = allowance or doubtful or 0.0, None
    if len(readings) > 1:
        seen = _see(signal, judged, readings, trace, accepted)
        is_exact = signal.nature == "exact" or doubtful is not None
        if is_exact and signal.name in trace.kept:
            seen = _without_garbage(seen, _kept(signal, seen, trace), accepted)
    fewest = FEWEST if trace.stopped is None else FEWEST_AT_LIMIT - 1
    decides = allowance is not None and len(readings) >= fewest
    growth = seen if decides else None
    most = most_left(signal, plan)
    return _Case(
        signal, series, judged, readings, allowance, doubtful, most, seen, growth
    )


def _doubtful(signal: Signal, trace: Trace, plan: Plan) -> float | None:
    """Return the growth that is a doubt though the signal decides nothing."""
    least = row_of(signal.name, signal.unit).doubtful
    if least is None or signal.name in trace.untrusted:
        return None
    return max(least, plan.host_per_iteration)


def _see(
    signal: Signal,
    judged: Sequence[int | None],
    readings: Sequence[int],
    trace: Trace,
    allowance: float,
) -> Growth:
    """Return how a signal grows, with the corrections that an exact series allows."""
    windows = FIRST_LOOK
    if trace.confirmed:
        windows = min(CONFIRMED, max(FIRST_LOOK, len(readings) // NARROWEST))
    measure = partial(
        measure_growth, allowance=allowance, nature=signal.nature, windows=windows
    )
    seen = measure(judged)
    if signal.nature != "exact":
        return seen
    least = _suspicious_above(allowance)
    seen = see_through(seen, readings, measure, least, max(1, trace.measured))
    if is_size(signal.name, signal.unit):
        seen = follow_lows(seen, readings, measure)
    return seen


def _kept(signal: Signal, seen: Growth, trace: Trace) -> float:
    """Return the growth per iteration that was still there after a pause."""
    if seen.is_of_lows and signal.name in trace.released:  # each reading is high or low
        released = trace.released[signal.name] / max(1, trace.confirmed)
        return seen.per_iteration - released
    return trace.kept[signal.name]


def _without_garbage(seen: Growth, kept: float, allowance: float) -> Growth:
    if kept < EVEN * seen.per_iteration or kept <= allowance * (1 - 2 * DOUBT):
        left = min(max(kept, 0.0), seen.per_iteration)
        return replace(seen, shape="level", per_iteration=left)
    return seen


def _is_measured(name: str, trace: Trace) -> bool:
    if name not in [signal.name for signal in trace] or name in trace.untrusted:
        return False
    return any(value is not None for value in trace.judged_series(name))


def _may_leak(case: _Case, trace: Trace) -> bool:
    growth, allowance = case.growth, case.allowance
    if growth is None or allowance is None:
        return False
    if growth.decided_after > trace.judged and trace.unconfirmed is not None:
        return True
    if growth.shape != "level" and _exceeds(growth, case, trace):
        return True
    if trace.confirmed or growth.repeated:
        return False
    return growth.suspected > _suspicious_above(allowance)


def _suspicious_above(allowance: float) -> float:
    return allowance * (1 - 1.5 * DOUBT)


def _exceeds(growth: Growth, case: _Case, trace: Trace) -> bool:
    if trace.confirmed and case.most is not None and growth.total <= case.most:
        return False
    allowance = case.allowance or 0.0
    if growth.repeated:
        return growth.per_iteration > allowance
    doubt = DOUBT * allowance
    if trace.confirmed and case.signal.nature == "exact":
        doubt = min(doubt, 4 * growth.uncertainty)  # few levels: t, not normal
    return growth.per_iteration > allowance - doubt


def _is_confirmed(trace: Trace) -> bool:
    if trace.unconfirmed is not None:
        return False
    return trace.confirmed >= SHORTEST_CONFIRMATION * trace.measured > 0


def _findings(cases: Sequence[_Case], trace: Trace, plan: Plan) -> list[Finding]:
    found = (
        _growing(case, trace)
        or _still_there(case, trace)
        or _over_total(case, trace, plan)
        for case in cases
    )
    return _apart([finding for finding in found if finding is not None])


def _uses_up(finding: Finding, trace: Trace) -> bool:
    """Return whether growth is a fair share of what used a resource up."""
    if trace.stopped is None or finding.per_iteration is None:
        return True
    least = EVEN * trace.stopped.per_iteration
    is_of_it = base_name(finding.signal) in trace.stopped.signals
    return is_of_it and finding.per_iteration >= least


def _growing(case: _Case, trace: Trace) -> Finding | None:
    growth, signal = case.growth, case.signal
    if growth is None or growth.shape != "steady" or not _is_confirmed(trace):
        return None
    if not _exceeds(growth, case, trace):
        return None
    if _is_disturbed(case, trace) and growth.total < OUTWEIGHS * _idle(case, trace):
        return None
    return Finding(
        signal=signal.name,
        unit=signal.unit,
        per_iteration=growth.per_iteration,
        total=growth.total,
        allowance=case.most or case.allowance or 0.0,
        first=growth.first,
        last=growth.last,
        allow=_option(signal),
    )


def _apart(findings: Sequence[Finding]) -> list[Finding]:
    """Drop growth of memory that another finding counts as well, on that device."""
    growing = {f.signal for f in findings if f.per_iteration is not None}

    def is_counted(finding: Finding) -> bool:
        name = base_name(finding.signal)
        device = finding.signal.removeprefix(name)
        wholes = row_of(finding.signal, finding.unit).part_of
        return any(whole + device in growing for whole in wholes)

    return [finding for finding in findings if not is_counted(finding)]


def _option(signal: Signal) -> str:
    return signal.allowance if isinstance(signal.allowance, str) else ""


def _still_there(case: _Case, trace: Trace) -> Finding | None:
    signal, left = case.signal, trace.left.get(case.signal.name, 0)
    most: float | None = case.most
    if most is None and case.allowance is not None:
        most = case.allowance * trace.rows  # a rate allows as many
    if most is None or left <= most:
        return None
    return Finding(
        signal=signal.name,
        unit=signal.unit,
        per_iteration=None,
        total=left,
        allowance=most,
        first=1,
        last=trace.judged,
        allow=_option(signal),
    )


def _over_total(case: _Case, trace: Trace, plan: Plan) -> Finding | None:
    signal = case.signal
    limit = getattr(plan, signal.total) if signal.total else None
    if limit is None or case.allowance is None:
        return None
    planned = case.series[trace.warmed_up : trace.warmed_up + trace.measured]
    readings = [value for value in planned if value is not None]
    if not readings or readings[-1] - readings[0] <= limit:
        return None
    return Finding(
        signal=signal.name,
        unit=signal.unit,
        per_iteration=(readings[-1] - readings[0]) / max(1, len(readings) - 1),
        total=readings[-1] - readings[0],
        allowance=limit,
        first=1,
        last=len(planned),
        allow=signal.total or "",
    )


def _doubts(
    cases: Sequence[_Case], findings: Sequence[Finding], trace: Trace, plan: Plan
) -> Iterator[Doubt]:
    found = {finding.signal for finding in findings}
    for case in cases:
        if case.signal.name not in found and _is_disturbed(case, trace):
            moves = format_quantity(_idle(case, trace), case.signal.unit)
            yield Doubt(
                reason=Reason.UNSTEADY,
                detail=f"{case.signal.name} moves by {moves} while the body does not "
                "run: other threads allocate",
                signal=case.signal.name,
            )
    if trace.is_settled:
        return
    for case in cases:
        if case.signal.name not in found and _may_hide_behind_threads(case, trace):
            yield Doubt(
                reason=Reason.UNSTEADY,
                detail="other threads end meanwhile, and what "
                f"{case.signal.name} falls by then may hide a leak",
                signal=case.signal.name,
            )
    yield from _doubts_of_all(trace, plan)
    for case in cases:
        if case.signal.name not in found and _may_leak(case, trace):
            doubt = _doubt_of(case, trace)
            if doubt is not None:
                yield doubt
    for case in _unexplained(cases, trace):
        if case.seen is not None and case.seen.shape == "steady":
            yield _doubt_of_unexplained(case, trace)


def _idle(case: _Case, trace: Trace) -> int:
    return trace.idle.get(case.signal.name, 0)


def _is_disturbed(case: _Case, trace: Trace) -> bool:
    """Return whether other threads move a signal enough to hide or feign a leak."""
    allowed = max(case.allowance or 0.0, 1.0) * trace.judged
    return case.growth is not None and _idle(case, trace) > EVEN * allowed


def _may_hide_behind_threads(case: _Case, trace: Trace) -> bool:
    """Return whether ending threads free enough to hide growth of a signal.

    They do if it grows wherever none ends, or if too few iterations show that.
    """
    is_exact = case.growth is not None and case.signal.nature == "exact"
    if not is_exact or case.signal.name == THREADS or not _is_measured(THREADS, trace):
        return False
    threads = trace.judged_series(THREADS)
    rows = [
        (running, value)
        for running, value in zip(threads, case.judged, strict=True)
        if running is not None and value is not None
    ]
    if not rows or rows[-1][0] >= rows[0][0]:  # the body's own, started and ended
        return False
    calm: list[int] = []
    ending: list[int] = []
    for (ran, before), (runs, after) in pairwise(rows):
        (calm if runs >= ran else ending).append(after - before)
    allowance = case.allowance or 0.0
    if len(calm) >= FEWEST:
        return median(calm) > allowance
    return sum(min(0, change) for change in ending) < -EVEN * allowance * len(rows)


def _doubts_of_all(trace: Trace, plan: Plan) -> Iterator[Doubt]:
    is_cut = trace.measured < plan.iterations
    few = f"{trace.judged} judged iteration{'s' * (trace.judged != 1)}"
    if trace.stopped is not None:
        detail = f"{trace.limit} ended the loop after {few}"
        yield Doubt(reason=Reason.OUT_OF_ROOM, detail=detail)
    elif is_cut and trace.judged < 2 * FEWEST:
        detail = f"{trace.limit} ended the loop after {few}"
        yield Doubt(reason=Reason.OUT_OF_TIME, detail=detail)
    elif trace.judged < FEWEST:
        detail = f"{few}; growth needs {FEWEST} or more"
        yield Doubt(reason=Reason.TOO_FEW_ITERATIONS, detail=detail)


def _doubt_of(case: _Case, trace: Trace) -> Doubt | None:
    name = case.signal.name
    shape = None if case.growth is None else case.growth.shape
    if not _is_confirmed(trace):
        reason = _why_unconfirmed(trace)
        detail = f"{name} grows, but " + (
            trace.unconfirmed or f"{left_nothing(trace.limit)} to confirm it"
        )
    elif shape == "fading":
        reason = Reason.FADING
        detail = f"{name} grows less and less; more iterations would tell"
    elif shape == "unsteady":
        reason = Reason.UNSTEADY
        detail = f"{name} grows now and then; more iterations would tell"
    else:
        return None
    return Doubt(reason=reason, detail=detail, signal=name)


def _why_unconfirmed(trace: Trace) -> Reason:
    return Reason.OUT_OF_TIME if trace.stopped is None else Reason.OUT_OF_ROOM


def _unexplained(cases: Sequence[_Case], trace: Trace) -> Iterator[_Case]:
    """Yield signals that grow a lot, decide nothing, and are in no exact figure.

    Before the confirmation these include any that may just have begun to grow.
    """
    explained = sum(_explains(case) for case in cases)
    for case in cases:
        seen, doubtful = case.seen, case.doubtful
        if seen is None or doubtful is None or len(case.readings) < 2 * FEWEST:
            continue
        if trace.confirmed:
            grows = seen.per_iteration if seen.shape == "steady" else 0.0
        else:
            grows = seen.suspected
        if grows - explained > doubtful * (1 - DOUBT):
            yield case


def _explains(case: _Case) -> float:
    """Return how many bytes per iteration an exact signal accounts for."""
    seen, signal = case.seen, case.signal
    row = row_of(signal.name, signal.unit)
    if seen is None or signal.nature != "exact" or row.part_of:
        return 0.0
    if row.family == "system":  # a thread or a descriptor takes an unknown amount
        return inf if seen.shape == "steady" and seen.per_iteration > 0 else 0.0
    each = {"B": 1, "blocks": LARGEST_BLOCK}.get(signal.unit, 0)
    rise = seen.total / (len(case.readings) - 1)
    return each * max(0.0, seen.per_iteration, rise)


def _doubt_of_unexplained(case: _Case, trace: Trace) -> Doubt:
    name = case.signal.name
    if not _is_confirmed(trace):
        why = trace.unconfirmed or f"{left_nothing(trace.limit)} to confirm it"
        detail = f"{name} grows, but {why}"
        return Doubt(reason=_why_unconfirmed(trace), detail=detail, signal=name)
    rate = 0.0 if case.seen is None else case.seen.per_iteration
    detail = (
        f"{name} grows by {format_quantity(rate, case.signal.unit)} per iteration, "
        "which neither the heap nor any object explains"
    )
    return Doubt(reason=Reason.UNEXPLAINED, detail=detail, signal=name)


def _report(case: _Case, trace: Trace) -> SignalReport:
    signal, seen = case.signal, case.seen
    status = "measured" if case.readings else "unavailable"
    if signal.name in trace.untrusted:
        status = "untrusted"
    reason = trace.reasons.get(signal.name)
    if status == "unavailable" and reason is None:
        reason = "not read"
    return SignalReport(
        name=signal.name,
        unit=signal.unit,
        status=status,
        reason=None if status == "measured" else reason,
        per_iteration=None if seen is None else seen.per_iteration,
        total=None if seen is None else seen.total,
        allowance=None if case.allowance is None else case.most or case.allowance,
        decides=case.allowance is not None and bool(case.readings),
        series=tuple(case.series),
        code=None if status == "measured" else trace.codes.get(signal.name),
    )
