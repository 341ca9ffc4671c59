"""Read how full a bounded container is, and keep it from filling up.

Containers are read without running Python code of theirs. If possible, a container is
held at its size by its own means: with a lower bound, a cache drops its oldest entry
for each new one.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from functools import cache as remembered
from itertools import compress
from math import isfinite
from types import FunctionType
from typing import Any
from typing import NamedTuple

from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.probes.census import type_name_of

_LRU: Any = functools._lru_cache_wrapper
_maxlen: Any = deque.__dict__["maxlen"].__get__
_namespace = type.__dict__["__dict__"].__get__
_WORD = ctypes.sizeof(ctypes.c_ssize_t)
#: The attributes of a class for its bound and its size, as in cachetools.
_NAMES = _BOUND, _SIZE = "maxsize", "currsize"


class Fill(NamedTuple):
    """How full a container is, in entries or in the unit of its bound."""

    size: int
    bound: int

    @property
    def has_room(self) -> bool:
        """Return whether it has room for more."""
        return self.size < self.bound


def bounded_among(objects: Iterable[Any]) -> Iterator[tuple[Any, Fill]]:
    """Yield the bounded containers among these objects that are not full."""
    objects = list(objects)
    examples = dict(zip(map(id, map(type, objects)), map(type, objects), strict=True))
    wanted = {key for key, cls in examples.items() if _kind_of(cls) is not None}
    is_wanted = map(wanted.__contains__, map(id, map(type, objects)))
    for found in compress(objects, is_wanted):
        fill = fill_of(found)
        if fill is not None and fill.has_room and _has_weak_references(found):
            yield found, fill


def _has_weak_references(found: Any) -> bool:
    try:
        weakref.ref(found)
    except TypeError:
        return False
    return True


def fill_of(container: Any) -> Fill | None:
    """Return how full a container is, None if it is not bounded."""
    kind = _kind_of(type(container))
    return None if kind is None else kind.read(container)


def name_kind(container: Any) -> str:
    """Return the name of a container's kind that users know."""
    cls = type(container)
    return "lru_cache" if cls is _LRU else type_name_of(cls)[1].rpartition(".")[2]


class Held:
    """Keeps one container at its size while the body runs.

    ``before`` is its size before the body's last iterations: only items added since
    then may be freed. ``trim`` must be called after each iteration.
    """

    def __init__(self, container: Any, before: int) -> None:
        # a weak reference, so that it does not look kept if the body replaces it
        self._reference = weakref.ref(container)
        kind = _kind_of(type(container))
        assert kind is not None
        self._trim, self._undo = kind.hold(container, before)

    def trim(self) -> None:
        """Free what exceeds the size, unless the container does so itself."""
        container = self._reference()
        if container is not None:
            self._trim(container)

    def release(self) -> None:
        """Let the container grow again."""
        container = self._reference()
        if container is not None:
            self._undo(container)


def can_hold(container: Any) -> bool:
    """Return whether a container can be kept from filling up in this Python."""
    return type(container) is not _LRU or _place_of_bound() is not None


_Call = Callable[[Any], None]


class _Kind(NamedTuple):
    read: Callable[[Any], Fill | None]
    hold: Callable[[Any, int], tuple[_Call, _Call]]  # trim, undo


def _nothing(_: Any) -> None:
    """Do nothing: the container drops old entries itself."""


# functools.lru_cache


def _read_lru(cache: Any) -> Fill:
    info = _LRU.cache_info(cache)
    return Fill(info.currsize, info.maxsize or 0)


def _hold_lru(cache: Any, _: int) -> tuple[_Call, _Call]:
    size, bound = _read_lru(cache)
    _set_bound(cache, size)
    return _nothing, lambda cache: _set_bound(cache, bound)


def _set_bound(cache: Any, bound: int) -> None:
    place = _place_of_bound()
    if place is not None:
        ctypes.c_ssize_t.from_address(id(cache) + place).value = bound


