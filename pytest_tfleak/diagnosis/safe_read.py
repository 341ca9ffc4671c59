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
from collections.abc import Mapping
from contextlib import suppress
from itertools import compress
from itertools import islice
from itertools import pairwise
from itertools import repeat
from operator import is_
from operator import not_
from typing import Any

from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.signals import TypeName

_namespace = type.__dict__["__dict__"].__get__
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
OPTIMISED = 0x1  # a code flag: of functions, but not of modules and classes
_OWN_REFERENCES = 3  # those of the frame, the variable and the argument
#: Packages whose own properties and methods may run, since what they do is known.
_LIBRARIES = frozenset({"keras", "numpy", "tensorflow", "tf_keras"})


def cached_in(cache: Any) -> int:
    """Return how many results an lru_cache holds."""
    return int(functools._lru_cache_wrapper.cache_info(cache).currsize)


#: Functions that return the length of a container, never those of a subclass.
_GROWING: dict[type, Callable[[Any], int]] = {
    list: list.__len__,
    dict: dict.__len__,
    set: set.__len__,
    deque: deque.__len__,
    functools._lru_cache_wrapper: cached_in,
}


#: Types whose ``len`` runs no code of a subclass.
_PLAIN_IDS = frozenset(map(id, (list, dict, set, deque)))


def names_in(cls: type) -> Mapping[str, Any]:
    """Return the attributes of a class itself, as a read-only view.

    They are empty for a type from C that was never made ready.
    """
    return _namespace(cls) or {}


def module_of(cls: type) -> str:
    """Return the name in a class's ``__module__``, "?" if there is none."""
    return type_name_of(cls)[0]


def types_of(o: object) -> list[tuple[TypeName, type]]:
    """Return the types in an object's MRO with module and qualified name."""
    return [(type_name_of(cls), cls) for cls in mro_of(type(o))]


def read_field(o: object, name: str) -> Any:
    """Return an attribute from an instance's slots or dict, or None."""
    for cls in mro_of(type(o)):
        namespace = names_in(cls)
        if name not in namespace:
            continue
        if type(namespace[name]) is not types.MemberDescriptorType:
            return dict.get(fields_of(o), name)
        with suppress(AttributeError):  # an empty slot
            return namespace[name].__get__(o)
        return None
    with suppress(AttributeError):
        # No class defines this name, so none of their code runs. This is the only way
        # to find the dict of a graph, which is an object from C++.
        return object.__getattribute__(o, name)
    return None


def fields_of(o: object) -> dict[str, Any]:
    """Return the dict of an instance's attributes, or an empty one.

    It may be of a subclass of dict: read it as ``dict.items(fields)``.
    """
    for cls in mro_of(type(o)):
        found = names_in(cls).get("__dict__")
        if found is not None:
            # a property named __dict__ would run the object's own code
            is_plain = is_exactly(found, *_DESCRIPTORS)
            try:
                fields: Any = found.__get__(o) if is_plain else None
            except TypeError:  # copied from another class, as tf_should_use does
                continue
            return fields if issubclass(type(fields), dict) else {}
    return {}


def locals_of(frame: types.FrameType) -> dict[str, object]:
    """Return a frame's local variables, and keep no further reference to them."""
    names = frame.f_locals
    held = dict(names)
    # Until 3.12, a function's f_locals is a snapshot that its frame keeps alive. It is
    # cleared here, unless the function itself holds it, as the result of locals().
    is_snapshot = type(names) is dict and frame.f_code.co_flags & OPTIMISED
    if is_snapshot and sys.getrefcount(names) <= _OWN_REFERENCES:
        names.clear()
    return held


def read_attribute(o: object, name: str) -> Any:
    """Return an attribute as a library's class defines it, or None.

    Skip what subclasses in user code redefine. Raises what the library raises.
    """
    for cls in mro_of(type(o)):
        namespace = names_in(cls)
        if name in namespace and _package(type_name_of(cls)[0]) in _LIBRARIES:
            found = namespace[name]
            if hasattr(type(found), "__get__"):
                return found.__get__(o, cls)
            return found
    return None


def read_text(o: object, *names: str) -> str:
    """Return the first of these fields that is text, or ``""``."""
    for name in names:
        value = read_field(o, name)
        if type(value) is str:
            return value
        if type(value) is bytes:
            return value.decode(errors="replace")
    return ""


