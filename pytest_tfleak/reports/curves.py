"""Draw the readings of a signal as an SVG curve, large or as small as a word.

The SVG needs no script and no network, can be printed, follows the page's colours, and
takes about 400 bytes, while a chart library takes megabytes. Colours and dashes are
attributes, so that a curve also looks right on other pages; a page's own style
overrides them.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from itertools import groupby
from itertools import pairwise

from pytest_tfleak.quantities import format_count
from pytest_tfleak.quantities import format_quantity
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import signed

WIDTH, HEIGHT = 640, 210
_LEFT, _RIGHT, TOP, _BOTTOM = 76, 10, 40, 24
_SMALL_STEP, _SMALL_HEIGHT = 4, 96  # in units that the page scales
MOST_POINTS = 400  # more points could not be seen apart
MOST_SMALL_POINTS = 64
#: A steep allowance or a noisy warm-up may extend the judged range by this share.
_MARGIN = 0.6
_LETTER = 6.0  # approximate width of a letter, to see whether a label fits
_APART = 15 * _LETTER  # the least distance of a mark from the last one, which is long

Point = tuple[int, int | None]  # a row of the series, and its reading

_STYLES = {
    "w": 'stroke="#7b818b" stroke-width="2" stroke-dasharray="0.1 4"',
    "m": 'stroke="#2f6fde" stroke-width="2"',
    "c": 'stroke="#b4560a" stroke-width="2"',
    "a": 'stroke="#7b818b" stroke-dasharray="5 4"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A series of readings, its parts, and its allowance."""

    name: str
    unit: str
    series: Sequence[int | None]  # warm-up first, confirmation last
    warmup: int = 0
    confirmation: int = 0
    allowance: float | None = None  # per iteration, or for the run if ``in_all``
    in_all: bool = False

    @property
    def judged(self) -> list[int]:
        """Return the readings after the warm-up, without missing ones."""
        return [value for value in self.series[self.warmup :] if value is not None]

    @property
    def parts(self) -> list[tuple[str, int, int]]:
        """Return the name of each part that is not empty, its first row and its end."""
        end = len(self.series)
        confirmed = max(end - self.confirmation, self.warmup)
        cuts = (
            ("warm-up", 0, min(self.warmup, end)),
            ("measured", self.warmup, confirmed),
            ("confirmation", confirmed, end),
        )
        return [part for part in cuts if part[1] < part[2]]


def draw_small(curve: Curve) -> str:
    """Return a curve without text, "" if there is no judged reading.

    Screen readers skip it, because the figures next to it say the same.
    """
    if not curve.judged:
        return ""
    count = len(curve.series)
    step = _SMALL_STEP if count <= MOST_POINTS else _SMALL_STEP * MOST_POINTS / count
    width = max(round(step * (count - 1)), _SMALL_STEP)
    scale = _Scale(curve, 0, step, 4, _SMALL_HEIGHT - 4)
    paths = "".join(
        f'<path class="{mark}" d="{path}"/>'
        for mark, path in _paths(curve, scale, MOST_SMALL_POINTS)
    )
    return (
        f'<svg class="s" viewBox="0 0 {width} {_SMALL_HEIGHT}" '
        f'preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'
    )


def draw_large(curve: Curve) -> str:
    """Return a curve with axes and a text alternative, "" if nothing was judged."""
    if not curve.judged:
        return ""
    step = (WIDTH - _LEFT - _RIGHT) / max(len(curve.series) - 1, 1)
    scale = _Scale(curve, _LEFT, step, TOP, HEIGHT - _BOTTOM)
    drawn = (
        f'<path class="{mark}" fill="none" stroke-linecap="round" '
        f'stroke-linejoin="round" {_STYLES[mark]} d="{path}"/>'
        for mark, path in _paths(curve, scale, MOST_POINTS)
    )
    start = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(describe(curve))}" font-size="11" '
        'font-family="system-ui, sans-serif" fill="currentColor">'
    )
    back = [*_bands(curve, scale), *_value_axis(curve, scale)]
    return "".join([start, *back, *_iteration_axis(curve, scale), *drawn, "</svg>"])


def describe(curve: Curve) -> str:
    """Return a sentence that says what a curve shows."""
    parts = [f"{format_count(end - start)} {name}" for name, start, end in curve.parts]
    readings = curve.judged
    if not readings:
        return f"{safe(curve.name)}: no readings"
    first, last, low, high = (
        format_quantity(value, curve.unit)
        for value in (readings[0], readings[-1], min(readings), max(readings))
    )
    text = (
        f"{safe(curve.name)} over {' + '.join(parts)} iterations: "
        f"from {first} to {last}, lowest {low}, highest {high}"
    )
    if curve.allowance is None:
        return text
    if not curve.allowance:
        return f"{text}; no growth is allowed"
    per = "in all" if curve.in_all else "per iteration"
    return f"{text}; allowed: {format_quantity(curve.allowance, curve.unit)} {per}"


class _Scale:
    """Maps rows and readings to positions in the picture."""

    def __init__(
        self, curve: Curve, left: int, step: float, top: int, bottom: int
    ) -> None:
        readings = curve.judged
        self.first = readings[0]
        low, high = float(min(readings)), float(max(readings))
        margin = _MARGIN * (high - low or 1.0)
        allowed = self.first + (curve.allowance or 0.0) * (
            1 if curve.in_all else max(len(curve.series) - curve.warmup - 1, 0)
        )
        warm = [value for value in curve.series[: curve.warmup] if value is not None]
        self.high = max(high, min(max([allowed, *warm]), high + margin))
        self.low = min(low, max(min([low, *warm]), low - margin))
        if self.high == self.low:
            self.high, self.low = self.high + 1, self.low - 1
        self.left, self.step, self.top, self.bottom = left, step, top, bottom

    def x(self, row: float) -> int:
        return round(self.left + self.step * row)

    def y(self, value: float) -> int:
        value = min(max(value, self.low), self.high)
        share = (value - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - self.top))


