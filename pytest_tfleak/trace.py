"""The readings of one run: what a signal is, and its series over the iterations.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from typing import NamedTuple

#: Marks a reading that is missing; no signal reads this low.
MISSING = -(2**63)

#: There is room for so many rows before the first iteration, enough for nearly all
#: runs. If more are needed the room doubles, which is not judged as steady growth.
FIRST_ROWS = 2_048

Nature = Literal["exact", "noisy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One number that is read after each iteration.

    ``unit`` is ``"B"`` or the plural of what is counted; a signal that has no row in
    ``signals.py`` is ranked, worded and diagnosed by it. ``nature`` is ``"exact"`` if
    each reading is right, such as a count: then any rise that repeats is growth. A
    figure that also moves by itself, such as resident memory, is ``"noisy"``, and only
    its trend counts. ``allowance`` is the growth
    allowed per iteration, or the name of the option that says how much; without one the
    signal is context and never decides. ``total`` names an option that limits the
    growth over the whole run as well. If the signal ``instead_of`` was measured, that
    one decides, and this one does not.
    """

    name: str
    unit: str
    nature: Nature = "exact"
    allowance: str | float | None = None
    total: str | None = None
    instead_of: str | None = None


class Stopped(NamedTuple):
    """Which resource ended a run because it was about to run out."""

    limit: str  # which limit or option that was
    signals: tuple[str, ...]  # whose growth used it up, without the device
    per_iteration: float  # how much of it each iteration took
    is_huge: bool = False  # whether that adds up to more than a warm-up takes


class Trace:
    """The readings of one run: a row for each iteration.

    There is room for a run of usual length from the start, so that storing the readings
    is not measured as growth. ``capacity`` is how many rows may follow the warm-up.

    Rows come in three parts: warm-up, measured, confirmation. Only the last two are
    judged.
    """

    def __init__(self, signals: Sequence[Signal], warmup: int, capacity: int) -> None:
        self.signals = tuple(signals)
        self.warmup = warmup
        self.measured = 0
        self.confirmed = 0
        #: How many confirming iterations there will be, as far as is known.
        self.planned_to_confirm = 0
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
        #: In how many iterations they grew, if they were counted during the run.
        self.counted = 0
        #: What a collection after so many judged rows freed, by signal: a step that is
        #: not the body's. Negative if the plugin itself took more in the meantime.
        self.collected: dict[int, dict[str, int]] = {}
        #: Growth per iteration between two readings, each after a garbage collection,
        #: by signal. Empty if there were none.
        self.kept: dict[str, float] = {}
        #: What the second of those collections freed, by signal.
        self.released: dict[str, int] = {}
        #: How much known causes added to a signal in each iteration before they were
        #: taken away.
        self.taken_away: Mapping[str, float] = {}
        #: By how much a signal rose while the body did not run, as other threads did.
        self.idle: dict[str, int] = {}
        #: Why it is unknown whether growth in the confirmation is a leak; None if the
        #: readings show it.
        self.unconfirmed: str | None = None
        #: Whether it ends before all iterations have run because nothing grew.
        self.is_settled = False
        self.seconds = 0.0
        self.body_seconds = 0.0
        #: Which option ended the run if it ended before all iterations had run.
        self.limit = "max_time"
        #: What ended the run before a resource ran out, None if nothing did.
        self.stopped: Stopped | None = None
        #: Whether iterations of the warm-up are judged, since too few others ran.
        self.judges_warmup = False
        self.width = len(self.signals)
        self._capacity = capacity
        self.buffer: array[int] = array("q")
        self._make_room(min(warmup + capacity, FIRST_ROWS))

    def next_row(self) -> int:
        """Return which row is read next; the buffer has room for it."""
        row = self.rows
        if (row + 1) * self.width > len(self.buffer):
            self._make_room(max(2 * row, row + 1))
        return row

    def _make_room(self, rows: int) -> None:
        more = rows * self.width - len(self.buffer)
        self.buffer.extend(array("q", [MISSING]) * more)

    def trim(self) -> None:
        """Give back the room that no reading needed: the run is over."""
        del self.buffer[self.rows * self.width :]

    @property
    def rows(self) -> int:
        """Return how many iterations have been read."""
        return self.warmed_up + self.measured + self.confirmed

    @property
    def judged(self) -> int:
        """Return how many iterations a verdict on this trace is based on."""
        return self.measured + self.confirmed

    def series(self, name: str) -> list[int | None]:
        """Return all readings of a signal; None stands for a missing one."""
        column = [signal.name for signal in self.signals].index(name)
        used = self.buffer[column : self.rows * self.width : self.width]
        return [None if value == MISSING else value for value in used]

    def judged_series(self, name: str) -> list[int | None]:
        """Return the readings of a signal without those of the warm-up."""
        return self.series(name)[self.warmed_up :]

    def wider(self, signals: Sequence[Signal], warmup: int | None = None) -> Trace:
        """Return a trace that continues this one with other signals.

        It has the readings of the signals that both have. ``warmup`` is how many rows
        of warm-up it has room for, if that is more than this one has.
        """
        wider = Trace(signals, warmup or self.warmup, self._capacity)
        wider._make_room(self.rows)
        wider.warmed_up = self.warmed_up
        wider.measured, wider.confirmed = self.measured, self.confirmed
        wider.body_seconds, wider.limit = self.body_seconds, self.limit
        wider.collected = {row: dict(by) for row, by in self.collected.items()}
        wider.kept, wider.kinds = dict(self.kept), dict(self.kinds)
        wider.released, wider.counted = dict(self.released), self.counted
        wider.taken_away = self.taken_away
        columns = {signal.name: k for k, signal in enumerate(wider.signals)}
        for column, signal in enumerate(self.signals):
            if signal.name not in columns:  # a placeholder for others that exist now
                continue
            readings = self.buffer[column : self.rows * self.width : self.width]
            start, step = columns[signal.name], wider.width
            wider.buffer[start : self.rows * step : step] = readings
        return wider

    def restarted(self, room: int) -> Trace:
        """Return a trace that continues this one, with all its rows as warm-up.

        It has room for so many more rows of warm-up.
        """
        trace = self.wider(self.signals, warmup=self.rows + room)
        trace.warmed_up, trace.measured, trace.confirmed = self.rows, 0, 0
        trace.collected, trace.kept, trace.released, trace.kinds = {}, {}, {}, {}
        trace.counted = 0
        return trace

    def begin_later(self, warmup: int) -> None:
        """Count the first measured iterations as warm-up, ``warmup`` in all."""
        more = max(0, min(warmup - self.warmed_up, self.measured))
        self.warmed_up += more
        self.measured -= more

    def count_confirmation_as_measured(self) -> None:
        """Join both judged parts, without the steps of the pauses between them."""
        for column, signal in enumerate(self.signals):
            place = self.warmed_up * self.width + column
            for row, value in enumerate(self.without_pauses(signal)):
                if value is not None:
                    self.buffer[place + row * self.width] = value
        self.measured, self.confirmed, self.collected = self.judged, 0, {}

    def without_pauses(self, signal: Signal) -> list[int | None]:
        """Return the judged readings of a signal without what pauses freed.

        A noisy one keeps its readings: RSS keeps the pages that a pause freed, and they
        are used first.
        """
        values = self.judged_series(signal.name)
        if signal.nature == "noisy":
            return values
        for first, freed in self.collected.items():
            step = freed.get(signal.name, 0)
            for row in range(first, len(values) if step else 0):
                value = values[row]
                values[row] = None if value is None else value + step
        return values

    def __iter__(self) -> Iterator[Signal]:
        return iter(self.signals)
