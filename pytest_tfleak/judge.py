"""Decide whether a trace shows a leak. Pure: no clock, no randomness, no I/O.

A leak grows in every window, to the end, and along a line; nothing else does:

    leak            1 2 3 4 5 6 7 8 9 10    grows in every window
    leak            0 0 1 1 2 2 3 3 4 4     so does one of every second iteration
    cache fills     1 2 3 4 5 5 5 5 5 5     stops: the last windows are level
    one-off step    0 0 0 9 9 9 9 9 9 9     one slope of many
    sawtooth        1 2 3 1 2 3 1 2 3 1     the lowest readings do not rise
    warm-up         5 8 9 9.5 9.8 9.9       fades: each slope is smaller
    comes and goes  1 2 1 2 3 4 3 4 5 4     strays too far from the line

1. The first look cuts the judged iterations into five windows. Growth that may still go
   on at the end is a suspicion, and as many iterations again confirm it or do not.
2. The confirmed trace is cut into ten windows, or fewer but no narrower than ten
   iterations, and its last two thirds decide. The level of a window is the median of
   its readings. The largest slope may be a one-off step: it counts for no more than
   twice the second largest.
3. The rate is the median slope over all pairs of levels. Growth is *steady* where each
   slope, and the rise of the lowest readings, is a fair share of the rate, and no level
   strays far from the line. Growth that has stopped, was given back or has faded into
   the allowance is *level*; growth that still shrinks is *fading*; all else is
   *unsteady* and proves nothing.
4. What grew only because garbage waited for a full collection is *level*: of an exact
   series a fair share must be there after one, and be more than most of the allowance.
5. An exact series whose changes repeat themselves three times or more has no noise:
   its rate is the mean of the changes. Noise may hide a leak as large as the allowance,
   so a series with noise is held to the allowance less its uncertainty.

Only steady growth that was confirmed and exceeds the allowance is a LEAK. At 50
iterations ``tests/quality`` holds the rule to under 1 false alarm in 1,000 and to
finding 0.99 of the leaks.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.growth import EVEN
from pytest_tfleak.growth import Growth
from pytest_tfleak.growth import measure_growth
from pytest_tfleak.plan import Plan
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

FIRST_LOOK = 5  # windows
CONFIRMED = 10  # windows
NARROWEST = 10  # iterations in a window of a confirmed trace: a leak may be as rare
FEWEST = 5  # iterations: fewer make no five windows
#: Noise may hide a rate by up to this share of the allowance.
DOUBT = 0.15
#: A confirmation cut short by ``max_time`` must hold this share of the measured part.
SHORTEST_CONFIRMATION = 0.3


def judge(trace: Trace, plan: Plan, nodeid: str = "") -> Verdict:
    """Return the verdict on a trace; exact signals and noisy ones differ by rule 5."""
    cases = [_case(signal, trace, plan) for signal in trace]
    findings = _findings(cases, trace, plan)
    status, reason, detail = _status(cases, findings, trace, plan)
    return Verdict(
        nodeid=nodeid,
        status=status,
        reason=reason,
        detail=detail,
        iterations=trace.judged,
        confirmation=trace.confirmed,
        warmup=trace.warmed_up,
        seconds=trace.seconds,
        body_seconds=trace.body_seconds,
        signals=tuple(_report(case, trace) for case in cases),
        findings=tuple(findings),
    )


def is_suspicious(trace: Trace, plan: Plan) -> bool:
    """Say whether a trace shows growth that more iterations must confirm."""
    return any(_may_leak(_case(signal, trace, plan), trace) for signal in trace)


def allowance_of(signal: Signal, trace: Trace, plan: Plan) -> float | None:
    """Return the growth per iteration that is accepted, None where it never decides."""
    if signal.name in trace.untrusted:
        return None
    if signal.instead_of is not None and _is_measured(signal.instead_of, trace):
        return None
    if not isinstance(signal.allowance, str):
        return signal.allowance
    if signal.name in trace.left:
        return 0.0  # its option says how many may be left, not how fast they may grow
    value: float | None = getattr(plan, signal.allowance)
    return value


@dataclass(frozen=True, slots=True)
class _Case:
    """One signal, read once; ``growth`` is there where it decides."""

    signal: Signal
    series: Sequence[int | None]
    readings: Sequence[int]
    allowance: float | None
    seen: Growth | None
    growth: Growth | None


def _case(signal: Signal, trace: Trace, plan: Plan) -> _Case:
    series = trace.series(signal.name)
    judged = series[trace.warmed_up :]
    collected = trace.collected.get(signal.name, 0)
    if signal.nature == "noisy":
        collected = 0  # RSS keeps the pages that the pause took, and fills them first
    for row in range(trace.measured, len(judged) if collected else 0):
        reading = judged[row]
        judged[row] = None if reading is None else reading + collected
    readings = [value for value in judged if value is not None]
    allowance = allowance_of(signal, trace, plan)
    seen = None
    if len(readings) > 1:
        windows = FIRST_LOOK
        if trace.confirmed:
            windows = min(CONFIRMED, max(FIRST_LOOK, len(readings) // NARROWEST))
        seen = measure_growth(judged, allowance or 0.0, signal.nature, windows)
        if signal.nature == "exact" and signal.name in trace.kept:
            seen = _without_garbage(seen, trace.kept[signal.name], allowance or 0.0)
    decides = allowance is not None and len(readings) >= FEWEST
    return _Case(signal, series, readings, allowance, seen, seen if decides else None)


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
    if growth.shape != "level" and _exceeds(growth, case, trace):
        return True
    if trace.confirmed or growth.repeated:
        return False
    return growth.suspected > allowance * (1 - 1.5 * DOUBT)


def _exceeds(growth: Growth, case: _Case, trace: Trace) -> bool:
    allowance = case.allowance or 0.0
    if growth.repeated:
        return growth.per_iteration > allowance
    doubt = DOUBT * allowance
    if trace.confirmed and case.signal.nature == "exact":
        doubt = min(doubt, 4 * growth.uncertainty)  # of few levels: t, not normal
    return growth.per_iteration > allowance - doubt


def _is_confirmed(trace: Trace) -> bool:
    return trace.confirmed >= SHORTEST_CONFIRMATION * trace.measured > 0


def _findings(cases: Sequence[_Case], trace: Trace, plan: Plan) -> list[Finding]:
    found = (
        _growing(case, trace, plan)
        or _still_there(case.signal, trace, plan)
        or _over_total(case, trace, plan)
        for case in cases
    )
    return [finding for finding in found if finding is not None]


def _growing(case: _Case, trace: Trace, plan: Plan) -> Finding | None:
    growth, signal = case.growth, case.signal
    if growth is None or growth.shape != "steady" or not _is_confirmed(trace):
        return None
    if not _exceeds(growth, case, trace):
        return None
    named = signal.allowance if isinstance(signal.allowance, str) else ""
    if signal.name in trace.left and named and growth.total <= getattr(plan, named):
        return None
    return Finding(
        signal=signal.name,
        unit=signal.unit,
        per_iteration=growth.per_iteration,
        total=growth.total,
        allowance=case.allowance or 0.0,
        first=growth.first,
        last=growth.last,
        allow=named,
    )


def _still_there(signal: Signal, trace: Trace, plan: Plan) -> Finding | None:
    left = trace.left.get(signal.name, 0)
    if not isinstance(signal.allowance, str):
        return None
    allowance = getattr(plan, signal.allowance)
    if left <= (allowance or 0):
        return None
    return Finding(
        signal=signal.name,
        unit=signal.unit,
        per_iteration=None,
        total=left,
        allowance=allowance,
        first=1,
        last=trace.judged,
        allow=signal.allowance,
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


def _status(
    cases: Sequence[_Case], findings: Sequence[Finding], trace: Trace, plan: Plan
) -> tuple[Status, Reason | None, str | None]:
    if findings:
        return Status.LEAK, None, None
    readable = any(case.allowance is not None and case.readings for case in cases)
    if trace.judged and not readable:
        return Status.NOT_MEASURED, Reason.NO_SIGNAL, "no signal could be read"
    cut = trace.measured < plan.iterations
    if trace.judged < FEWEST:
        why = Reason.OUT_OF_TIME if cut else Reason.TOO_FEW_ITERATIONS
        detail = f"{trace.judged} judged iterations; growth needs {FEWEST} or more"
        return Status.INCONCLUSIVE, why, detail
    if cut and trace.judged < 2 * FEWEST:
        detail = f"max_time ended the loop after {trace.judged} judged iterations"
        return Status.INCONCLUSIVE, Reason.OUT_OF_TIME, detail
    for case in cases:
        name, growth = case.signal.name, case.growth
        if growth is None or not _may_leak(case, trace):
            continue
        if not _is_confirmed(trace):
            detail = f"{name} grows, but max_time left no time to confirm it"
            return Status.INCONCLUSIVE, Reason.OUT_OF_TIME, detail
        if growth.shape == "fading":
            detail = f"{name} grows less and less; more iterations would tell"
            return Status.INCONCLUSIVE, Reason.FADING, detail
        if growth.shape == "unsteady":
            detail = f"{name} grows now and then; more iterations would tell"
            return Status.INCONCLUSIVE, Reason.UNSTEADY, detail
    return Status.CLEAN, None, None


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
        allowance=case.allowance,
        decides=case.allowance is not None and bool(case.readings),
        series=tuple(case.series),
        code=None if status == "measured" else trace.codes.get(signal.name),
    )
