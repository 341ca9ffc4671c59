"""In which of the user's lines a figure grows, where no object tells who made it.

The heap, say, is read at each line of the user's code. What a line leaves, with all
that it calls in libraries and in C, is the difference to the next one. It is compared
with the growth that is looked for: memory that is freed again later would mislead, and
seldom has that very size.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import inf
from time import perf_counter
from types import FrameType
from typing import Any

from pytest_tfleak.diagnosis.origins import Frame
from pytest_tfleak.diagnosis.origins import is_users

#: A line that leaves from half to twice what is looked for has made it.
_LEAST, _MOST = 0.5, 2.0
_OUTSIDE: Frame = ("", 0)


class Lines:
    """Reads a figure at the user's lines that one thread runs, while it is entered.

    ``until`` is a time on ``perf_counter``'s clock, after which it reads no more. The
    tracer of a debugger or of coverage waits meanwhile.
    """

    def __init__(self, read: Callable[[], int], until: float = inf) -> None:
        self._read = read
        self._until = until
        self._tracer: Any = None
        self._running: list[Frame] = [_OUTSIDE]  # lines, those that wait for a call too
        self._before = 0
        self._grown: dict[Frame, int] = {}
        self._iterations = 0

    def __enter__(self) -> Lines:
        self._tracer = sys.gettrace()
        self._before = self._read()
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._tracer)

    def tick(self) -> None:
        """Note that an iteration has ended."""
        self._running = [_OUTSIDE]
        self._iterations += 1

    def line_of(self, growth: float) -> Frame | None:
        """Return the line that leaves about so much in each iteration."""
        rates = {
            line: grown / max(1, self._iterations)
            for line, grown in self._grown.items()
            if line != _OUTSIDE
        }
        fitting = [
            (abs(rate - growth), line)
            for line, rate in rates.items()
            if _LEAST * growth <= rate <= _MOST * growth
        ]
        return min(fitting)[1] if fitting else None

    def _enter_frame(self, frame: FrameType, event: str, _: Any) -> Any:
        if not is_users(frame.f_code.co_filename):
            return None  # its time belongs to the line that called it
        if self._is_over():
            return None
        self._note()
        self._running.append((frame.f_code.co_filename, frame.f_lineno))
        self._before = self._read()
        return self._go_on

    def _go_on(self, frame: FrameType, event: str, _: Any) -> Any:
        if self._is_over():
            return None
        self._note()
        if event == "line":
            self._running[-1] = (frame.f_code.co_filename, frame.f_lineno)
        elif event == "return" and len(self._running) > 1:
            self._running.pop()
        self._before = self._read()
        return self._go_on

    def _is_over(self) -> bool:
        if perf_counter() > self._until:
            sys.settrace(None)
            return True
        return False

    def _note(self) -> None:
        line = self._running[-1]
        grown = self._read() - self._before
        if grown:
            self._grown[line] = self._grown.get(line, 0) + grown
