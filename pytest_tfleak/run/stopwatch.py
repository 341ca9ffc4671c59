"""Note how long each part of a measurement takes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from time import perf_counter

#: The parts of a measurement, in order.
PARTS = LOOP, CONFIRMATION, KNOWN_GROWTH, DIAGNOSIS = (
    "loop",
    "confirmation",
    "known_growth",
    "diagnosis",
)


class Stopwatch:
    """Measures the parts of a measurement; each lasts until the next one begins."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._part = LOOP
        self._since = clock()
        # an array, since a new float for each part would be memory that stays
        self._seconds = array("d", [0.0] * len(PARTS))

    def start(self) -> None:
        """Begin with the first part now."""
        self._since = self._clock()

    def enter(self, part: str) -> None:
        """Note that a part begins, and that the one before it has ended."""
        now = self._clock()
        self._seconds[PARTS.index(self._part)] += now - self._since
        self._part, self._since = part, now

    def read(self) -> dict[str, float]:
        """Return the seconds of each part until now."""
        self.enter(self._part)
        return dict(zip(PARTS, self._seconds, strict=True))