@remembered
def _place_of_bound() -> int | None:
    """Return the offset of the bound in an lru_cache, None if it cannot be found.

    Python code cannot change the bound. A cache of our own shows where it lies in
    memory, and that the cache respects a change.
    """
    with suppress(Exception):
        mark, size = 0x5EED_CA4E, int(_LRU.__basicsize__)
        cache = functools.lru_cache(maxsize=mark)(str)
        words = (ctypes.c_ssize_t * (size // _WORD)).from_address(id(cache))
        places = [place * _WORD for place, word in enumerate(words) if word == mark]
        cache(1)
        if len(places) == 1 and cache.cache_info().maxsize == mark:
            ctypes.c_ssize_t.from_address(id(cache) + places[0]).value = 1
            cache(2)
            if cache.cache_info()[2:] == (1, 1):
                return places[0]
    return None


# collections.deque


def _read_deque(items: Any) -> Fill:
    return Fill(deque.__len__(items), _maxlen(items) or 0)


def _hold_deque(items: Any, before: int) -> tuple[_Call, _Call]:
    return _DequeTrim(items, before), _nothing


class _DequeTrim:
    """Frees items that the body adds to a deque, and keeps the latest ones.

    The deque may be a queue, or be counted: so it still gets longer, but in the place
    of each freed item stands one that an earlier call added. Items from before stay.
    """

    def __init__(self, items: Any, before: int) -> None:
        self._size = self._length = deque.__len__(items)
        self._before = min(before, self._size - 1)
        self._ends = self._ends_of(items)

    def __call__(self, items: Any) -> None:
        left, right = self._ends_of(items)
        is_left = left != self._ends[0] and right == self._ends[1]
        last = deque.__len__(items) - 1
        with suppress(IndexError):  # a thread may remove items, too
            added = self._count_added(items, is_left)
            dropped = self._length + added - (last + 1)
            self._before = max(0, self._before - max(0, dropped))
            latest = self._size - self._before
            first = last - self._before if is_left else self._before
            for age in range(latest, last - self._before):
                place = age if is_left else last - age
                stand_in = deque.__getitem__(items, first)
                if deque.__getitem__(items, place) is stand_in:
                    break
                deque.__setitem__(items, place, stand_in)
        self._ends, self._length = (left, right), last + 1

    def _count_added(self, items: Any, is_left: bool) -> int:
        """Return how many items came since the last look, at one end."""
        end = self._ends[0 if is_left else 1]
        last = deque.__len__(items) - 1
        for age in range(last + 1):
            if id(deque.__getitem__(items, age if is_left else last - age)) == end:
                return age
        return 0  # the body emptied it

    def _ends_of(self, items: Any) -> tuple[int, int]:
        if not deque.__len__(items):
            return 0, 0
        return id(deque.__getitem__(items, 0)), id(deque.__getitem__(items, -1))


# cachetools and similar: Python classes with a maxsize and a currsize


def _read_sized(cache: Any) -> Fill | None:
    fields = _fields_of(cache)
    size, bound = (_number_in(fields, name) for name in (_SIZE, _BOUND))
    if size is None or bound is None or not (isfinite(size) and isfinite(bound)):
        return None
    return Fill(int(size), int(bound))


def _hold_sized(cache: Any, _: int) -> tuple[_Call, _Call]:
    fields = _fields_of(cache)
    name = _field_named(fields, _BOUND) or ""
    was, size = fields[name], _number_in(fields, _SIZE)
    dict.__setitem__(fields, name, size)

    def undo(cache: Any) -> None:
        fields = _fields_of(cache)
        if dict.get(fields, name) == size:
            dict.__setitem__(fields, name, was)

    return _nothing, undo


def _fields_of(cache: Any) -> dict[str, Any]:
    with suppress(Exception):
        fields: dict[str, Any] = object.__getattribute__(cache, "__dict__")
        return fields
    return {}


def _number_in(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(_field_named(fields, name) or "")
    return value if is_exactly(value, int, float) else None


def _field_named(fields: Mapping[str, Any], name: str) -> str | None:
    """Return the field with this name, private or not."""
    return next((f for f in fields if _is_name(f, name)), None)


def _is_name(field: object, name: str) -> bool:
    if type(field) is not str or not field.endswith(name):
        return False
    prefix = field.removesuffix(name)
    return prefix in ("", "_") or (prefix[0] == "_" and prefix.endswith("__"))


_KINDS = {
    "lru": _Kind(_read_lru, _hold_lru),
    "deque": _Kind(_read_deque, _hold_deque),
    "sized": _Kind(_read_sized, _hold_sized),
}


def _kind_of(cls: type) -> _Kind | None:
    if cls is _LRU:
        return _KINDS["lru"]
    bases = mro_of(cls)
    if issubclass(cls, deque):
        return _KINDS["deque"]
    names = [name for base in bases for name in _names_in(base)]
    if all(any(_is_name(name, wanted) for name in names) for wanted in _NAMES):
        return _KINDS["sized"]
    return None


def _names_in(cls: type) -> Iterator[str]:
    """Yield which of the names a class has, and all names that its __init__ uses."""
    known = _namespace(cls) or {}
    for name in _NAMES:
        if name in known:
            yield name
    begin = known.get("__init__")
    if type(begin) is FunctionType:
        yield from begin.__code__.co_names
