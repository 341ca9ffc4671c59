"""List the GC roots at which a search for holders starts: modules, frames, fixtures.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextvars
import functools
import signal
import sys
import threading
import types
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from types import ModuleType
from typing import Any

from pytest_tfleak.diagnosis.safe_read import OPTIMISED
from pytest_tfleak.diagnosis.safe_read import locals_of
from pytest_tfleak.diagnosis.safe_read import module_of
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.safe_read import read_text
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.user_code import is_users

_OURS = ("pytest_tfleak", "_pytest", "pytest", "pluggy", "xdist", "execnet")
#: Types of the objects that atexit keeps: functions and their arguments.
_CALLED = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType),
    *(functools.partial, tuple, dict),
)


@dataclass(frozen=True, slots=True)
class Start:
    """A root, and the namespace or list of the objects it holds."""

    root: Root
    holds: Any


def users_roots(
    handed: Mapping[str, object], new: Container[int] = ()
) -> Iterator[Start]:
    """Yield the roots in user code, and the objects that pytest passes to the test.

    ``handed`` is keyed by kind and name: ``fixture:model``, ``body``. ``new`` holds the
    ids of objects that each iteration makes; a module among them is no root.
    """
    for name, module in modules_now(new):
        if is_users_module(module) and not is_ours(name):
            root = Root(kind="module", name=name)
            yield Start(root, namespace_of(module))
    for key, value in handed.items():
        kind, _, name = key.partition(":")
        yield Start(Root(kind=kind, name=name), [value])
    yield from _exceptions()
    yield from _signal_handlers()
    for variable, value in contextvars.copy_context().items():
        yield Start(Root(kind="context", name=variable.name), [value])
    yield from _frames(_is_users_frame)
    system = Root(kind="module", name="sys", is_library=True)
    yield Start(system, {"modules": sys.modules})
    yield Start(Root(kind="threads"), getattr(threading, "_active", {}))


def other_roots() -> Iterator[Start]:
    """Yield the roots in installed libraries and the interpreter."""
    for name, module in modules_now():
        if not is_users_module(module) and not is_ours(name):
            root = Root(kind="module", name=name, is_library=True)
            yield Start(root, namespace_of(module))
    yield from _frames(_is_others_frame)


def at_exit(held: object, count: int) -> Start | None:
    """Return atexit as root if one of its ``count`` functions may hold the object."""
    if count and issubclass(type(held), _CALLED):
        return Start(Root(kind="atexit", size=count), [held])
    return None


def is_at_exit(start: object) -> bool:
    """Return whether a chain starts at the functions that atexit keeps."""
    return type(start) is Start and start.root.kind == "atexit"


def our_roots() -> Iterator[Start]:
    """Yield the roots in pytest and this package, while a test is measured."""
    return _frames(_is_our_frame)


def is_ours(module: object) -> bool:
    """Return whether a module, given by name, belongs to this package or pytest."""
    return isinstance(module, str) and module.partition(".")[0] in _OURS


def is_of_ours(o: object) -> bool:
    """Return whether an object's type belongs to this package."""
    return module_of(type(o)).partition(".")[0] == _OURS[0]


def modules_now(excluded: Container[int] = ()) -> Iterator[tuple[str, ModuleType]]:
    """Yield the imported modules with their names, except those with these ids."""
    for name, module in list(sys.modules.items()):
        # not isinstance, which would load a lazy module
        if issubclass(type(module), ModuleType) and id(module) not in excluded:
            yield name, module


def namespace_of(module: ModuleType) -> dict[str, Any]:
    """Return the namespace of a module without loading it."""
    names: dict[str, Any] | None = object.__getattribute__(module, "__dict__")
    return {} if names is None else names  # a module not yet initialised has None


def is_users_module(module: ModuleType) -> bool:
    """Return whether a module is user code, without loading it."""
    names = namespace_of(module)
    file = names.get("__file__")
    if isinstance(file, str) and not file.startswith("<"):  # such as <stdin>
        return is_users(file)
    return bool(names.get("__name__") == "__main__")


def _signal_handlers() -> Iterator[Start]:
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and number in set(signal.Signals):
            name = signal.Signals(number).name
            yield Start(Root(kind="signal", name=name), [handler])


def _exceptions() -> Iterator[Start]:
    for name in ("last_exc", "last_value", "last_traceback"):
        held = getattr(sys, name, None)
        if held is not None:
            yield Start(Root(kind="exception", name=name), [held])


def _frames(is_wanted: Callable[[FrameType], bool]) -> Iterator[Start]:
    threads = {read_field(thread, "_ident"): thread for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        thread = threads.get(ident)
        name = ""
        if thread is not None and thread is not threading.main_thread():
            name = read_text(thread, "_name")
        at: FrameType | None = frame
        while at is not None:
            code = at.f_code
            if code.co_flags & OPTIMISED and is_wanted(at):
                root = Root(kind="local", name=code.co_name, thread=name)
                held: dict[str, object] = {}
                with suppress(Exception):  # its namespace may be of any type
                    held = locals_of(at)
                yield Start(root, held)
            at = at.f_back


def _is_our_frame(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return is_ours(module) and not module.startswith("pytest_tfleak.diagnosis.")


def _is_users_frame(frame: FrameType) -> bool:
    file: str = frame.f_code.co_filename
    return not is_ours(frame.f_globals.get("__name__")) and is_users(file)


def _is_others_frame(frame: FrameType) -> bool:
    file: str = frame.f_code.co_filename
    return not is_ours(frame.f_globals.get("__name__")) and not is_users(file)
