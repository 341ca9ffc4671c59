"""Show the progress of a measurement in a live line, if the terminal supports it.

    test_train 23/50  host +12 KiB/iter  eta 40 s
    test_train looking for known growth  eta < 12 s

The line follows what pytest has written on the current line, or is below it if there is
little room, and is erased at the end. It always has the name of the test. It is
composed after every iteration, even those that do not write it: so each iteration takes
the same memory, and all of it is free again when the body runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable
from collections.abc import Generator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING

from pytest_tfleak.plan import Plan
from pytest_tfleak.quantities import format_seconds
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import signed
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.ci import ci_variable
from pytest_tfleak.run.stopwatch import DIAGNOSIS
from pytest_tfleak.run.stopwatch import KNOWN_GROWTH
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Trace

if TYPE_CHECKING:
    import pytest


DELAY = 1.0  # seconds until the first line: shorter measurements show none
INTERVAL = 0.2  # seconds between two lines
LONGEST_NAME = 200  # columns
ROOMY = 56  # columns after pytest's text: with fewer, the line is below it
NARROWEST = 20  # columns of the terminal: with fewer, there is no line
_NAMES_LEFT = (LONGEST_NAME, 24, 8)  # columns of the name, the longest that fits
SIGNALS = ("host.heap", "host.rss")  # the first that is read
_WIDTH = 80  # for a terminal of unknown width
_SAVE, _RESTORE = "\x1b7", "\x1b8"  # the cursor's position
_ERASE = "\x1b[K"  # from the cursor to the end of the line
_DOWN, _UP = "\r\n", "\r\x1b[A"  # to the start of the line; the first one may scroll
_LAST_CALL, _PHASE, _DUE, _END = range(4)  # indexes of the times that it remembers
_ROWS, _WHICH, _IS_SHOWN = range(3)  # and of the whole numbers
_NAMES = (
    "warm-up ",
    "",
    "confirming ",
    "looking for known growth",
    "looking for holders and lines",
)
_WARM_UP, _MEASURING, _CONFIRMING, _KNOWN_GROWTH, _DIAGNOSIS = range(5)
#: The parts in which the number of iterations is not known before.
_OPEN = {KNOWN_GROWTH: _KNOWN_GROWTH, DIAGNOSIS: _DIAGNOSIS}

Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the line is, and what leads there and back to the end of pytest's text."""

    room: int  # columns
    start: str
    end: str
    erase: str


def spot_after(room: int) -> Spot:
    """Return the spot after pytest's text, where this many columns are free."""
    return Spot(room, _SAVE, _ERASE + _RESTORE, _ERASE)


def spot_below(width: int, column: int) -> Spot:
    """Return the spot below pytest's text, which ends at this column."""
    # a saved position would be wrong after the screen has scrolled
    back = _ERASE + _UP + (f"\x1b[{column}C" if column else "")
    return Spot(width - 1, _DOWN, back, _DOWN + back)


