"""Find growth in spite of single falls and rises that have nothing to do with it.

    older objects go      1 2 3 4 1 2 3 4 5 6 7 8 9 10    grows on past where it fell
    a buffer is emptied   1 2 3 4 1 2 3 4 1 2 3 4 1 2     falls again
    a table beside it     1 2 3 4 9 10 11 12 13 14 15     grows on from where it rose

1. Falls and rises count if they stand out: a few that are far larger than the others.
2. Readings without them say whether anything grows on both sides.
3. A rise needs no more than that. After a fall, a buffer may have been emptied: only
   more iterations, without another fall, show that it was not. By then the fall lies so
   far back that the rest is judged like any other readings.
4. Falls that end at one level are those of a buffer.

Pure: no clock, no randomness, no I/O.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from itertools import accumulate
from itertools import pairwise
from math import ceil
from statistics import fmean

from pytest_tfleak.judge.growth import EVEN
from pytest_tfleak.judge.growth import Growth
from pytest_tfleak.judge.growth import Shape

#: So many falls or rises may stand out. Readings with more of them go up and down.
MOST = 4
#: The same for a first look, where more may be chance.
MOST_AT_FIRST = 2
#: Together they take up to this share of the readings.
BRIEF = 0.25
#: Those that stand out are so many times as large as the next smaller one.
STANDS_OUT = 3
#: A smaller fall, in iterations of growth, does not look like a buffer being emptied.
SMALLEST = 5
#: Falls ended at one level if these differ by this share of the deepest; falls of one
#: size may differ by the second.
ONE_LEVEL, ALIKE = 0.1, 0.25
#: The smallest of some falls of one size is this share of the deepest.
ONE_SIZE = 0.6
#: Growth goes on for long enough if it adds so many times what the deepest fall took.
OUTLIVED = 1.25
#: A fall must lie in this first share of the readings. The windows there do not decide.
EARLY = 0.3
#: With a fall, the run takes so many times the iterations of the first look. The second
#: is for a fall that took all growth, as when a buffer is emptied.
LONGER, LONGER_FOR_ALL = 4, 6
#: The run takes at most so many times the iterations of the first look.
LONGEST = 7

#: Measures how a series grows.
Measure = Callable[[Sequence[int]], Growth]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A fall or a rise from one place among some readings to a later one."""

    before: int
    after: int
    size: int


def see_through(
    seen: Growth, values: Sequence[int], measure: Measure, least: float, measured: int
) -> Growth:
    """Return ``seen``, corrected for single falls and rises.

    Growth of up to ``least`` does not matter. ``measured`` is how many of the values
    belong to the first look.
    """
    falls = find_falls(values)
    if not falls:
        return _see_through_rises(seen, values, measure)
    if sum(fall.after - fall.before for fall in falls) > BRIEF * len(values):
        return seen
    grown = measure(take_out(values, falls))
    rate = grown.per_iteration if grown.shape == "steady" else grown.suspected
    is_first_look = len(values) <= measured
    if rate <= least or (is_first_look and len(falls) > MOST_AT_FIRST):
        return seen
    if seen.shape == "steady":
        falls = [fall for fall in falls if _may_empty(values, falls, fall, rate)]
    needed = _iterations_to_tell(values, falls, rate, measured)
    if needed <= len(values):
        return seen
    if not is_first_look and _come_again(values, falls):
        return replace(seen, shape="level") if seen.shape == "steady" else seen
    shape: Shape = "unsteady" if seen.shape == "steady" else seen.shape
    if needed > LONGEST * measured:
        return replace(seen, shape=shape)
    return replace(
        seen, shape=shape, suspected=rate, repeated=False, decided_after=needed
    )


def find_falls(values: Sequence[int]) -> list[Step]:
    """Return the falls that stand out, in order."""
    found: list[Step] = []
    left = [_deepest(values, 0, len(values) - 1)]
    while left and len(found) <= MOST:
        fall = max(left, key=_size)
        left.remove(fall)
        found.append(fall)
        if fall.size:
            begins = max((f.after for f in found if f.after <= fall.before), default=0)
            ends = min(
                (f.before for f in found if f.before >= fall.after),
                default=len(values) - 1,
            )
            left.append(_deepest(values, begins, fall.before))
            left.append(_deepest(values, fall.after, ends))
    return _standing_out(found)


