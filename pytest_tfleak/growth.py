"""Measure how a series of readings grows. Pure; the rule is told in ``judge.py``.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from itertools import combinations
from itertools import pairwise
from math import inf
from statistics import fmean
from statistics import median
from typing import Literal

#: A slope under this share of the rate does not count: a leak takes its share in every
#: window.
EVEN = 0.25
#: A slope of so many times the typical one holds a one-off step, which is no rate.
STEP = 1.5
#: A level may stray from the line by this share of the whole rise.
STRAYS = 0.1
#: Growth fades if its last third falls to these shares of the third before it, and of
#: the larger of the two thirds before it. Growth as log(i) falls to 0.63 and 0.2.
SHRINKS, FADES = 0.85, 0.6
#: Growth whose last slope is under this share of the smallest before it has stopped.
STOPS = 0.6

#: Growth at irregular moments is a leak after so many rises.
MANY = 6
#: Iterations: the longest period in which changes are looked at for repetition.
LONGEST = 60

Shape = Literal["level", "steady", "fading", "unsteady"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How one signal moved over the judged iterations."""

    shape: Shape = "level"
    per_iteration: float = 0.0
    uncertainty: float = 0.0  # one standard error of per_iteration
    repeated: bool = True  # changes repeat themselves: there is no uncertainty
    suspected: float = 0.0  # the growth per iteration that may have begun
    total: int = 0
    first: int = 1  # the judged iterations in which it grew, from 1
    last: int = 1


