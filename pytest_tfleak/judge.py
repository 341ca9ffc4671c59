"""Decide whether a trace shows a leak. Pure: no clock, no randomness, no I/O.

A leak grows from window to window, to the end, and along a line; nothing else does:

    leak            1 2 3 4 5 6 7 8 9 10    grows in every window
    leak            0 0 1 1 2 2 3 3 4 4     so does one of every second iteration
    cache fills     1 2 3 4 5 5 5 5 5 5     stops: the last windows are level
    one-off step    0 0 0 9 9 9 9 9 9 9     one slope of many
    sawtooth        1 2 3 1 2 3 1 2 3 1     the lowest readings do not rise
    warm-up         5 8 9 9.5 9.8 9.9       fades: each slope is smaller
    comes and goes  1 2 1 2 3 4 3 4 5 4     strays too far from the line

1. Five windows give the first look. Growth at its end, or over its last three slopes,
   is a suspicion, and as many iterations again confirm it or do not.
2. The confirmed trace is cut into ten windows, and its last two thirds decide. The level
   of a window is the median of its readings. A slope of more than twice the median slope
   is a one-off step, and counts as twice the median.
3. The rate is the median slope between all pairs of levels. Growth is *steady* if every
   slope, and the rise of the lowest readings, is a fair share of the rate and of the
   allowance, and if no level strays far from the line. What ends early is *level*, what
   shrinks from third to third is *fading*, all else is *unsteady* and proves nothing.
   Where ten windows are too narrow for a leak that is rare or noisy, five may show it.
4. A series whose changes repeat themselves exactly, three times or more, has no noise:
   its rate is the mean of the changes, and no window blurs it.

``tests/quality`` holds the rule to its false-alarm rate, under 1 in 1,000, and to its
power, 0.99.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from itertools import combinations
from itertools import pairwise
from statistics import fmean
from statistics import median
from typing import Literal

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
FEWEST = 5  # iterations: fewer make no five windows
#: A slope under this share of the allowance does not count as growth. Clean Keras tests
#: grow by up to half the default allowance.
GROWS = 0.5
#: Nor does one under this share of the rate: a leak takes its share in every window.
EVEN = 0.25
#: Growth fades if its last third fell to the first of these shares of the third before,
#: or each third to the second.
FADES = 0.6
SHRINKS = 0.85
#: A level may stray from the line by this share of the whole rise.
STRAYS = 0.1
#: Doubt that noise may cast on a rate: this share of the allowance.
DOUBT = 0.15
#: A confirmation cut short by ``max_time`` must hold this share of the judged iterations.
SHORTEST_CONFIRMATION = 0.3

Shape = Literal["level", "steady", "fading", "unsteady"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How one signal moved over the judged iterations."""

    shape: Shape
    per_iteration: float
    exact: bool  # free of noise: per_iteration is no estimate
    uncertainty: float  # one standard error of per_iteration
    latest: float  # the growth per iteration between the last two windows
    total: int
    first: int  # the judged iterations in which it grew, from 1
    last: int


def judge(trace: Trace, plan: Plan, nodeid: str = "") -> Verdict:
    """Return the verdict on a trace: exact signals and noisy ones by their own rules."""
    cases = [_case(signal, trace, plan) for signal in trace]
    findings = [f for case in cases if (f := _finding(case, trace, plan)) is not None]
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
    return any(_may_leak(_case(signal, trace, plan)) for signal in trace)


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