def find_rises(values: Sequence[int]) -> list[Step]:
    """Return the rises from one reading to the next that stand out, in order."""
    rises = [
        Step(before=row, after=row + 1, size=max(0, b - a))
        for row, (a, b) in enumerate(pairwise(values))
    ]
    return _standing_out(sorted(rises, key=_size, reverse=True)[: MOST + 1])


def take_out(values: Sequence[int], steps: Sequence[Step]) -> list[int]:
    """Return the readings with each step replaced by the mean change elsewhere."""
    gone = {row for step in steps for row in range(step.before, step.after)}
    changes = [b - a for a, b in pairwise(values)]
    others = [change for row, change in enumerate(changes) if row not in gone]
    usual = round(fmean(others)) if others else 0
    changes = [usual if row in gone else change for row, change in enumerate(changes)]
    return list(accumulate(changes, initial=values[0]))


def _see_through_rises(seen: Growth, values: Sequence[int], measure: Measure) -> Growth:
    if seen.shape == "steady" or not (rises := find_rises(values)):
        return seen
    grown = measure(take_out(values, rises))
    if grown.shape != "steady":
        return seen
    return replace(grown, total=seen.total, last=seen.last)


def _may_empty(
    values: Sequence[int], falls: Sequence[Step], fall: Step, rate: float
) -> bool:
    """Return whether a fall is as large as a buffer, and came after growth."""
    begins = max((f.after for f in falls if f.after <= fall.before), default=0)
    grown = values[fall.before] - values[begins]
    expected = rate * (fall.before - begins)
    return fall.size >= SMALLEST * rate and grown >= EVEN * expected


def _come_again(values: Sequence[int], falls: Sequence[Step]) -> bool:
    """Return whether falls are those of a buffer: they end at one level."""
    if len(falls) == 1:
        return False
    deepest = max(falls, key=_size).size
    lows = [values[fall.after] for fall in falls]
    are_alike = min(falls, key=_size).size > ONE_SIZE * deepest
    differ = (ALIKE if are_alike else ONE_LEVEL) * deepest
    is_outlived = values[-1] - lows[-1] >= OUTLIVED * deepest
    return max(lows) - min(lows) <= differ and not is_outlived


def _iterations_to_tell(
    values: Sequence[int], falls: Sequence[Step], rate: float, measured: int
) -> int:
    """Return after how many iterations it is clear whether falls are those of a buffer.

    It is a multiple of those that were measured.
    """
    if not falls:
        return 0
    gave_all = any(
        values[fall.after] <= values[0] + ONE_LEVEL * fall.size for fall in falls
    )
    last = falls[-1].after
    missing = OUTLIVED * max(falls, key=_size).size - (values[-1] - values[last])
    outlived_after = len(values) + missing / rate if missing > 0 else 0.0
    parts = ceil(max(last / EARLY, outlived_after) / measured)
    return measured * max(parts, LONGER_FOR_ALL if gave_all else LONGER)


def _deepest(values: Sequence[int], begins: int, ends: int) -> Step:
    """Return the deepest fall between two places; its size is 0 if nothing falls."""
    top = begins
    deepest = Step(before=begins, after=begins, size=0)
    for place in range(begins, ends + 1):
        if values[place] >= values[top]:
            top = place
        elif values[top] - values[place] > deepest.size:
            size = values[top] - values[place]
            deepest = Step(before=top, after=place, size=size)
    return deepest


def _standing_out(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that stand out from the others, sorted by place.

    ``steps`` are sorted by size, largest first.
    """
    count = 0
    for rank, (step, smaller) in enumerate(pairwise(steps), 1):
        if step.size > STANDS_OUT * smaller.size:
            count = rank
    return sorted(steps[:count], key=lambda step: step.before)


def _size(step: Step) -> int:
    return step.size