def measure_growth(
    readings: Sequence[int | None], allowance: float, nature: str, windows: int
) -> Growth:
    """Return how a series of readings grows, against an allowance per iteration."""
    points = [(i, value) for i, value in enumerate(readings) if value is not None]
    values = [value for _, value in points]
    if not points or min(values) == max(values):
        return Growth(last=len(readings))
    levels = _windows(points, min(windows, len(points)))
    slopes = [_slope(a, b) for a, b in pairwise(levels)]
    skip = len(slopes) // 3  # the last two thirds decide
    line = _line(levels[skip:], _without_steps(slopes, skip))
    floor = line.rate * EVEN
    shape, rate = _shape(levels, slopes, line, allowance), line.rate
    repeated = None
    if nature == "exact":
        repeated = _repeated(points[len(points) // 3 :])
    if repeated is not None:
        shape, rate = "steady" if repeated > 0 else "level", repeated
    elif shape == "steady" and nature == "exact" and _is_silent(points):
        shape = "level"
    counts = nature == "exact" and allowance < 1  # any rise of those is too much
    if counts and shape != "steady" and repeated is None and _is_irregular(points):
        shape, rate = "steady", (values[-1] - values[0]) / (len(values) - 1)
    started = [
        level.first
        for level, slope in zip(levels[:-1], slopes, strict=True)
        if slope > floor
    ]
    return Growth(
        shape=shape,
        per_iteration=rate,
        uncertainty=0.0 if repeated is not None else line.error,
        repeated=repeated is not None,
        suspected=max(_suspected(levels, slopes), _seldom(points) if counts else 0.0),
        total=values[-1] - values[0],
        first=(started or [points[0][0]])[0] + 1,
        last=points[-1][0] + 1,
    )


def longest_gap(readings: Sequence[int | None], per_iteration: float) -> int:
    """Return the most iterations from one rise to the next, of growth at a known rate.

    A rise is at least half the rate: less is noise.
    """
    known = [value for value in readings if value is not None]
    rises = [
        at
        for at, (a, b) in enumerate(pairwise(known))
        if b - a >= max(0.5, per_iteration / 2)
    ]
    return max((b - a for a, b in pairwise(rises)), default=len(known))


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
    strays: float  # the furthest that a level is from the line


def _windows(points: Sequence[tuple[int, int]], count: int) -> list[_Window]:
    size = len(points) / count
    cuts = [points[round(k * size) : round((k + 1) * size)] for k in range(count)]
    return [
        _Window(
            first=cut[0][0],
            at=median(i for i, _ in cut),
            middle=median(value for _, value in cut),
            low=min(value for _, value in cut),
        )
        for cut in cuts
        if cut
    ]


def _slope(a: _Window, b: _Window) -> float:
    return (b.middle - a.middle) / (b.at - a.at)


def _without_steps(slopes: Sequence[float], skip: int) -> list[float]:
    """Return the slopes from ``skip`` on, up to a third of them made typical.

    Those hold one-off steps: they stand out from the others and from the slope before.
    """
    deciding = slopes[skip:]
    ordered = sorted(deciding)
    usual = len(deciding) - len(deciding) // 3
    typical = median(ordered[:usual])
    if typical <= 0 or usual == len(deciding):
        most = 2 * max(0.0, ordered[-2]) if len(deciding) > 2 else ordered[-1]
        return [min(slope, most) for slope in deciding]
    even: list[float] = []
    for before, slope in pairwise([*([-inf, *slopes][skip : skip + 1]), *deciding]):
        follows_step = bool(even) and even[-1] != before
        stands_out = slope > STEP * typical and slope >= ordered[usual]
        is_step = stands_out and (slope > before or follows_step)
        even.append(typical if is_step else slope)
    return even


def _line(levels: Sequence[_Window], slopes: Sequence[float]) -> _Line:
    """Return the line through levels that rise by the given slopes."""
    at = [level.at for level in levels]
    rises = (
        slope * (b - a) for slope, (a, b) in zip(slopes, pairwise(at), strict=True)
    )
    heights = list(accumulate(rises, initial=0.0))
    pairs = combinations(zip(at, heights, strict=True), 2)
    rate = median((high - low) / (b - a) for (a, low), (b, high) in pairs)
    off = [height - rate * x for x, height in zip(at, heights, strict=True)]
    middle, center = median(off), fmean(at)
    spread = sum((value - middle) ** 2 for value in off) / max(1, len(off) - 2)
    error = (spread / sum((x - center) ** 2 for x in at)) ** 0.5
    return _Line(rate, error, max(abs(value - middle) for value in off))


def _shape(
    levels: Sequence[_Window], slopes: Sequence[float], line: _Line, allowance: float
) -> Shape:
    floor = line.rate * EVEN
    skip = len(slopes) // 3
    deciding = slopes[skip:]
    if line.rate <= 0 or deciding[-1] <= floor or min(deciding) < -floor:
        return "level"
    if len(deciding) > 1 and deciding[-1] < STOPS * min(deciding[:-1]):
        return "level"
    half = (len(levels) - skip) // 2
    early, late = levels[skip : skip + half], levels[-half:]
    kept = min(level.low for level in late) - min(level.low for level in early)
    if kept <= floor * (fmean(w.at for w in late) - fmean(w.at for w in early)):
        return "level"  # what was taken was given back: a sawtooth
    middle = len(deciding) // 2
    before = median(deciding[:middle] or deciding)
    first = median(slopes[:skip]) if skip else before
    latest = median(deciding[middle:])
    if latest < SHRINKS * before and latest < FADES * max(first, before):
        return "fading" if latest > allowance else "level"
    strays = line.strays > STRAYS * line.rate * (levels[-1].at - levels[skip].at)
    return "unsteady" if strays or min(deciding) <= floor else "steady"


def _suspected(levels: Sequence[_Window], slopes: Sequence[float]) -> float:
    """Return growth that began late, or that has been seen only now and then."""
    a, b = levels[-2:]
    kept = (b.low - a.low) / (b.at - a.at)
    began = slopes[-1] if kept > EVEN * slopes[-1] else 0.0
    fell = -EVEN * max(slopes)
    given_back = min(slopes) < fell or any(
        (b.low - a.low) / (b.at - a.at) < fell for a, b in pairwise(levels)
    )
    one_off = max(slopes) > 0.7 * sum(slopes)
    ended = max(slopes[-2:]) < EVEN * max(slopes)
    return max(began, 0.0 if given_back or one_off or ended else fmean(slopes))


def _is_irregular(points: Sequence[tuple[int, int]]) -> bool:
    """Say whether readings only rise, now and then, and as often late as early."""
    rises = _rises(points)
    if rises is None or len(rises) < MANY or _is_silent(points):
        return False
    cuts = [points[k * (len(points) - 1) // 3][1] for k in range(4)]
    first, second, last = (b - a for a, b in pairwise(cuts))
    return second > 1 and last > 1 and 2 * last >= max(first, second)


def _seldom(points: Sequence[tuple[int, int]]) -> float:
    """Return the growth of readings that only rise, and did so of late."""
    rises = _rises(points)
    if rises is None or len(rises) < 2 or rises[-1] < 2 * len(points) / 3:
        return 0.0
    return (points[-1][1] - points[0][1]) / len(points)


def _rises(points: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return where readings rise, None where they fall as well."""
    if any(b[1] < a[1] for a, b in pairwise(points)):
        return None
    return [k for k, (a, b) in enumerate(pairwise(points), 1) if b[1] > a[1]]


def _repeated(points: Sequence[tuple[int, int]]) -> float | None:
    """Return the mean change of readings whose changes repeat themselves exactly."""
    if points[-1][0] - points[0][0] != len(points) - 1:
        return None  # readings are missing
    changes = [b - a for (_, a), (_, b) in pairwise(points)]
    for period in range(1, min(LONGEST, len(changes) // 3) + 1):
        if changes[period:] == changes[:-period]:
            return fmean(changes[:period])
    return None


def _is_silent(points: Sequence[tuple[int, int]]) -> bool:
    """Say whether the last rise lies further back than rises lie apart."""
    rises = [b[0] for a, b in pairwise(points) if b[1] > a[1]]
    rises = [at for at in rises if at >= points[-1][0] // 3]
    longest = max((b - a for a, b in pairwise(rises)), default=points[-1][0])
    return len(rises) > 2 and points[-1][0] - rises[-1] > 2 * longest
