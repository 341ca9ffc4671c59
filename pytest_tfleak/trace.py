"""The readings of one run: what a signal is, and its series over the iterations.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: Stands in a series where nothing was read; no signal reads this low.
MISSING = -(2**63)

Nature = Literal["exact", "noisy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One number that is read after each iteration.

    ``unit`` is ``"B"`` or the plural of what is counted. ``allowance`` names the field
    of the plan that allows growth, or is the figure itself; without one the signal is
    context and never decides. ``instead_of`` names the signal that decides where it was
    measured, so that this one decides only where it was not.
    """

    name: str
    unit: str
    nature: Nature = "exact"
    allowance: str | float | None = None
    total: str | None = None
    instead_of: str | None = None


class Trace:
    """The readings of one run, preallocated: a row for each iteration.

    Rows come in three parts: warm-up, measured, confirmation. Only the last two are
    judged.
    """

    def __init__(self, signals: Sequence[Signal], warmup: int, capacity: int) -> None:
        self.signals = tuple(signals)
        self.warmup = warmup
        self.measured = 0
        self.confirmed = 0
        self.warmed_up = 0
        #: Why a signal has no readings, or why its readings cannot be trusted.
        self.reasons: dict[str, str] = {}
        #: The same as words that programs can rely on.
        self.codes: dict[str, str] = {}
        self.untrusted: set[str] = set()
        #: How many objects made during the run are still there after it, by signal.
        self.left: dict[str, int] = {}
        #: Types that grew, by full name: objects at the end less objects at the start.
        self.kinds: dict[str, int] = {}
        #: What the collection before the confirmation let go of, by signal: a step that
        #: the body has no part in. Negative where our own looking took more.
        self.collected: dict[str, int] = {}
        #: Growth per iteration between two readings before each of which garbage was
        #: let go of, by signal. Empty where nobody looked.
        self.kept: dict[str, float] = {}
        self.seconds = 0.0
        self.body_seconds = 0.0
        self.width = len(self.signals)
        self.buffer = array("q", [MISSING]) * (self.width * (warmup + capacity))

    @property
    def rows(self) -> int:
        """Return how many iterations have been read."""
        return self.warmed_up + self.measured + self.confirmed

    @property
    def judged(self) -> int:
        """Return how many iterations a verdict on this trace stands on."""
        return self.measured + self.confirmed

    def series(self, name: str) -> list[int | None]:
        """Return all readings of a signal, None where nothing was read."""
        column = [signal.name for signal in self.signals].index(name)
        used = self.buffer[column : self.rows * self.width : self.width]
        return [None if value == MISSING else value for value in used]

    def judged_series(self, name: str) -> list[int | None]:
        """Return the readings of a signal without those of the warm-up."""
        return self.series(name)[self.warmed_up :]

    def take_over(self, earlier: Trace) -> None:
        """Start with the readings of a narrower trace of the same run."""
        self.warmed_up = earlier.warmed_up
        self.measured, self.confirmed = earlier.measured, earlier.confirmed
        self.body_seconds = earlier.body_seconds
        columns = {signal.name: k for k, signal in enumerate(self.signals)}
        for column, signal in enumerate(earlier.signals):
            if signal.name not in columns:  # it stood for others that are there now
                continue
            for row in range(earlier.rows):
                reading = earlier.buffer[row * earlier.width + column]
                self.buffer[row * self.width + columns[signal.name]] = reading

    def __iter__(self) -> Iterator[Signal]:
        return iter(self.signals)
