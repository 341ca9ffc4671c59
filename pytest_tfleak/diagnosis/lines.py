"""In which of the user's lines the heap grows, where no object tells who made it.

The heap is read before and after each call that the user's code makes into a library or
into C. What a line leaves in each iteration is compared with the growth that is looked
for: memory that is freed again later would mislead, and seldom has that very size.

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


class Lines:
    """Reads the heap around the calls of one thread, while it is entered.

    ``until`` is a time on ``perf_counter``'s clock, after which it reads no more.
    """

    def __init__(self, read: Callable[[], int], until: float = inf) -> None:
        self._read = read
        self._until = until
        self._frame: FrameType | None = None  # of the call that is under way
        self._line: Frame = ("", 0)
        self._before = 0
        self._grown: dict[Frame, int] = {}
        self._iterations = 0

    def __enter__(self) -> Lines:
        if sys.getprofile() is None:  # a profiler of the user's keeps its place
            sys.setprofile(self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        if getattr(sys.getprofile(), "__self__", None) is self:
            sys.setprofile(None)
        self._frame = None

    def tick(self) -> None:
        """Note that an iteration has ended."""
        self._frame = None
        self._iterations += 1

    def line_of(self, growth: float) -> Frame | None:
        """Return the line that leaves about so many bytes in each iteration."""
        rates = {
            line: grown / max(1, self._iterations)
            for line, grown in self._grown.items()
        }
        fitting = [
            (abs(rate - growth), line)
            for line, rate in rates.items()
            if _LEAST * growth <= rate <= _MOST * growth
        ]
        return min(fitting)[1] if fitting else None

    def _notice(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            caller = frame.f_back
            if self._frame is None and caller is not None:
                if _is_left(caller.f_code.co_filename, frame.f_code.co_filename):
                    self._begin(frame, caller)
        elif event == "c_call":
            if self._frame is None and is_users(frame.f_code.co_filename):
                self._begin(frame, frame)
        elif frame is self._frame:  # it returns, or what it called in C does
            grown = self._read() - self._before
            self._grown[self._line] = self._grown.get(self._line, 0) + grown
            self._frame = None

    def _begin(self, frame: FrameType, caller: FrameType) -> None:
        if perf_counter() > self._until:
            self.__exit__()
            return
        self._frame = frame
        self._line = (caller.f_code.co_filename, caller.f_lineno)
        self._before = self._read()


def _is_left(file: str, next_file: str) -> bool:
    """Say whether a call leads out of the user's code."""
    return is_users(file) and not is_users(next_file)
