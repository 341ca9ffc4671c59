"""Find the function that a user wrote below the wrappers of decorators and libraries.

``strategy.run(step)``, for one, makes a tf.function of its own that calls ``step``.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterator
from typing import Any

from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.safe_read import types_of
from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.tf import names
from pytest_tfleak.user_code import is_users

_WRAPPED = 20  # most layers of decorators
_DEEPEST = 4  # most layers of a library's functions
_MOST = 50  # most functions that are looked at
#: How TensorFlow names an argument of a wrapper with the parameters ``*args``.
_OF_WRAPPER = re.compile(r"args_(\d+)")


def unwrap(o: Any) -> Any:
    """Return the function below methods, partials and decorators."""
    for _ in range(_WRAPPED):
        if type(o) is types.MethodType:
            o = o.__func__
        elif _is_partial(o):
            o = functools.partial.func.__get__(o)
        else:
            inner = read_field(o, "__wrapped__")
            if inner is None:
                break
            o = inner
    return o


def user_function_in(o: Any) -> types.FunctionType | None:
    """Return the nearest function of user code that a library's function calls.

    Return None if it calls none, or if the function itself is the user's.
    """
    level, seen = [unwrap(o)], set[int]()
    if _is_of_user(level[0]):
        return None
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            for inner in map(unwrap, _called_by(outer))
            if id(inner) not in seen
        ][:_MOST]
        seen.update(map(id, level))
        for inner in level:
            if type(inner) is types.FunctionType and _is_of_user(inner):
                return inner
    return None


def user_parameter(argument: str, user: types.FunctionType | None) -> str:
    """Return the user's name of a wrapper's argument: ``x[0]`` for ``args_1[0]``."""
    match = _OF_WRAPPER.match(argument)
    if match is None or user is None:
        return argument
    code = user.__code__
    named, at = code.co_varnames[: code.co_argcount], int(match[1])
    at += named[:1] == ("self",)
    return named[at] + argument[match.end() :] if at < len(named) else argument


def _called_by(o: Any) -> Iterator[Any]:
    """Yield the functions that a function has in its closure or its arguments."""
    found: list[Any] = []
    if type(o) is types.FunctionType:
        for cell in o.__closure__ or ():
            try:
                found.append(cell.cell_contents)
            except ValueError:  # the variable is not set yet
                continue
    elif _is_partial(o):
        found.extend(functools.partial.args.__get__(o))
    for inner in found:
        python = read_field(inner, names.PYTHON_FUNCTION)  # of a tf.function
        if python is not None:
            yield python
        elif is_exactly(inner, types.FunctionType, types.MethodType) or _is_partial(
            inner
        ):
            yield inner


def _is_partial(o: Any) -> bool:
    return any(cls is functools.partial for _, cls in types_of(o))


def _is_of_user(o: Any) -> bool:
    return type(o) is types.FunctionType and is_users(o.__code__.co_filename)
