"""Weigh objects together with all that they hold, in bytes or in blocks of memory.

An object may be replaced in each call, or hold objects that are: so what is compared
is the weight below each object that stays.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import types
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress
from sys import getsizeof
from typing import Any

from pytest_tfleak.diagnosis.holder.search import LEAVES
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.run.own_bytes import is_array_type
from pytest_tfleak.run.own_bytes import measure_of
from pytest_tfleak.run.own_bytes import referents_of
from pytest_tfleak.run.own_bytes import weigher_of

#: What tells the size of objects without content of their own.
_OF_ANY: Any = object.__dict__["__sizeof__"]
_LEAF_IDS = frozenset(map(id, LEAVES))
#: Where a walk from one value ends, as it would go on to all that a module holds.
_BORDERS = (type, types.ModuleType, types.FrameType, types.FunctionType)
_ID_OF_BUFFER = id(bytearray)
_MOST_WALKED = 5_000  # objects below one value


class Scale:
    """Tells the weight of single objects; keeps what it has found out about types."""

    def __init__(self, *, in_blocks: bool = False) -> None:
        self.in_blocks = in_blocks
        #: By id of a type; None for types whose objects are all of one small size.
        self._weighers: dict[int, Callable[[Any], int] | None] = {}
        self._types: list[type] = []  # kept alive, so that no id is reused

    def weigh(self, held: Any) -> int:
        """Return the weight of one object itself."""
        if self.in_blocks:
            return 1
        kind = type(held)
        if id(kind) not in self._weighers:
            self._types.append(kind)
            of_kind = weigher_of(kind)
            self._weighers[id(kind)] = of_kind if of_kind is not _OF_ANY else None
        weigher = self._weighers[id(kind)]
        if weigher is None:
            return 0
        try:
            return weigher(held)
        except Exception:  # for example, a buffer may be closed
            return 0

    def weigh_leaves(self, found: Collection[Any]) -> int:
        """Return the weight of the text and numbers among some objects.

        What several objects hold counts for each of them.
        """
        kinds = list(map(id, map(type, found)))
        is_leaf = map(_LEAF_IDS.__contains__, kinds)
        if self.in_blocks:
            return sum(is_leaf)
        total = sum(map(getsizeof, compress(found, is_leaf)))  # of builtin types only
        if _ID_OF_BUFFER in kinds:  # has room for more, so that its memory is in steps
            buffers = [o for o in found if type(o) is bytearray]
            total += sum(len(buffer) - getsizeof(buffer) for buffer in buffers)
        return total


class Weights:
    """The weight below each of the objects that a search has seen.

    Each object counts below the one on the shortest way to it from a root.
    """

    def __init__(self, paths: Paths, seen: list[Any], scale: Scale) -> None:
        self._scale = scale
        self._below: dict[int, int] = {}  # by id
        #: All objects, nearest to a root first.
        self.seen = seen
        below = self._below
        for holder in reversed(self.seen):
            key = id(holder)
            weight = below.get(key, 0) + scale.weigh(holder)
            if type(holder) is not types.FunctionType:
                weight += scale.weigh_leaves(list(paths.held_by(holder)))
            if weight:
                below[key] = weight
                above = id(paths.parent_of(holder))
                below[above] = below.get(above, 0) + weight

    def of(self, held: Any) -> int:
        """Return the weight of an object and all that it holds."""
        found = self._below.get(id(held))
        return self._scale.weigh(held) if found is None else found


def weigh_all(objects: list[Any], scale: Scale) -> int:
    """Return the weight of objects that the collector lists, and of what they hold.

    The collector does not list arrays, text and numbers.
    """
    with without_collections():
        seen = dict.fromkeys(map(id, objects))
        total, added = 0, objects
        while added:
            total += sum(map(scale.weigh, added))
            held = gc.get_referents(*added)
            held += [
                o
                for one in added
                if is_array_type(type(one))
                for o in referents_of(one)
            ]
            new = {id(o): o for o in held if id(o) not in seen}
            seen.update(dict.fromkeys(new))
            total += scale.weigh_leaves(list(new.values()))
            added = [o for o in new.values() if id(type(o)) not in _LEAF_IDS]
        return total


@contextmanager
def without_collections() -> Iterator[None]:
    """Keep Python from collecting garbage, which takes seconds with many objects."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


def weigh_below(
    values: Iterable[Any], scale: Scale, held_by: Callable[[Any], Iterable[Any]]
) -> int:
    """Return the weight of some values and what they hold, as far as a short walk goes.

    ``held_by`` returns what an object holds.
    """
    values = list(values)
    total = scale.weigh_leaves(values)
    pending = [held for held in values if id(type(held)) not in _LEAF_IDS]
    seen = set(map(id, pending))
    for holder in pending:  # which grows meanwhile
        total += scale.weigh(holder)
        if issubclass(type(holder), _BORDERS) or _is_whole(type(holder)):
            continue
        found = list(held_by(holder))
        total += scale.weigh_leaves(found)
        for held in found:
            if id(type(held)) not in _LEAF_IDS and id(held) not in seen:
                seen.add(id(held))
                pending.append(held)
        if len(pending) > _MOST_WALKED:
            break
    return total


def _is_whole(kind: type) -> bool:
    """Return whether an object's own bytes are all that it holds."""
    return measure_of(kind) is not None and not is_array_type(kind)
