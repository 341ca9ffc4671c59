"""Notice which context managers of user code are entered, and which are entered twice.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from types import CodeType
from types import FrameType
from typing import Any

from pytest_tfleak.diagnosis.origin.managers import ENTERS
from pytest_tfleak.diagnosis.origin.managers import EXITS
from pytest_tfleak.diagnosis.origin.managers import is_manager
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.user_code import function_at
from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import lines_of
from pytest_tfleak.verdict import Origin

#: How many managers that are open, and coroutines, are followed at a time.
_MOST = 1_000
_RESUMED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Entries:
    """Notices, inside its ``with`` block, what is entered on this thread.

    Where another profiler runs, it notices nothing.
    """

    def __init__(self) -> None:
        #: File and function of each ``__enter__`` that was called again too early.
        self.twice: set[tuple[str, str]] = set()
        #: The exits of a manager, its own and those that it inherits, by its enter.
        self.exits: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        #: The functions of managers, in the order in which they were entered.
        self._entered: dict[CodeType, None] = {}
        #: What is open, and the coroutines, by id; they stay alive while they are here.
        self._open: dict[int, _Open] = {}
        self._coroutines: dict[int, FrameType] = {}
        self._is_on = False

    def __enter__(self) -> Entries:
        self._is_on = sys.getprofile() is None
        if self._is_on:
            sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_on:
            sys.setprofile(None)
        self._open.clear()
        self._coroutines.clear()

    @property
    def lines(self) -> list[Origin]:
        """Return the first lines of the managers that were entered, the last first."""
        codes = [*self._entered][::-1]
        found = lines_of([(code.co_filename, code.co_firstlineno) for code in codes])
        return [line for line in found if is_manager(line)]

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_generator = code.co_flags & _RESUMED
        if event != "call" or not (is_generator or code.co_name in (*ENTERS, *EXITS)):
            return
        if not is_users(code.co_filename):
            return
        self._entered[code] = None
        if code.co_name in (*ENTERS, *EXITS) and self._begins(frame):
            self._count(frame.f_locals[code.co_varnames[0]], code)

    def _begins(self, frame: FrameType) -> bool:
        """Return whether a method begins: a coroutine is called again to go on."""
        if not frame.f_code.co_flags & _RESUMED:
            return bool(frame.f_code.co_argcount)
        if id(frame) in self._coroutines or len(self._coroutines) == _MOST:
            return False
        self._coroutines[id(frame)] = frame
        return bool(frame.f_code.co_argcount)

    def _count(self, manager: Any, code: CodeType) -> None:
        known = self._open.get(id(manager))
        if code.co_name in EXITS:
            if known is not None and known.leave(code):
                del self._open[id(manager)]
            return
        enter = _place_of(code)
        self.exits[enter] = tuple(map(_place_of, _exits_of(manager)))
        if known is None:
            if len(self._open) == _MOST:
                return
            known = self._open[id(manager)] = _Open(manager)
        if known.enter(code) > 1:
            self.twice.add(enter)


class _Open:
    """How often a manager was entered and left, by each of its methods.

    A class and the one that it derives from may both have such a method.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._enters: Counter[CodeType] = Counter()
        self._exits: Counter[CodeType] = Counter()

    def enter(self, code: CodeType) -> int:
        """Count a call, and return how often it has now been entered but not left."""
        self._enters[code] += 1
        return self._enters[code] - self._left

    def leave(self, code: CodeType) -> bool:
        """Count a call, and return whether it is now left as often as entered."""
        self._exits[code] += 1
        return self._left >= max(self._enters.values())

    @property
    def _left(self) -> int:
        return max(self._exits.values(), default=0)


def _exits_of(manager: Any) -> Iterator[CodeType]:
    """Yield the exits of a manager that user code defines, its own one first."""
    for cls in mro_of(type(manager)):
        for name in EXITS:
            code = getattr(vars(cls).get(name), "__code__", None)
            if isinstance(code, CodeType) and is_users(code.co_filename):
                yield code


def _place_of(code: CodeType) -> tuple[str, str]:
    return code.co_filename, function_at(code.co_filename, code.co_firstlineno)
