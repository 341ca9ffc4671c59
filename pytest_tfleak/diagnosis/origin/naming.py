"""Find the line that gives an object its name, from what refers to it.

Python tells only an audit hook who opens a file. It then calls that hook at each
``id()`` as well, which would slow down all calls of a body. So when a body has failed,
this looks for the variable or the attribute that an open file, or the container that it
is in, is known by, and for the only statement that assigns to it or adds to it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import gc
from collections import deque
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from types import AsyncGeneratorType
from types import CoroutineType
from types import FrameType
from types import GeneratorType
from types import ModuleType
from typing import Any
from typing import NamedTuple

from pytest_tfleak.diagnosis.origin.source_hints import ADDS
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.diagnosis.safe_read import locals_of
from pytest_tfleak.diagnosis.safe_read import module_of
from pytest_tfleak.diagnosis.safe_read import names_in
from pytest_tfleak.probes.census import thawed
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import definitions_in
from pytest_tfleak.user_code import file_of_module
from pytest_tfleak.user_code import function_at
from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import tree_of

_MOST_CONTAINERS = 2  # around one another
_CONTAINERS = (list, dict, set, deque)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)
_BY_CALLER = 0  # in place of a line
_MOST_WRAPPERS = 3
_WRAPPERS = ("_io", "tempfile")  # their modules
#: The attribute with the frame of what may be suspended.
_SUSPENDED: dict[type, str] = {
    GeneratorType: "gi_frame",
    CoroutineType: "cr_frame",
    AsyncGeneratorType: "ag_frame",
}


class Naming(NamedTuple):
    """The only statement that gives an object, or the container it is in, a name."""

    name: str
    line: Frame
    adds: bool  # whether it adds to a container of that name


class _Place(NamedTuple):
    """Where a name stands for an object."""

    file: str
    scope: str  # the function or class, "" for the module
    name: str
    is_attribute: bool = False


def naming_of(file: object) -> Naming | None:
    """Return how user code names an open file, None if that is not certain."""
    with thawed():
        targets = _with_wrappers(file)
        for depth in range(1 + _MOST_CONTAINERS):
            holders = _holders_of(targets)
            ids = frozenset(map(id, targets))
            for place in [p for one in holders for p in _places_in(one, ids)]:
                lines = {*_lines_naming(place, adds=depth > 0)}
                if len(lines) == 1 and _BY_CALLER not in lines:
                    line = (place.file, lines.pop())
                    return Naming(place.name, line, adds=depth > 0)
            targets = [one for one in holders if type(one) in _CONTAINERS]
    return None


def _with_wrappers(file: object) -> list[Any]:
    """Return a file, and those around it that users see: a text, a buffer, a file."""
    found = [file]
    for _ in range(_MOST_WRAPPERS):
        holders = gc.get_referrers(found[-1])
        if not any(map(_is_wrapper, holders)):
            break
        found.append(next(filter(_is_wrapper, holders)))
    return found


def _is_wrapper(holder: Any) -> bool:
    return type_name_of(type(holder))[0] in _WRAPPERS


def _holders_of(targets: Sequence[Any]) -> list[Any]:
    """Return what refers to some objects, by itself or by its attributes."""
    holders = gc.get_referrers(*targets)
    namespaces = [one for one in holders if type(one) is dict]
    return [*holders, *(gc.get_referrers(*namespaces) if namespaces else ())]


def _places_in(holder: Any, ids: Collection[int]) -> Iterator[_Place]:
    """Yield the names by which a holder refers to one of some objects."""
    file, scope, names = _namespace_of(holder)
    is_attribute = type(holder) not in (FrameType, ModuleType, *_SUSPENDED)
    for name in list(names) if file else ():
        if id(names.get(name)) in ids:
            yield _Place(file, scope, name, is_attribute)


def _namespace_of(holder: Any) -> tuple[str, str, Mapping[str, Any]]:
    """Return the names that a holder gives to objects, and the code that does.

    That is a file of user code, "" for any other, and a function or class in it.
    """
    cls = type(holder)
    if cls in _SUSPENDED:
        holder = getattr(holder, _SUSPENDED[cls])
    if type(holder) is FrameType:
        file, first = holder.f_code.co_filename, holder.f_code.co_firstlineno
        if is_users(file):
            return file, function_at(file, first), locals_of(holder)
        return "", "", {}
    if cls is ModuleType:
        return file_of_module(holder.__name__), "", vars(holder)
    if issubclass(cls, type):
        return file_of_module(module_of(holder)), "", names_in(holder)
    module, name = type_name_of(cls)
    return file_of_module(module), name, fields_of(holder)


def _lines_naming(place: _Place, *, adds: bool) -> Iterator[int]:
    """Yield the lines of the code around a name that assign to it or add to it.

    A parameter has none: its callers give an object that name.
    """
    code: ast.AST | None = tree_of(place.file)
    if place.scope:
        code = definitions_in(place.file).get(place.scope)
    for node in ast.walk(code) if code is not None else ():
        if isinstance(node, ast.arg) and not place.is_attribute:
            if node.arg == place.name and not adds:
                yield _BY_CALLER
        elif isinstance(node, (ast.expr, ast.Assign)):
            if _is_named(_put_into(node) if adds else _assigned(node), place):
                yield node.lineno


def _assigned(node: ast.AST) -> ast.AST | None:
    return node if isinstance(getattr(node, "ctx", None), ast.Store) else None


def _put_into(node: ast.AST) -> ast.AST | None:
    """Return the container that a node fills or adds to, None if it does not."""
    match node:
        case ast.Assign(targets=[container], value=value):
            return container if isinstance(value, _COMPREHENSIONS) else None
        case ast.Call(func=ast.Attribute(value=container, attr=method)):
            return container if method in ADDS else None
        case ast.Subscript(value=container, ctx=ast.Store()):
            return container
    return None


def _is_named(node: ast.AST | None, place: _Place) -> bool:
    if isinstance(node, ast.Attribute):
        return place.is_attribute and node.attr == place.name
    is_name = isinstance(node, ast.Name) and node.id == place.name
    return is_name and not place.is_attribute