class Progress:
    """The line of one test: call it with the trace after each reading."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        *,
        write: Write,
        spot: Spot,
        deadline: Deadline = NO_DEADLINE,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._name = shorten(safe(name, unicode=False), LONGEST_NAME)
        self._plan = plan
        self._write = write
        self._spot = spot
        self._clock = clock
        self._deadline = deadline
        now = clock()
        # an array, since a new float in an attribute would be memory that stays
        self._times = array("d", [now, now, now + DELAY, deadline.at])
        self._counts = array("q", [0, _WARM_UP, 0])

    def __call__(self, trace: Trace) -> None:
        """Note an iteration, and show it if the last line is old enough."""
        now = self._clock()
        self._note(trace, now)
        self._show(self._line(trace, now), now)

    def enter(self, part: str, deadline: Deadline) -> None:
        """Note that a part of the measurement begins, and until when it may last."""
        phase = _OPEN.get(part)
        if phase is None:  # the trace says where the run is
            if self._counts[_WHICH] in _OPEN.values():
                self._counts[_WHICH] = _WARM_UP
            return
        now = self._clock()
        self._counts[_WHICH], self._times[_END] = phase, deadline.at
        self._show(self._line_until(now), now)

    def _show(self, line: str, now: float) -> None:
        data = (self._spot.start + line + self._spot.end).encode()
        if now >= self._times[_DUE] and line:
            self._times[_DUE] = now + INTERVAL
            self._counts[_IS_SHOWN] = 1
            self._write(data)

    def clear(self) -> None:
        """Erase the line from the terminal."""
        if self._counts[_IS_SHOWN]:
            self._counts[_IS_SHOWN] = 0
            self._write(self._spot.erase.encode())

    def _note(self, trace: Trace, now: float) -> None:
        phase = self._phase(trace)
        if phase != self._counts[_WHICH]:
            self._counts[_WHICH] = phase
            self._times[_PHASE] = self._times[_LAST_CALL]
        self._counts[_ROWS] = trace.rows
        self._times[_LAST_CALL] = now

    def _planned(self, trace: Trace) -> int:
        """Return how many iterations are to be measured: a quick warm-up is shorter."""
        missing = max(0, self._plan.warmup - trace.warmed_up)
        return self._plan.iterations + missing * (self._plan.depth == "quick")

    def _phase(self, trace: Trace) -> int:
        if self._counts[_WHICH] in _OPEN.values():
            return self._counts[_WHICH]
        # this comes before the iteration is counted as measured or confirmed
        if trace.confirmed or trace.measured >= self._planned(trace):
            return _CONFIRMING
        if trace.measured or trace.warmed_up >= trace.warmup:
            return _MEASURING
        return _WARM_UP

    def _line(self, trace: Trace, now: float) -> str:
        phase = self._counts[_WHICH]
        if phase in _OPEN.values():
            return self._line_until(now)
        done = 1 + (trace.warmed_up, trace.measured, trace.confirmed)[phase]
        planned = trace.warmup if phase == _WARM_UP else self._plan.iterations
        if phase == _CONFIRMING:
            planned = max(planned, trace.planned_to_confirm)
        count = _NAMES[phase] + f"{done}/{planned}"
        growth = self._rate(trace)
        rate = "" if growth is None else f"  host {signed(growth, 'B')}/iter"
        eta = f"  eta {format_seconds(self._seconds_left(done, planned, now))}"
        if not trace.judged:
            rate = ""  # one reading yields no rate
        return self._fitting(f"{count}{rate}{eta}", f"{count}{rate}", count)

    def _line_until(self, now: float) -> str:
        """Return the line of a part that has a deadline, but no known length."""
        words, left = _NAMES[self._counts[_WHICH]], self._times[_END] - now
        eta = "" if left == inf else f"  eta < {format_seconds(max(1.0, ceil(left)))}"
        return self._fitting(f"{words}{eta}", words)

    def _fitting(self, *texts: str) -> str:
        """Return the name with the first text beside which it fits, "" if none does."""
        for shortest in _NAMES_LEFT:
            for text in texts:
                room = self._spot.room - columns(text) - 1
                if room >= min(columns(self._name), shortest):
                    return f"{shorten(self._name, room)} {text}"
        return ""

    def _rate(self, trace: Trace) -> float | None:
        """Return how much memory grew in each iteration of this part until now.

        A pause before the confirmation frees what is not part of the growth.
        """
        first = trace.warmed_up + (trace.measured if trace.confirmed else 0)
        first = min(first, trace.rows)
        for name in SIGNALS:
            for column, signal in enumerate(trace.signals):
                start = trace.buffer[first * trace.width + column]
                end = trace.buffer[trace.rows * trace.width + column]
                if signal.name == name and MISSING not in (start, end):
                    return (end - start) / max(1, trace.rows - first)
        return None

    def _seconds_left(self, done: int, planned: int, now: float) -> float:
        each = (now - self._times[_PHASE]) / done
        left = max(0.0, each * (planned - done))
        if self._counts[_WHICH] == _WARM_UP:
            left += each * self._plan.iterations
        left = min(left, max(0.0, self._deadline.at - now))
        return float(ceil(left))


class LiveTerminal:
    """The terminal that pytest writes to, bypassing the capture of tests' output."""

    def __init__(self, reporter: pytest.TerminalReporter, descriptor: int) -> None:
        self._reporter = reporter
        self._descriptor = descriptor

    def find_spot(self) -> Spot | None:
        """Return where a line fits, given what pytest has written, None if nowhere."""
        # not pytest's own way: while a test runs, sys.stdout is not the terminal
        try:
            width = os.get_terminal_size(self._descriptor).columns or _WIDTH
        except OSError:  # the terminal was closed
            return None
        written = self._reporter._tw.width_of_current_line
        if width - written - 1 >= ROOMY:
            return spot_after(width - written - 1)
        if width < NARROWEST or (written and written % width == 0):
            return None  # at the edge, terminals differ in where the cursor is
        return spot_below(width, written % width)

    def write(self, data: bytes) -> None:
        """Write to the terminal, bypassing the capture of tests' output."""
        with suppress(OSError):  # a closed terminal must not fail the test
            os.write(self._descriptor, data)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


@contextmanager
def show_progress(
    terminal: LiveTerminal | None, nodeid: str, plan: Plan, deadline: Deadline
) -> Generator[Progress | None, None, None]:
    """Yield the live line of one test, or None, and erase it at the end."""
    spot = None if terminal is None else terminal.find_spot()
    if terminal is None or spot is None:
        yield None
        return
    path, bracket, parameters = nodeid.partition("[")
    name = path.rpartition("::")[2] + bracket + parameters
    progress = Progress(name, plan, write=terminal.write, spot=spot, deadline=deadline)
    try:
        yield progress
    finally:
        progress.clear()


def open_terminal(config: pytest.Config) -> LiveTerminal | None:
    """Return the terminal to draw on, None if a live line would disturb.

    Call it while output is not captured.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or type(reporter).__module__ != "_pytest.terminal":
        return None  # another plugin draws, or this xdist worker has no terminal
    if config.get_verbosity() < 0 or _writes_past_capture(config):
        return None
    if (
        sys.platform == "win32"
        or os.environ.get("TERM", "dumb") == "dumb"
        or ci_variable()
    ):
        return None
    try:
        descriptor = reporter._tw._file.fileno()
        if os.isatty(descriptor):
            return LiveTerminal(reporter, os.dup(descriptor))
    except (AttributeError, OSError, ValueError):
        pass  # the stream is not a file
    return None


def _writes_past_capture(config: pytest.Config) -> bool:
    """Return whether the tests' own output may interfere with the line."""
    if config.getoption("capture", None) != "fd":
        return True
    logging = config.pluginmanager.getplugin("logging-plugin")
    return logging is not None and logging._log_cli_enabled()
