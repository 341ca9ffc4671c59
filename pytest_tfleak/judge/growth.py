"""Measure how a series of readings grows: which shape it has, and at which rate.

Pure: no clock, no randomness, no I/O. ``measure_growth`` takes these steps:

1. Cut the readings into windows. The median of a window is its level, which a few wild
   readings do not move.
2. Take the slope from each level to the next. The first third of them may still belong
   to a warm-up; the others decide.
3. Fit a line through the deciding levels, with one-off steps made even.
4. Name the shape: ask the questions of ``_SHAPES`` in their order.
5. Look at the single changes of an exact series. They show more than windows if they
   repeat themselves, if the last rise lies far back, and if objects are kept at
   irregular moments.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from itertools import accumulate
from itertools import combinations
from itertools import pairwise
from math import inf
from statistics import fmean
from statistics import median
from typing import Literal

#: A slope under this share of the rate does not count as growth: a leak grows in every
#: window.
EVEN = 0.25
#: A slope of so many times the typical one includes a one-off step, which is no rate.
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
#: The longest period, in iterations, in which changes may repeat themselves.
LONGEST = 60

Shape = Literal["level", "steady", "fading", "unsteady"]
#: An iteration, from 0, and its reading.
Point = tuple[int, int]


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
    is_of_lows: bool = False  # of the lowest readings only: the others flip
    #: The judged iterations after which it is clear whether a fall hides growth; 0 if
    #: there is no such fall.
    decided_after: int = 0


def measure_growth(
    readings: Sequence[int | None],
    allowance: float,
    nature: str,
    windows: int,
) -> Growth:
    """Return how a series of readings grows, compared to an allowance per iteration."""
    points = [(at, value) for at, value in enumerate(readings) if value is not None]
    if len({value for _, value in points}) < 2:
        return Growth(last=len(readings))
    course = _follow(_cut(points, min(windows, len(points))))
    trend = _Trend(shape=_shape_of(course, allowance), rate=course.line.rate)
    suspected = _suspect(course)
    if nature == "exact":
        counts = allowance < 1  # any rise of a count is too much
        trend = _correct(trend, points, counts=counts)
        if counts:
            suspected = max(suspected, _rate_of_rare_rises(points))
    return Growth(
        shape=trend.shape,
        per_iteration=trend.rate,
        uncertainty=0.0 if trend.repeated else course.line.error,
        repeated=trend.repeated,
        suspected=suspected,
        total=points[-1][1] - points[0][1],
        first=_first_of(points, course.begins) + 1,
        last=points[-1][0] + 1,
    )


def longest_gap(readings: Sequence[int | None], per_iteration: float) -> int:
    """Return the most iterations from one rise to the next, for growth of this rate.

    A rise is at least half the rate; less is noise.
    """
    known = [value for value in readings if value is not None]
    rises = [
        at
        for at, (a, b) in enumerate(pairwise(known))
        if b - a >= max(0.5, per_iteration / 2)
    ]
    return max((b - a for a, b in pairwise(rises)), default=len(known))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Some consecutive readings as one level."""

    first: int  # the iteration of its first reading
    at: float  # the iteration in its middle
    level: float
    low: int

    def slope_to(self, later: _Window) -> float:
        return (later.level - self.level) / (later.at - self.at)

    def rise_of_lows_to(self, later: _Window) -> float:
        return (later.low - self.low) / (later.at - self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A straight line through levels."""

    rate: float
    error: float  # one standard error of the rate
    strays: float  # the furthest that a level is from the line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """The windows of a series, the slopes between them, and the line that they follow.

    Only the slopes from ``skip`` on decide, and so do the windows that they connect.
    """

    windows: Sequence[_Window]
    slopes: Sequence[float]
    skip: int
    line: _Line

    @property
    def floor(self) -> float:
        """The least slope that counts as growth."""
        return EVEN * self.line.rate

    @property
    def deciding(self) -> Sequence[float]:
        return self.slopes[self.skip :]

    @property
    def begins(self) -> int:
        """The iteration, from 0, in whose window the growth begins."""
        for window, slope in zip(self.windows, self.slopes, strict=False):
            if slope > self.floor:
                return window.first
        return self.windows[0].first


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trend:
    shape: Shape
    rate: float
    repeated: bool = False


# Windows, slopes and a line


def _first_of(points: Sequence[Point], begins: int) -> int:
    """Return the iteration, from 0, in which growth begins.

    ``begins`` is that in which its window begins, which may be level at first: longer
    than from any later rise to the next.
    """
    rises = [b[0] for a, b in pairwise(points) if b[1] > a[1] and b[0] > begins]
    if len(rises) < 2 or any(b[1] < a[1] for a, b in pairwise(points)):
        return begins
    longest = max(b - a for a, b in pairwise(rises))
    return rises[0] if rises[0] - begins > longest else begins


def _cut(points: Sequence[Point], count: int) -> list[_Window]:
    """Cut points into so many windows of the same size."""
    size = len(points) / count
    cuts = [points[round(k * size) : round((k + 1) * size)] for k in range(count)]
    return [
        _Window(
            first=cut[0][0],
            at=median(at for at, _ in cut),
            level=median(value for _, value in cut),
            low=min(value for _, value in cut),
        )
        for cut in cuts
        if cut
    ]


def _follow(windows: Sequence[_Window]) -> _Course:
    slopes = [a.slope_to(b) for a, b in pairwise(windows)]
    skip = len(slopes) // 3
    line = _fit([w.at for w in windows[skip:]], _make_even(slopes, skip))
    return _Course(windows=windows, slopes=slopes, skip=skip, line=line)


def _make_even(slopes: Sequence[float], skip: int) -> list[float]:
    """Return the deciding slopes, with up to a third of them replaced by a typical one.

    Those include one-off steps: they stand out from the others and from the slope
    before. If no slope is typical, none counts for more than twice the second largest.
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


def _fit(at: Sequence[float], slopes: Sequence[float]) -> _Line:
    """Fit a line to levels with these slopes; its rate is the median over all pairs."""
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
    strays = max(abs(value - middle) for value in off)
    return _Line(rate=rate, error=error, strays=strays)


# The shape


def _shape_of(course: _Course, allowance: float) -> Shape:
    for is_so, shape in _SHAPES:
        if is_so(course, allowance):
            return shape
    return "steady"


def _does_not_rise(course: _Course, allowance: float) -> bool:
    return course.line.rate <= 0


def _has_stopped(course: _Course, allowance: float) -> bool:
    """Return whether the last slope is no growth, or much less than any before it."""
    *before, last = course.deciding
    return last <= course.floor or (bool(before) and last < STOPS * min(before))


def _falls(course: _Course, allowance: float) -> bool:
    return min(course.deciding) < -course.floor


def _gives_back(course: _Course, allowance: float) -> bool:
    """Return whether the lowest readings do not rise, as with a sawtooth."""
    half = (len(course.windows) - course.skip) // 2
    early = course.windows[course.skip : course.skip + half]
    late = course.windows[-half:]
    kept = min(w.low for w in late) - min(w.low for w in early)
    iterations = fmean(w.at for w in late) - fmean(w.at for w in early)
    return kept <= course.floor * iterations


def _fades_away(course: _Course, allowance: float) -> bool:
    """Return whether growth shrinks and has come down to the allowance."""
    return _fades(course, allowance) and _latest(course) <= allowance


def _fades(course: _Course, allowance: float) -> bool:
    """Return whether growth shrinks: the last third compared to the two before it."""
    deciding = course.deciding
    before = median(deciding[: len(deciding) // 2] or deciding)
    first = median(course.slopes[: course.skip]) if course.skip else before
    latest = _latest(course)
    return latest < SHRINKS * before and latest < FADES * max(first, before)


def _latest(course: _Course) -> float:
    return median(course.deciding[len(course.deciding) // 2 :])


def _comes_and_goes(course: _Course, allowance: float) -> bool:
    """Return whether a deciding slope is no growth, or a level is far from the line."""
    windows, line = course.windows[course.skip :], course.line
    rise = line.rate * (windows[-1].at - windows[0].at)
    return line.strays > STRAYS * rise or min(course.deciding) <= course.floor


#: The questions about a course, in order; the first yes names its shape. If none
#: applies, its growth is steady.
_SHAPES: Sequence[tuple[Callable[[_Course, float], bool], Shape]] = (
    (_does_not_rise, "level"),
    (_has_stopped, "level"),
    (_falls, "level"),
    (_gives_back, "level"),
    (_fades_away, "level"),
    (_fades, "fading"),
    (_comes_and_goes, "unsteady"),
)


# What more iterations must confirm


def _suspect(course: _Course) -> float:
    """Return growth that began late, or that has been seen only now and then."""
    windows, slopes = course.windows, course.slopes
    kept = windows[-2].rise_of_lows_to(windows[-1])
    began = slopes[-1] if kept > EVEN * slopes[-1] else 0.0
    fell = -EVEN * max(slopes)
    given_back = min(slopes) < fell or any(
        a.rise_of_lows_to(b) < fell for a, b in pairwise(windows)
    )
    one_off = max(slopes) > 0.7 * sum(slopes)
    ended = max(slopes[-2:]) < EVEN * max(slopes)
    return max(began, 0.0 if given_back or one_off or ended else fmean(slopes))


# The single changes of an exact series


def _correct(trend: _Trend, points: Sequence[Point], *, counts: bool) -> _Trend:
    """Correct the trend of the windows by the single changes of an exact series."""
    repeated = _repeated_change(points[len(points) // 3 :])
    if repeated is not None:
        shape: Shape = "steady" if repeated > 0 else "level"
        return _Trend(shape=shape, rate=repeated, repeated=True)
    if trend.shape == "steady":
        return replace(trend, shape="level") if _is_silent(points) else trend
    if counts and _rises_at_random(points):
        rate = (points[-1][1] - points[0][1]) / (len(points) - 1)
        return replace(trend, shape="steady", rate=rate)
    return trend


def _repeated_change(points: Sequence[Point]) -> float | None:
    """Return the mean change of readings whose changes repeat themselves exactly."""
    if points[-1][0] - points[0][0] != len(points) - 1:
        return None  # readings are missing
    changes = [b - a for (_, a), (_, b) in pairwise(points)]
    for period in range(1, min(LONGEST, len(changes) // 3) + 1):
        if changes[period:] == changes[:-period]:
            return fmean(changes[:period])
    return None


def _is_silent(points: Sequence[Point]) -> bool:
    """Return whether the last rise lies further back than rises lie apart."""
    rises = [b[0] for a, b in pairwise(points) if b[1] > a[1]]
    rises = [at for at in rises if at >= points[-1][0] // 3]
    longest = max((b - a for a, b in pairwise(rises)), default=points[-1][0])
    return len(rises) > 2 and points[-1][0] - rises[-1] > 2 * longest


def _rises_at_random(points: Sequence[Point]) -> bool:
    """Return whether readings only rise, at irregular moments, and late as well."""
    rises = _rises(points)
    if rises is None or len(rises) < MANY or _is_silent(points):
        return False
    cuts = [points[k * (len(points) - 1) // 3][1] for k in range(4)]
    first, second, last = (b - a for a, b in pairwise(cuts))
    return second > 1 and last > 1 and 2 * last >= max(first, second)


def _rate_of_rare_rises(points: Sequence[Point]) -> float:
    """Return the growth of readings that only rise, and still did so recently."""
    rises = _rises(points)
    if rises is None or len(rises) < 2 or rises[-1] < 2 * len(points) / 3:
        return 0.0
    return (points[-1][1] - points[0][1]) / len(points)


def _rises(points: Sequence[Point]) -> list[int] | None:
    """Return where readings rise, None if they fall as well."""
    if any(b[1] < a[1] for a, b in pairwise(points)):
        return None
    return [k for k, (a, b) in enumerate(pairwise(points), 1) if b[1] > a[1]]
