"""Follow the lows of readings that flip, such as those of a memory pool.

A pool hands out whole chunks. A chunk that is larger than its object counts in full;
the next object may find one that fits:

    what is in use    20 21 22 23 24 25 26 27
    what is counted   20 32 22 32 24 32 26 32

The median of such readings depends on chance; their lows show what is in use. Pure: no
clock, no randomness, no I/O.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from pytest_tfleak.judge.growth import Growth
from pytest_tfleak.judge.steps import Measure

#: Readings flip if at least the first share of them rise, and as many fall. Lows of
#: which the second share do so flip, too, and show no more than all readings.
OFTEN, SELDOM = 1 / 6, 1 / 10
#: Of so many readings in a row, one shows what is in use.
WIDTH = 5


def follow_lows(seen: Growth, values: Sequence[int], measure: Measure) -> Growth:
    """Return how the lows grow if the readings flip, otherwise ``seen``."""
    envelope = lower_envelope(values)
    if not flip(values, OFTEN) or flip(envelope, SELDOM):
        return seen
    lows = measure(envelope)
    if lows.shape != "steady":
        suspected = max(seen.suspected, lows.suspected)
        return replace(seen, suspected=suspected, repeated=False)
    if seen.shape == "steady" and seen.per_iteration >= lows.per_iteration:
        return seen
    return replace(lows, total=seen.total, last=seen.last, is_of_lows=True)


def flip(values: Sequence[int], share: float) -> bool:
    """Return whether at least this share of readings rise, and as many fall."""
    falls = sum(b < a for a, b in pairwise(values))
    rises = sum(b > a for a, b in pairwise(values))
    return min(falls, rises) >= share * len(values)


def lower_envelope(values: Sequence[int]) -> list[int]:
    """Return the lowest reading of each few in a row."""
    count = max(1, len(values) - WIDTH + 1)
    return [min(values[row : row + WIDTH]) for row in range(count)]
