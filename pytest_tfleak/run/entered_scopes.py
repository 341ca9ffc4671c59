"""Notice which line enters a scope of TensorFlow's and never leaves it.

TensorFlow knows that a strategy is in force or that a summary writer is the default,
but not who made it so.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import Any
from typing import NamedTuple

from pytest_tfleak.tf.names import Name
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import users_frames

_NOBODY = -1  # a thread that does not exist


class Entered(NamedTuple):
    """A scope that was entered, and which nobody has begun to leave."""

    scope: weakref.ref[Any]
    lines: list[Frame]
    is_by_user: bool  # whether user code entered it, which a library may do for it


class EnteredScopes:
    """Knows which scopes of a class are entered on this thread, until ``stop``."""

    def __init__(self, cls: Name) -> None:
        self._cls = cls
        self._thread = threading.get_ident()
        self._entered: list[Entered] = []
        self._patches = Patches()

    def watch(self) -> None:
        """Start to note what is entered and left."""
        cls = self._cls.find()
        if cls is not None:
            self._patches.set(cls, "__enter__", self._hooked_enter)
            self._patches.set(cls, "__exit__", self._hooked_exit)

    def stop(self) -> None:
        """Remove the hooks."""
        self._thread = _NOBODY  # turns off hooks that another patch wraps
        self._patches.undo()

    @property
    def last(self) -> Entered | None:
        """Return the last scope that was entered and not left."""
        return self._entered[-1] if self._entered else None

    def _hooked_enter(self, original: Any) -> Any:
        @wraps(original)
        def enter(scope: Any) -> Any:
            result = original(scope)
            if threading.get_ident() == self._thread:
                with suppress(Exception):  # our errors must not fail the test
                    self._note(scope, sys._getframe(1))
            return result

        return enter

    def _hooked_exit(self, original: Any) -> Any:
        @wraps(original)
        def leave(scope: Any, *error: Any) -> Any:
            if threading.get_ident() == self._thread:
                self._forget(scope)
            return original(scope, *error)

        return leave

    def _note(self, scope: Any, frame: FrameType) -> None:
        lines = users_frames(frame)
        # a loop that drops what it enters must add nothing in each iteration
        self._entered = [
            one
            for one in self._entered
            if one.scope() is not None or one.lines != lines
        ]
        entered = Entered(weakref.ref(scope), lines, _is_entered_by_user(frame))
        self._entered.append(entered)

    def _forget(self, scope: Any) -> None:
        for place in reversed(range(len(self._entered))):
            if self._entered[place].scope() is scope:
                del self._entered[place]
                return


def _is_entered_by_user(frame: FrameType | None) -> bool:
    """Return whether user code enters a scope, by itself or with an ExitStack."""
    while frame is not None and frame.f_code.co_filename == contextlib.__file__:
        frame = frame.f_back
    return frame is not None and is_users(frame.f_code.co_filename)
