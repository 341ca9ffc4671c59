"""Where a search for holders begins: modules, frames, threads, fixtures, exceptions.

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
from dataclasses import dataclass
from types import FrameType
from types import ModuleType
from typing import Any

from pytest_tfleak.diagnosis.fields import OPTIMISED
from pytest_tfleak.diagnosis.fields import locals_of
from pytest_tfleak.diagnosis.fields import read_field
from pytest_tfleak.diagnosis.fields import read_text
from pytest_tfleak.diagnosis.origins import is_users

_OURS = ("pytest_tfleak", "_pytest", "pytest", "pluggy", "xdist", "execnet")
_module_of = type.__dict__["__module__"].__get__
THREADS = "Python's table of running threads"
AT_EXIT = "atexit ("
#: Types of what the interpreter keeps for atexit: functions and their arguments.
_CALLED = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType),
    *(functools.partial, tuple, dict),
)


@dataclass(frozen=True, slots=True)
class Root:
    """Something that lives on its own: its name, and what it holds."""

    name: str
    holds: Any
    #: How its members are named: ``module.x``, or ``local x of f()``.
    form: str = "{root}.{name}"


def users_roots(
    handed: Mapping[str, object], made: Container[int] = ()
) -> Iterator[Root]:
    """Return what the user's code keeps alive, and what pytest hands to the test.

    ``made`` are the ids of what each iteration makes: such a module is no root.
    """
    for name, module in modules_now(made):
        if is_users_module(module) and not is_ours(name):
            yield Root(name, namespace_of(module))
    if handed:
        yield Root("", dict(handed), "{name}")
    yield from _exceptions()
    yield from _signal_handlers()
    for variable, value in contextvars.copy_context().items():
        yield Root(f"context variable {variable.name}", [value])
    yield from _frames(_is_users_frame)
    yield Root("sys", {"modules": sys.modules})
    yield Root(THREADS, getattr(threading, "_active", {}), "{root}")


def other_roots() -> Iterator[Root]:
    """Return what installed libraries and the interpreter keep alive."""
    for name, module in modules_now():
        if not is_users_module(module) and not is_ours(name):
            yield Root(name, namespace_of(module))
    yield from _frames(_is_others_frame)


def at_exit(held: object, count: int) -> Root | None:
    """Return the root of what nobody but one of ``count`` functions can hold, if so."""
    if count and issubclass(type(held), _CALLED):
        return Root(f"{AT_EXIT}{count} functions)", [held])
    return None


def our_roots() -> Iterator[Root]:
    """Return what pytest and this package hold while a test is measured."""
    return _frames(_is_our_frame)


def is_ours(module: object) -> bool:
    """Say whether a module, given by name, is this package's or pytest's."""
    return isinstance(module, str) and module.partition(".")[0] in _OURS


def is_of_ours(o: object) -> bool:
    """Say whether an object's type is this package's."""
    module = _module_of(type(o))
    return type(module) is str and module.partition(".")[0] == _OURS[0]


def modules_now(but: Container[int] = ()) -> Iterator[tuple[str, ModuleType]]:
    """Yield the imported modules with their names; ``but`` are ids of some."""
    for name, module in list(sys.modules.items()):
        # not isinstance: a module that loads itself lazily would be loaded
        if issubclass(type(module), ModuleType) and id(module) not in but:
            yield name, module


def namespace_of(module: ModuleType) -> dict[str, Any]:
    """Return the names of a module without loading it."""
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names


def is_users_module(module: ModuleType) -> bool:
    """Say whether a module is neither a library's nor ours, without loading it."""
    names = namespace_of(module)
    file = names.get("__file__")
    if isinstance(file, str):
        return is_users(file)
    return bool(names.get("__name__") == "__main__")


def _signal_handlers() -> Iterator[Root]:
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and number in set(signal.Signals):
            name = signal.Signals(number).name
            yield Root(f"signal handler of {name}", [handler])


def _exceptions() -> Iterator[Root]:
    for name in ("last_exc", "last_value", "last_traceback"):
        held = getattr(sys, name, None)
        if held is not None:
            yield Root(f"sys.{name}", [held])


def _frames(is_wanted: Callable[[FrameType], bool]) -> Iterator[Root]:
    threads = {read_field(thread, "_ident"): thread for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        thread = threads.get(ident)
        where = ""
        if thread is not None and thread is not threading.main_thread():
            where = f" in thread {read_text(thread, '_name')!r}"
        at: FrameType | None = frame
        while at is not None:
            code = at.f_code
            if code.co_flags & OPTIMISED and is_wanted(at):
                function = f"{code.co_name}(){where}"
                form = "local variable {name} of " + _escaped(function)
                yield Root(code.co_name, locals_of(at), form)
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


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
