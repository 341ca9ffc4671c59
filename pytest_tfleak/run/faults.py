"""Count the TensorFlow calls of a body, and make one of them fail.

A call is a ``Session.run``, an operation that TensorFlow executes eagerly, or the call
of a traced function, on the thread that runs the body. It fails before TensorFlow
executes it. TensorFlow's own op callbacks come too late for that: they are called when
the operation has opened its file or has made its resource, and if it then "fails",
nobody closes them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from functools import partial
from functools import wraps
from types import FrameType
from typing import Any
from typing import NamedTuple

from pytest_tfleak.tf import names
from pytest_tfleak.tf.operations import hook_operations
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import users_frames

_TRACED = re.compile(r"^__(?:inference|forward|backward)_(.*)_\d+$")
#: How many frames of TensorFlow may lie between a destructor and the call.
_OF_WRAPPERS = 5
_NOBODY = -1  # a thread that does not exist


class Call(NamedTuple):
    """One TensorFlow call of a body."""

    number: int  # in the pass, from 1
    operation: str
    frames: list[Frame]  # the lines of user code that led to it, innermost first


class Faults:
    """Counts the calls of a pass, which is the context that it manages.

    ``aim`` says which call is to fail, and ``stop`` removes all hooks. ``error`` is the
    name of the exception in ``tf.errors``.
    """

    def __init__(self, error: str) -> None:
        self._error = error
        self._patches = Patches()
        self._is_hooked = False
        self._thread = _NOBODY
        self._count = self._target = 0
        self._records: list[Call] | None = None
        #: The calls of the last pass in which none was made to fail.
        self.calls: list[Call] = []
        #: The error that was raised in this pass, and where.
        self.raised: BaseException | None = None
        self.failed: Call | None = None

    def aim(self, number: int) -> None:
        """Have a call of the next pass fail; 0 records all calls instead."""
        self.forget()
        self._target = number

    def __enter__(self) -> None:
        """Begin to count: a pass begins."""
        if not self._is_hooked:
            self._hook()
        self._count = 0
        self._records = None if self._target else []
        self._thread = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._thread = _NOBODY
        if self._records is not None:
            self.calls, self._records = self._records, None

    def forget(self) -> None:
        """Drop the error, whose traceback holds the frames of the body."""
        self.raised = self.failed = None

    def stop(self) -> None:
        """Remove all hooks."""
        self._thread = _NOBODY  # turns off hooks that another patch wraps
        self._patches.undo()
        self.forget()

    def _hook(self) -> None:
        if names.FAST_PATH.find() is None or names.ERRORS.find() is None:
            return  # TensorFlow is not imported, or there is no error to raise
        self._is_hooked = True
        hook_operations(self._patches, self._begin)
        session = names.SESSION.find()
        if session is not None:
            self._patches.set(session, "run", self._hooked_run)

    def _begin(
        self, operation: Any, _: object, frame: FrameType
    ) -> Callable[[], None] | None:
        """Count a call, and return what takes that back; raise if it is to fail."""
        if threading.get_ident() != self._thread or _is_of_destructor(frame):
            return None
        self._count_call(operation, frame)
        return partial(self._uncount, len(self._records or ()))

    def _uncount(self, place: int) -> None:
        self._count -= 1
        if self._records:
            del self._records[place - 1]

    def _hooked_run(self, original: Any) -> Any:
        @wraps(original)
        def run(session: Any, /, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == self._thread:
                self._count_call("Session.run", sys._getframe(1))
            return original(session, *args, **kwargs)

        return run

    def _count_call(self, operation: Any, frame: FrameType) -> None:
        """Count a call; raise if it is the one to fail."""
        self._count += 1
        if self._records is not None:
            self._records.append(self._call(operation, frame))
        elif self._count == self._target:
            self.failed = call = self._call(operation, frame)
            self.raised = _make_error(self._error, call)
            raise self.raised

    def _call(self, operation: Any, frame: FrameType) -> Call:
        return Call(self._count, _name_of(operation), users_frames(frame))


def _is_of_destructor(frame: FrameType | None) -> bool:
    """Return whether a destructor makes a call: Python ignores an error there."""
    for _ in range(_OF_WRAPPERS):
        if frame is None:
            return False
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _make_error(name: str, call: Call) -> BaseException:
    cls = getattr(names.ERRORS.get(), name)
    message = f"{call.operation} was made to fail (call {call.number}) by pytest-tfleak"
    error: BaseException = cls(None, None, message)
    return error


def _name_of(operation: Any) -> str:
    """Return an operation's name: ``MatMul``, or ``the tf.function step``."""
    name = operation.decode() if isinstance(operation, bytes) else str(operation)
    traced = _TRACED.match(name)
    return f"tf.function {traced[1]}" if traced else name