def sized_among(objects: list[Any]) -> Iterator[tuple[Any, Callable[[Any], int]]]:
    """Yield the containers that can grow, and the function that returns their size."""
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


def sizes_of(objects: list[Any]) -> tuple[list[Any], list[int]]:
    """Return the containers among objects that can grow, and their sizes.

    Most are of the plain types, for which passes in C take a fifth of the time.
    """
    is_plain = list(map(_PLAIN_IDS.__contains__, map(id, map(type, objects))))
    containers = list(compress(objects, is_plain))
    sizes = list(map(len, containers))
    for found, len_ in sized_among(list(compress(objects, map(not_, is_plain)))):
        containers.append(found)
        sizes.append(len_(found))
    return containers, sizes


def with_plain_dicts(objects: list[Any]) -> list[Any]:
    """Add the dicts that hold only text and numbers, which the collector skips."""
    held = gc.get_referents(*objects)
    dicts = compress(held, map(is_, map(type, held), repeat(dict)))
    plain = {id(found): found for found in dicts if not gc.is_tracked(found)}
    return [*objects, *plain.values()]


def content_of(container: Any) -> list[Any]:
    """Return the items of a list, tuple or deque or the values of a dict, else []."""
    kind = id(type(container))
    if kind == id(dict):
        return list(container.values())
    return list(container) if kind in map(id, (list, tuple, deque)) else []


def last_of(container: Any, count: int) -> list[Any]:
    """Return the last items added to a container that can grow."""
    kind = type(container)
    if issubclass(kind, dict):
        last = list(islice(reversed(dict.values(container)), count))
        return [] if last and _is_link(type(last[0])) else last
    if issubclass(kind, list):
        return list(islice(list.__reversed__(container), count))
    if issubclass(kind, deque):
        return list(islice(deque.__reversed__(container), count))
    if issubclass(kind, set):  # a set has no order, so any items
        return list(islice(set.__iter__(container), count))
    if issubclass(kind, functools._lru_cache_wrapper):
        return _results_of(container)[-count:]
    return []


def entries_of(container: Any, most: int) -> list[Any]:
    """Return all items of a container, and the keys of a dict; [] if they are more.

    Raises RuntimeError if a thread changes the container meanwhile.
    """
    kind = type(container)
    for plain, (length, iterate) in _ITERATED.items():
        if issubclass(kind, plain) and length(container) <= most:
            return list(iterate(container))
    return []


def _keys_and_values(held: dict[Any, Any]) -> Iterator[Any]:
    yield from dict.values(held)
    yield from dict.keys(held)


#: How to read a container without running code of a subclass: length and items.
_ITERATED: dict[type, tuple[Callable[[Any], int], Callable[[Any], Iterator[Any]]]] = {
    list: (list.__len__, list.__iter__),
    tuple: (tuple.__len__, tuple.__iter__),
    dict: (dict.__len__, _keys_and_values),
    set: (set.__len__, set.__iter__),
    deque: (deque.__len__, deque.__iter__),
}


def _results_of(cache: Any) -> list[Any]:
    """Return the results in a bounded lru_cache, the last used at the end.

    An unbounded cache keeps them in a dict instead.
    """
    held = gc.get_referents(cache)  # for each entry: key, result and a link's type
    results = [result for result, kind in pairwise(held) if _is_link(kind)]
    return results[:-1]  # the last match is the type after something else


def _is_link(kind: object) -> bool:
    return type(kind) is type and type_name(kind) == "functools._lru_list_elem"


def type_name(cls: type) -> str:
    """Return ``module.QualName`` of a class, or only the name of a builtin one."""
    module, name = type_name_of(cls)
    return name if module == "builtins" else f"{short_module(module)}.{name}"


def short_module(module: str) -> str:
    """Return a module's name, shortened to the package for TensorFlow, Keras, NumPy."""
    package = _package(module)
    return package if package in _LIBRARIES else module


def defines(cls: type, name: str) -> bool:
    """Return whether a class itself has an attribute of this name."""
    return name in names_in(cls)


def short_type_name(o: object) -> str:
    """Return the name of an object's type without its module and outer scopes."""
    return type_name_of(type(o))[1].rpartition(".")[2]


def _package(module: str) -> str:
    return module.partition(".")[0]
