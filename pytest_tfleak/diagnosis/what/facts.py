"""Read the facts of any object: type, name, dtype, shape, bytes, state.

No code of the objects runs, and nothing keeps them alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
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
    """Return the methods of a user's object that let go of what it has: ``close``."""
    own = [cls for cls in mro_of(type(o)) if is_of_users(full_name(cls))]
    defined = {name for cls in own for name in names_in(cls)}
    return tuple(name for name in _CLOSERS if name in defined)


def functions_among(objects: Sequence[object]) -> tuple[str, ...]:
    """Return the full names of the Python functions among some objects."""
    names = [
        f"{o.__module__}.{o.__qualname__}"
        for o in objects[-_MOST:]
        if type(o) is FunctionType
    ]
    return tuple(dict.fromkeys(names))
