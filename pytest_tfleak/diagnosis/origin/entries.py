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
        self._calls: Counter[tuple[int, CodeType]] = Counter()
        #: What must stay alive for the ids to be unique.
        self._managers: list[Any] = []
        self._coroutines: list[FrameType] = []
        self._is_on = False

    def __enter__(self) -> Entries:
        self._is_on = sys.getprofile() is None
        if self._is_on:
            sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_on:
            sys.setprofile(None)
        self._calls.clear()
        self._managers.clear()
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
        if any(known is frame for known in self._coroutines):
            return False
        self._coroutines.append(frame)
        return bool(frame.f_code.co_argcount)

    def _count(self, manager: Any, code: CodeType) -> None:
        if not any(known is manager for known in self._managers):
            self._managers.append(manager)
        self._calls[id(manager), code] += 1
        if code.co_name in EXITS:
            return
        enter = _place_of(code)
        self.exits[enter] = tuple(map(_place_of, _exits_of(manager)))
        # a class and the one that it derives from may both have an __exit__
        left = max(
            (
                count
                for (owner, other), count in self._calls.items()
                if owner == id(manager) and other.co_name in EXITS
            ),
            default=0,
        )
        if self._calls[id(manager), code] - left > 1:
            self.twice.add(enter)


def _exits_of(manager: Any) -> Iterator[CodeType]:
    """Yield the exits of a manager that user code defines, its own one first."""
    for cls in mro_of(type(manager)):
        for name in EXITS:
            code = getattr(vars(cls).get(name), "__code__", None)
            if isinstance(code, CodeType) and is_users(code.co_filename):
                yield code


def _place_of(code: CodeType) -> tuple[str, str]:
    return code.co_filename, function_at(code.co_filename, code.co_firstlineno)
