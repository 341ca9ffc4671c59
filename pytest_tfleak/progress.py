"""A live line for the test that is measured, on a terminal that can show one.

    test_train 23/50  host +12 KiB/iter  eta 40 s

The line stands behind what pytest has written on the current line, which it leaves as
it was. It is composed after every iteration and written now and then: so that all of
them cost the same memory, and none of it is left when the body runs again.

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
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING

from pytest_tfleak.plan import Plan
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import signed
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Trace
from pytest_tfleak.units import format_seconds

if TYPE_CHECKING:
    import pytest

DELAY = 1.0  # seconds: what is done by then shows no line
INTERVAL = 0.2  # seconds between two lines
LONGEST_NAME = 40  # columns
NARROWEST = 8  # columns: where there are fewer, no line
SIGNAL = "host.heap"
_WIDTH = 80  # of a terminal that does not tell
_SAVE, _RESTORE = "\x1b7", "\x1b8"  # where the cursor is
_ERASE = "\x1b[K"  # from the cursor to the end of the line
_LAST_CALL, _PHASE, _DUE = range(3)  # what is remembered, in seconds
_ROWS, _WHICH, _IS_SHOWN = range(3)  # and in whole numbers
_NAMES = ("warm-up ", "", "confirming ", "looking for the cause")
_WARM_UP, _MEASURING, _CONFIRMING, _CAUSE = range(4)

Write = Callable[[bytes], object]


class Progress:
    """The line of one test: call it with the trace after each reading."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        *,
        write: Write,
        room: int,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._name = shorten(safe(name, unicode=False), LONGEST_NAME)
        self._plan = plan
        self._write = write
        self._room = room
        self._clock = clock
        self._started = now = clock()
        # numbers in arrays: a new float in an attribute is memory that stays
        self._times = array("d", [now, now, now + DELAY])
        self._counts = array("q", [0, _WARM_UP, 0])

    def __call__(self, trace: Trace) -> None:
        """Take note of an iteration, and show it where the last line is old enough."""
        now = self._clock()
        self._note(trace, now)
        line = self._line(trace, now)
        data = (_SAVE + line + _ERASE + _RESTORE).encode()
        if now >= self._times[_DUE] and columns(line) <= self._room:
            self._times[_DUE] = now + INTERVAL
            self._counts[_IS_SHOWN] = 1
            self._write(data)

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._counts[_IS_SHOWN]:
            self._counts[_IS_SHOWN] = 0
            self._write(_ERASE.encode())

    def _note(self, trace: Trace, now: float) -> None:
        phase = self._phase(trace)
        if phase != self._counts[_WHICH]:
            self._counts[_WHICH] = phase
            self._times[_PHASE] = self._times[_LAST_CALL]
        self._counts[_ROWS] = trace.rows
        self._times[_LAST_CALL] = now

    def _phase(self, trace: Trace) -> int:
        if self._counts[_WHICH] == _CAUSE or trace.rows < self._counts[_ROWS]:
            return _CAUSE  # the trace of an experiment begins anew
        # the iteration is counted after this call
        if trace.confirmed or trace.measured >= self._plan.iterations:
            return _CONFIRMING
        if trace.measured or trace.warmed_up >= trace.warmup:
            return _MEASURING
        return _WARM_UP

    def _line(self, trace: Trace, now: float) -> str:
        phase = self._counts[_WHICH]
        done = 1 + (trace.warmed_up, trace.measured, trace.confirmed, 0)[phase]
        planned = trace.warmup if phase == _WARM_UP else self._plan.iterations
        count = _NAMES[phase] + f"{done}/{planned}"
        growth = self._rate(trace)
        rate = "" if growth is None else f"  host {signed(growth, 'B')}/iter"
        eta = f"  eta {format_seconds(self._seconds_left(done, planned, now))}"
        if phase == _CAUSE:
            count, rate, eta = _NAMES[phase], "", ""
        elif not trace.judged:
            rate = ""  # of one reading there is none
        long = f"{self._name} {count}{rate}{eta}"
        for line in (long, f"{count}{rate}{eta}", f"{count}{rate}"):
            if columns(line) <= self._room:
                return line
        return count

    def _rate(self, trace: Trace) -> float | None:
        """Return how much the heap grew from the first judged iteration to this one."""
        column = next((k for k, s in enumerate(trace.signals) if s.name == SIGNAL), -1)
        if column < 0:
            return None
        first = min(trace.warmed_up, trace.rows)
        start = trace.buffer[first * trace.width + column]
        end = trace.buffer[trace.rows * trace.width + column]
        if MISSING in (start, end):
            return None
        return (end - start) / max(1, trace.rows - first)

    def _seconds_left(self, done: int, planned: int, now: float) -> float:
        each = (now - self._times[_PHASE]) / done
        left = max(0.0, each * (planned - done))
        if self._counts[_WHICH] == _WARM_UP:
            left += each * self._plan.iterations
        if self._plan.max_time is not None:
            left = min(left, max(0.0, self._started + self._plan.max_time - now))
        return float(ceil(left))


class LiveTerminal:
    """The terminal that pytest writes to, past what captures the tests' output."""

    def __init__(self, reporter: pytest.TerminalReporter, descriptor: int) -> None:
        self._reporter = reporter
        self._descriptor = descriptor

    @property
    def room(self) -> int:
        """Return how many columns are free behind what pytest has written."""
        # not as pytest asks for it: while a test runs, its stdout is no terminal
        try:
            width = os.get_terminal_size(self._descriptor).columns or _WIDTH
        except OSError:  # it was closed
            return 0
        return width - self._reporter._tw.width_of_current_line - 1

    def write(self, data: bytes) -> None:
        """Write past what captures the output of tests."""
        with suppress(OSError):  # the terminal was closed: no reason to fail a test
            os.write(self._descriptor, data)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


@contextmanager
def show_progress(
    terminal: LiveTerminal | None, nodeid: str, plan: Plan
) -> Generator[Progress | None, None, None]:
    """Give the line for one test, or None, and take it off the terminal at the end."""
    if terminal is None or terminal.room < NARROWEST:
        yield None
        return
    path, bracket, parameters = nodeid.partition("[")
    name = path.rpartition("::")[2] + bracket + parameters
    progress = Progress(name, plan, write=terminal.write, room=terminal.room)
    try:
        yield progress
    finally:
        progress.clear()


def open_terminal(config: pytest.Config) -> LiveTerminal | None:
    """Return the terminal to draw on, None where a live line would do harm.

    To be called while output is not captured.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or type(reporter).__module__ != "_pytest.terminal":
        return None  # another plugin draws, or an xdist worker that has no terminal
    if config.get_verbosity() < 0 or _writes_past_capture(config):
        return None
    if sys.platform == "win32" or os.environ.get("TERM", "dumb") == "dumb" or _is_ci():
        return None
    try:
        descriptor = reporter._tw._file.fileno()
        if os.isatty(descriptor):
            return LiveTerminal(reporter, os.dup(descriptor))
    except (AttributeError, OSError, ValueError):
        pass  # a stream that is no file
    return None


def _writes_past_capture(config: pytest.Config) -> bool:
    """Say whether the tests' own output may come between."""
    if config.getoption("capture", None) != "fd":
        return True
    logging = config.pluginmanager.getplugin("logging-plugin")
    return logging is not None and logging._log_cli_enabled()


def _is_ci() -> bool:
    return any(os.environ.get(name) for name in ("CI", "BUILD_NUMBER"))