def _paths(curve: Curve, scale: _Scale, most: int) -> Iterator[tuple[str, str]]:
    """Yield the class and the path of the allowance and of each part."""
    if curve.allowance is not None:
        yield "a", _allowed(curve, scale)
    missing = sum(value is None for value in curve.series)
    # a signal that is rarely read gets a line through all readings, others show gaps
    joins = missing * 2 > len(curve.series)
    before: list[Point] = []  # each part begins at the end of the previous one
    for name, start, end in curve.parts:
        points: list[Point] = [
            (row, value)
            for row, value in enumerate(curve.series[start:end], start)
            if value is not None or not joins
        ]
        share = max(most * (end - start) // len(curve.series), 2)
        path = _path([*before, *_outline(points, share)], scale)
        if path and points:
            yield name[0], path
        before = points[-1:] or before


def _allowed(curve: Curve, scale: _Scale) -> str:
    start, end = curve.warmup, float(len(curve.series) - 1)
    allowance = curve.allowance or 0.0
    if curve.in_all or not allowance:
        return f"M{scale.x(start)} {scale.y(scale.first + allowance)}H{scale.x(end)}"
    # a steep line ends at the top of the picture
    end = min(end, start + (scale.high - scale.first) / allowance)
    y = scale.y(scale.first + allowance * (end - start))
    return f"M{scale.x(start)} {scale.y(scale.first)}L{scale.x(end)} {y}"


def _outline(points: list[Point], most: int) -> list[Point]:
    """Thin out points, but keep the ends and the extremes of each stretch."""
    if len(points) <= most:
        return points
    stretches = most // 2
    kept: list[Point] = []
    for k in range(stretches):
        start = k * len(points) // stretches
        stretch = points[start : (k + 1) * len(points) // stretches]
        read = [(value, row) for row, value in stretch if value is not None]
        ends = {min(read), max(read)} if read else set()
        kept += sorted((row, value) for value, row in ends) or stretch[:1]
    return sorted({points[0], *kept, points[-1]}, key=lambda point: point[0])


def _path(points: Sequence[Point], scale: _Scale) -> str:
    """Return points as a path of relative steps; a missing reading is a gap."""
    pieces: list[str] = []
    for is_read, group in groupby(points, lambda point: point[1] is not None):
        if is_read:
            places = [
                (scale.x(row), scale.y(value))
                for row, value in group
                if value is not None
            ]
            pieces.append(f"M{places[0][0]} {places[0][1]}{_steps(places)}")
    return "".join(pieces)


def _steps(places: Sequence[tuple[int, int]]) -> str:
    moves = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(places)]
    if not moves:
        return "h0"  # drawn with round ends, this is a dot
    pieces = []
    for (dx, dy), same in groupby(moves):
        times = len(list(same))
        if dy == 0:
            pieces.append(f"h{dx * times}")
        else:
            pieces.append(f"l{dx * times}{'' if dy < 0 else ' '}{dy * times}")
    return "".join(pieces)


def _bands(curve: Curve, scale: _Scale) -> Iterator[str]:
    """Yield a background band for warm-up and confirmation, with its name."""
    last = len(curve.series) - 1
    for name, start, end in curve.parts:
        left, right = scale.x(max(start - 0.5, 0)), scale.x(min(end - 0.5, last))
        if name != "measured":
            yield (
                f'<rect class="band" x="{left}" y="{TOP - 6}" '
                f'width="{right - left}" height="{HEIGHT - TOP - _BOTTOM + 6}" '
                'fill-opacity=".06"/>'
            )
        if right - left > len(name) * _LETTER:
            yield (
                f'<text class="part" x="{left + 4}" y="{TOP - 9}" opacity=".75">'
                f"{name}</text>"
            )


def _value_axis(curve: Curve, scale: _Scale) -> Iterator[str]:
    """Yield what the axis shows, and its lines and labels."""
    yield (
        f'<text x="0" y="14">change of {escape(safe(curve.name))} '
        "since iteration 1</text>"
    )
    for tick in _ticks(
        scale.low - scale.first, scale.high - scale.first, curve.unit == "B"
    ):
        y = scale.y(scale.first + tick)
        label = escape(signed(tick, curve.unit))
        yield (
            f'<path class="grid" stroke="currentColor" stroke-opacity=".15" '
            f'd="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{label}</text>'
        )


def _ticks(low: float, high: float, is_bytes: bool) -> list[float]:
    """Return two to five round figures within a range, including 0 if it is inside."""
    unit = 1.0
    while is_bytes and unit * 1024 <= (high - low) / 2:
        unit *= 1024
    step = unit
    for factor in cycle((2, 2.5, 2)):  # 1, 2, 5, 10, 20, 50, ...
        if (high - low) / step <= 4:
            break
        step *= factor
    first, last = -(-low // step), high // step
    return [step * k for k in range(int(first), int(last) + 1)]


def _iteration_axis(curve: Curve, scale: _Scale) -> Iterator[str]:
    judged = len(curve.series) - curve.warmup
    marks = {1, judged}
    measured = judged - curve.confirmation
    if curve.confirmation and scale.step * curve.confirmation > _APART:
        marks.add(measured)
    y = HEIGHT - _BOTTOM + 16
    for mark in sorted(marks):
        x = scale.x(curve.warmup + mark - 1)
        anchor = "end" if mark == judged > 1 else "middle"
        word = "iteration " if mark == judged and judged > 1 else ""
        label = f"{word}{format_count(mark)}"
        yield f'<text x="{x}" y="{y}" text-anchor="{anchor}">{label}</text>'
