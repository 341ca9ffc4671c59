"""Read the facts of any object: type, name, dtype, shape, bytes, state.

No code of the objects runs, and nothing keeps them alive.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR
from inspect import CO_COROUTINE
from inspect import CO_GENERATOR
from inspect import CO_ITERABLE_COROUTINE
from inspect import CO_VARARGS
from types import FunctionType

from pytest_tfleak.diagnosis.safe_read import names_in
from pytest_tfleak.diagnosis.safe_read import type_name
from pytest_tfleak.diagnosis.what.python_objects import facts_of_python
from pytest_tfleak.diagnosis.what.tensorflow_objects import facts_of_tensorflow
from pytest_tfleak.object_facts import ObjectFacts
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.user_code import is_of_users

_MOST = 100  # how many objects of one group are read
_CLOSERS = ("close", "shutdown", "stop", "disconnect", "terminate", "cleanup")
#: Flags of functions whose code a mere call does not run.
_NOT_PLAIN = CO_GENERATOR | CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR


def facts_of(o: object) -> ObjectFacts:
    """Return the facts of an object; at least its type."""
    for read in (facts_of_tensorflow, facts_of_python):
        with suppress(Exception):  # the object may be only partly initialised
            known = read(o)
            if known is not None:
                return known
    return ObjectFacts(type=type_name(type(o)))


def facts_of_group(objects: Sequence[object]) -> list[ObjectFacts]:
    """Return the facts of the newest objects of a group."""
    return [facts_of(o) for o in objects[-_MOST:]]


def arrays_among(known: Sequence[ObjectFacts]) -> tuple[Array, ...]:
    """Return the different tensors, variables and arrays among some objects."""
    found = (one.array for one in known)
    return tuple(dict.fromkeys(array for array in found if array is not None))


def closers_of(o: object) -> tuple[str, ...]:
    """Return the methods of a user's object that let go of what it has: ``close``.

    A task of asyncio that is not done is let go by ``cancel``.
    """
    if _is_waiting(o):
        return ("cancel",)
    return tuple(name for name in _CLOSERS if _can_be_called(type(o), name))


def _is_waiting(o: object) -> bool:
    task = getattr(sys.modules.get("_asyncio"), "Task", None)
    if task is None or not issubclass(type(o), task):
        return False
    return not task.done(o)  # in C, whatever a subclass redefines


def _can_be_called(cls: type, name: str) -> bool:
    """Return whether a user's class has a plain method that needs no argument."""
    owner = next((base for base in mro_of(cls) if name in names_in(base)), None)
    if owner is None or not is_of_users(full_name(owner)):
        return False
    method = names_in(owner)[name]
    if type(method) is not FunctionType or not _needs_only_self(method):
        return False
    inner = method.__dict__.get("__wrapped__", method)  # of a decorator
    codes = [f.__code__ for f in (method, inner) if type(f) is FunctionType]
    return not any(code.co_flags & _NOT_PLAIN for code in codes)


def _needs_only_self(method: FunctionType) -> bool:
    code, defaults = method.__code__, method.__defaults__ or ()
    required = code.co_argcount - len(defaults)
    named = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
    takes_self = code.co_argcount > 0 or bool(code.co_flags & CO_VARARGS)
    has_defaults = set(named) <= set(method.__kwdefaults__ or ())
    return takes_self and required <= 1 and has_defaults


def functions_among(objects: Sequence[object]) -> tuple[str, ...]:
    """Return the full names of the Python functions among some objects."""
    names = [
        f"{o.__module__}.{o.__qualname__}"
        for o in objects[-_MOST:]
        if type(o) is FunctionType
    ]
    return tuple(dict.fromkeys(names))
