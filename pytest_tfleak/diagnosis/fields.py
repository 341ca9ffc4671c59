"""Read an object's types and fields without running its code.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from itertools import compress
from itertools import islice
from itertools import pairwise
from itertools import repeat
from operator import is_
from typing import Any

from pytest_tfleak.census import TypeName

_mro = type.__dict__["__mro__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_namespace = type.__dict__["__dict__"].__get__
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
OPTIMISED = 0x1  # of a function, whose locals are not its globals
_OWN_REFERENCES = 3  # the frame's, the variable's, the argument's
#: Whose properties and methods may run: they are known, an object's own are not.
_LIBRARIES = frozenset({"keras", "numpy", "tensorflow", "tf_keras"})


def cached_in(cache: Any) -> int:
    """Return how many results an lru_cache holds."""
    return int(functools._lru_cache_wrapper.cache_info(cache).currsize)


#: What tells the length of a container that can grow; a subclass may count otherwise.
_GROWING: dict[type, Callable[[Any], int]] = {
    list: list.__len__,
    dict: dict.__len__,
    set: set.__len__,
    deque: deque.__len__,
    functools._lru_cache_wrapper: cached_in,
}


def types_of(o: object) -> list[tuple[TypeName, type]]:
    """Return the types in an object's MRO with module and qualified name."""
    return [(_type_name(cls), cls) for cls in _mro(type(o))]


def read_field(o: object, name: str) -> Any:
    """Return what an instance keeps under a name in a slot or in its dict, or None."""
    for cls in _mro(type(o)):
        namespace = _namespace(cls)
        if name not in namespace:
            continue
        if type(namespace[name]) is not types.MemberDescriptorType:
            return dict.get(fields_of(o), name)
        with suppress(AttributeError):  # an empty slot
            return namespace[name].__get__(o)
        return None
    with suppress(AttributeError):
        # No class has this name, so nothing of theirs runs. A graph is an object of
        # C++ whose dict is found only in this way.
        return object.__getattribute__(o, name)
    return None


def fields_of(o: object) -> dict[str, Any]:
    """Return the dict in which an instance keeps its attributes; an empty one if none.

    It may be of a subclass: read it as ``dict.items(fields)``.
    """
    for cls in _mro(type(o)):
        found = _namespace(cls).get("__dict__")
        if found is not None:
            # a property of that name would be the object's own code
            is_plain = type(found) in _DESCRIPTORS
            try:
                fields: Any = found.__get__(o) if is_plain else None
            except TypeError:  # taken from another class, as tf_should_use does
                continue
            return fields if issubclass(type(fields), dict) else {}
    return {}


def locals_of(frame: types.FrameType) -> dict[str, object]:
    """Return a frame's local variables and leave behind nothing that keeps them."""
    names = frame.f_locals
    held = dict(names)
    # Until 3.12 a function's is a snapshot, which the frame keeps until it ends; more
    # references to it are those of a locals() in the function
    is_snapshot = type(names) is dict and frame.f_code.co_flags & OPTIMISED
    if is_snapshot and sys.getrefcount(names) <= _OWN_REFERENCES:
        names.clear()
    return held


def read_attribute(o: object, name: str) -> Any:
    """Return an attribute as a library's class defines it, or None.

    A subclass that a user wrote is passed over, whatever it redefines. Raises what the
    library raises.
    """
    for cls in _mro(type(o)):
        namespace = _namespace(cls)
        if name in namespace and _package(_type_name(cls)[0]) in _LIBRARIES:
            found = namespace[name]
            if hasattr(type(found), "__get__"):
                return found.__get__(o, cls)
            return found
    return None


def read_text(o: object, *names: str) -> str:
    """Return the first field that is text, ``""`` where none is."""
    for name in names:
        value = read_field(o, name)
        if type(value) is str:
            return value
        if type(value) is bytes:
            return value.decode(errors="replace")
    return ""


def sized_among(objects: list[Any]) -> Iterator[tuple[Any, Callable[[Any], int]]]:
    """Yield the containers that can grow, and what tells their size."""
    kinds: dict[int, Callable[[Any], int] | None] = {}
    for found in objects:
        kind = type(found)
        if id(kind) not in kinds:
            lengths = (
                len_ for plain, len_ in _GROWING.items() if issubclass(kind, plain)
            )
            kinds[id(kind)] = next(lengths, None)
        len_ = kinds[id(kind)]
        if len_ is not None:
            yield found, len_


def with_plain_dicts(objects: list[Any]) -> list[Any]:
    """Add the dicts that the collector leaves out: all in them are text and numbers."""
    held = gc.get_referents(*objects)
    dicts = compress(held, map(is_, map(type, held), repeat(dict)))
    plain = {id(found): found for found in dicts if not gc.is_tracked(found)}
    return [*objects, *plain.values()]


def content_of(container: Any) -> list[Any]:
    """Return the values of a plain list, tuple, dict or deque, [] of anything else."""
    kind = id(type(container))
    if kind == id(dict):
        return list(container.values())
    return list(container) if kind in map(id, (list, tuple, deque)) else []


def last_of(container: Any, count: int) -> list[Any]:
    """Return what was added last to a container that can grow."""
    kind = type(container)
    if issubclass(kind, dict):
        last = list(islice(reversed(dict.values(container)), count))
        return [] if last and _is_link(type(last[0])) else last
    if issubclass(kind, list):
        return list(islice(list.__reversed__(container), count))
    if issubclass(kind, deque):
        return list(islice(deque.__reversed__(container), count))
    if issubclass(kind, set):  # which has no order
        return list(islice(set.__iter__(container), count))
    if issubclass(kind, functools._lru_cache_wrapper):
        return _results_of(container)[-count:]
    return []


def _results_of(cache: Any) -> list[Any]:
    """Return the results in an lru_cache with an end, those used last at the end.

    Without an end they are the values of its dict.
    """
    held = gc.get_referents(cache)  # key, result and a link's type, for each entry
    results = [result for result, kind in pairwise(held) if _is_link(kind)]
    return results[:-1]  # that type once more, behind something else


def _is_link(kind: object) -> bool:
    return type(kind) is type and type_name(kind) == "functools._lru_list_elem"


def type_name(cls: type) -> str:
    """Return ``module.QualName`` of a class; just the name of a builtin one."""
    module, name = _type_name(cls)
    return name if module == "builtins" else f"{short_module(module)}.{name}"


def short_module(module: str) -> str:
    """Return a module's name; of TensorFlow's, Keras' and NumPy's the first part."""
    package = _package(module)
    return package if package in _LIBRARIES else module


def defines(cls: type, name: str) -> bool:
    """Say whether a class itself has an attribute of this name."""
    return name in _namespace(cls)


def short_type_name(o: object) -> str:
    """Return the name of an object's type without its module and outer scopes."""
    return _type_name(type(o))[1].rpartition(".")[2]


def _package(module: str) -> str:
    return module.partition(".")[0]


def _type_name(cls: type) -> TypeName:
    module, name = _module(cls), _qualname(cls)
    return (module if type(module) is str else "?", name if type(name) is str else "?")