def measure_growth(
    readings: Sequence[int | None], allowance: float, nature: str, windows: int
) -> Growth:
    """Return how a series of readings grows, against an allowance per iteration."""
    points = [(i, value) for i, value in enumerate(readings) if value is not None]
    values = [value for _, value in points]
    if not points or min(values) == max(values):
        last = len(readings)
        return Growth(
            shape="level", per_iteration=0.0, exact=True, uncertainty=0.0, latest=0.0,
            total=0, first=1, last=last,
        )
    levels = _windows(points, min(windows, len(points)))
    slopes = [(b.middle - a.middle) / (b.at - a.at) for a, b in pairwise(levels)]
    skip = len(slopes) // 3
    line = _line(levels[skip:], _without_step(slopes[skip:]))
    floor = max(allowance * GROWS, line.rate * EVEN)
    shape = _shape(levels, slopes, line, floor)
    if shape == "steady" and nature == "exact" and _has_stopped(points):
        shape = "level"
    rate, error = line.rate, line.error
    repeated = _repeated(points, len(points) // 3)
    if repeated is not None:
        shape, rate, error = "steady" if repeated > 0 else "level", repeated, 0.0
    grown = [i for i, slope in enumerate(slopes) if slope > floor]
    started = levels[grown[0]].first if grown else points[0][0]
    return Growth(
        shape=shape,
        per_iteration=rate,
        exact=repeated is not None,
        uncertainty=error,
        latest=max(_latest(levels), _spread(levels, slopes)),
        total=values[-1] - values[0],
        first=started + 1,
        last=points[-1][0] + 1,
    )


@dataclass(frozen=True, slots=True)
class _Window:
    first: int
    at: float
    middle: float
    low: int


@dataclass(frozen=True, slots=True)
class _Line:
    rate: float
    error: float
    strays: float  # of the levels, the furthest from the line


def _windows(points: Sequence[tuple[int, int]], count: int) -> list[_Window]:
    size = len(points) / count
    cuts = [points[round(k * size) : round((k + 1) * size)] for k in range(count)]
    return [
        _Window(
            first=cut[0][0],
            at=fmean(i for i, _ in cut),
            middle=median(value for _, value in cut),
            low=min(value for _, value in cut),
        )
        for cut in cuts
        if cut
    ]


def _latest(levels):
    a, b = levels[-2:]
    return min(b.middle - a.middle, b.low - a.low) / (b.at - a.at)


def _spread(levels, slopes):
    lows = [b.low - a.low for a, b in pairwise(levels)]
    if min(slopes) < 0 or min(lows) < 0 or max(slopes) > 0.7 * sum(slopes): return 0.0
    return fmean(slopes)


def _line(levels: Sequence[_Window], slopes: Sequence[float]) -> _Line:
    """Return the line through levels that rise by the given slopes."""
    at = [level.at for level in levels]
    rises = (slope * (b - a) for slope, (a, b) in zip(slopes, pairwise(at)))
    heights = list(accumulate(rises, initial=0.0))
    pairs = list(combinations(zip(at, heights), 2))
    if not pairs:
        return _Line(0.0, 0.0, 0.0)
    rate = median((y - x) / (b - a) for (a, x), (b, y) in pairs)
    off = [height - rate * a for a, height in zip(at, heights)]
    middle = median(off)
    spread = sum((value - middle) ** 2 for value in off) / max(1, len(off) - 2)
    center = fmean(at)
    error = (spread / sum((a - center) ** 2 for a in at)) ** 0.5
    return _Line(rate, error, max(abs(value - middle) for value in off))


def _without_step(slopes):
    if len(slopes) < 3: return list(slopes)
    cap = 2 * max(0.0, sorted(slopes)[-2])
    return [min(slope, cap) for slope in slopes]


def _shape(levels, slopes, line, floor) -> Shape:
    skip = len(slopes) // 3
    deciding = slopes[skip:]
    span = levels[-1].at - levels[skip].at
    if line.rate <= 0 or deciding[-1] <= floor:
        return "level"
    if min(deciding) < -floor:
        return "level"
    half = (len(deciding)+1) // 2
    early, late = levels[skip:][:half], levels[skip:][-half:]
    kept = min(w.low for w in late) - min(w.low for w in early)
    apart = fmean(w.at for w in late) - fmean(w.at for w in early)
    if kept <= floor * apart:
        return "level"
    if min(deciding) <= floor or line.strays > STRAYS * line.rate * span:
        return "unsteady"
    first = fmean(_without_step(slopes[:skip]) or [0.0])
    rest = _without_step(deciding)
    second = fmean(rest[: len(rest) // 2] or rest)
    third = fmean(rest[len(rest) // 2 :])
    if third < SHRINKS * second and third < FADES * max(first, second):
        return "fading"
    return "steady"


def _repeated(points: Sequence[tuple[int, int]], skip: int) -> float | None:
    """Return the mean change of a series whose changes repeat themselves exactly."""
    tail = points[skip:]
    if tail[-1][0] - tail[0][0] != len(tail) - 1:
        return None  # readings are missing
    changes = [b[1] - a[1] for a, b in pairwise(tail)]
    for period in range(1, len(changes) // 3 + 1):
        if changes[period:] == changes[:-period]:
            return fmean(changes[:period])
    return None


def _has_stopped(points: Sequence[tuple[int, int]]) -> bool:
    """Say whether the last rise lies further back than rises lie apart."""
    rises = [
        b[0]
        for a, b in pairwise(points)
        if b[1] > a[1] and b[0] >= len(points) // 3  # as the deciding windows do
    ]
    if len(rises) < 3:
        return False
    longest = max(b - a for a, b in pairwise(rises))
    return points[-1][0] - rises[-1] > 2 * longest


def _is_measured(name: str, trace: Trace) -> bool:
    if name not in [signal.name for signal in trace] or name in trace.untrusted:
        return False
    return any(value is not None for value in trace.judged_series(name))


@dataclass(frozen=True, slots=True)
class _Case:
    """One signal, read once: its judged series, its allowance and its growth."""

    signal: Signal
    readings: list[int]
    allowance: float | None
    growth: Growth | None
    confirmed: bool

    @property
    def decides(self):
        return self.allowance is not None and len(self.readings) >= FEWEST


def _case(signal: Signal, trace: Trace, plan: Plan) -> _Case:
    judged = trace.judged_series(signal.name)
    readings = [value for value in judged if value is not None]
    allowance = allowance_of(signal, trace, plan)
    growth = None
    if len(readings) >= 2:
        accepted = allowance or 0.0
        windows = FIRST_LOOK
        if trace.confirmed:
            windows = min(CONFIRMED, max(FIRST_LOOK, len(readings)//10))
        growth = measure_growth(judged, accepted, signal.nature, windows)
    return _Case(signal, readings, allowance, growth, bool(trace.confirmed))


def _may_leak(case: _Case) -> bool:
    growth = case.growth
    if growth is None or not case.decides: return False
    if growth.shape != "level" and _exceeds(case): return True
    return (not case.confirmed and not growth.exact
        and growth.latest > 0.75 * case.allowance)


def _exceeds(case: _Case) -> bool:
    g=case.growth
    if g.exact:
        return g.per_iteration > case.allowance
    # a leak just as large as the allowance must not hide behind the noise
    most = DOUBT * case.allowance
    doubt = min(4 * g.uncertainty, most) if case.confirmed and case.signal.nature=='exact' else most
    return g.per_iteration > max(0,case.allowance - doubt)


def _finding(case, trace, plan):
    return (
            _growing(case, trace, plan)
            or _still_there(case.signal, trace, plan)
            or _over_total(case.signal, trace, plan)
        )


def _growing(case, trace: Trace, plan: Plan) -> Finding | None:
    growth, signal = case.growth, case.signal
    if growth is None or not case.decides or growth.shape != "steady" or not _is_confirmed(trace):
        return None
    if not _exceeds(case):
        return None
    if signal.name in trace.left and isinstance(signal.allowance, str):
        if growth.total <= getattr(plan, signal.allowance):
            return None
    return Finding(
        signal=signal.name,
        unit=signal.unit,
        per_iteration=growth.per_iteration,
        total=growth.total,
        allowance=case.allowance,
        first=growth.first,
        last=growth.last,
        allow=signal.allowance if isinstance(signal.allowance, str) else "",
    )


def _still_there(signal: Signal, trace: Trace, plan: Plan) -> Finding | None:
    left = trace.left.get(signal.name, 0)
    if not isinstance(signal.allowance, str):
        return None
    allowance = getattr(plan, signal.allowance)
    if left <= allowance:
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


def _over_total(signal: Signal, trace: Trace, plan: Plan) -> Finding | None:
    limit = getattr(plan, signal.total) if signal.total else None
    if limit is None or allowance_of(signal, trace, plan) is None:
        return None
    planned = trace.judged_series(signal.name)[: trace.measured]
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
        last=len(readings),
        allow=signal.total or "",
    )


def _is_confirmed(trace: Trace) -> bool:
    return trace.confirmed >= SHORTEST_CONFIRMATION * trace.measured > 0


def _status(cases, findings, trace, plan
) -> tuple[Status, Reason | None, str | None]:
    if findings:
        return Status.LEAK, None, None
    if not any(c.allowance is not None and c.readings for c in cases):
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
        if not _may_leak(case): continue
        if not _is_confirmed(trace):
            detail = f"{case.signal.name} grows, but max_time left no time to confirm it"
            return Status.INCONCLUSIVE, Reason.OUT_OF_TIME, detail
        if case.growth.shape == "fading":
            detail = f"{case.signal.name} grows less and less; more iterations would tell"
            return Status.INCONCLUSIVE, Reason.FADING, detail
        detail = f"{case.signal.name} grows now and then; more iterations would tell"
        return Status.INCONCLUSIVE, Reason.UNSTEADY, detail
    return Status.CLEAN, None, None


def _report(case, trace) -> SignalReport:
    signal=case.signal
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
        per_iteration=case.growth and case.growth.per_iteration,
        total=case.growth and case.growth.total,
        allowance=case.allowance,
        decides=case.allowance is not None and bool(case.readings),
        series=tuple(trace.series(signal.name)),
    )
