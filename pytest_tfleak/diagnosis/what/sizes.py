"""Work out how much heap memory Python objects explain.

No code of the objects runs. Memory that C++ keeps for an object, such as a graph, is
unknown to Python and does not count.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.run.own_bytes import referents_of
from pytest_tfleak.run.own_bytes import size_in_c
from pytest_tfleak.run.own_bytes import tensor_bytes
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import initialised_context
from pytest_tfleak.tf.names import MissingNameError

#: If ``host.allocator`` is measured, larger tensors come from a pool of TensorFlow.
POOLED = 256 * 1024
#: Larger objects have a block of their own; smaller ones share Python's pools.
_SMALL = 512
_COLLECTOR_HEAD = 16
#: Containers whose content lies in a separate block.
_GROWING = frozenset(map(id, (list, dict, set, bytearray)))
_MOST_FOUND = 300_000

_basic_size = type.__dict__["__basicsize__"].__get__


def explained_bytes(
    survivors: Iterable[object],
    iterations: int,
    ours: Mapping[int, int] = MappingProxyType({}),
) -> float:
    """Return the bytes per iteration that only these survivors hold.

    ``ours`` tells how often the search for holders itself refers to objects, by id.
    """
    has_pool = _has_pool()
    total = 0
    for held in _with_content(survivors, ours):
        size = tensor_bytes(held)
        if size is None:
            total += _heap_size(held)
        elif not (has_pool and size >= POOLED):
            total += _block(size)
    return total / max(1, iterations)


def count_with_content(survivors: Iterable[object]) -> int:
    """Count survivors and the strings, arrays and such that only they refer to."""
    return len(_with_content(survivors))


def _with_content(
    survivors: Iterable[object], ours: Mapping[int, int] = MappingProxyType({})
) -> list[Any]:
    """Return survivors, and the strings, arrays and such that only they refer to.

    The collector does not list strings and arrays, so they may be older than the
    survivors. They belong to the survivors only if all references come from these. So
    do dicts of attributes, which Python may make only when they are read.
    """
    found: dict[int, Any] = {id(o): o for o in survivors}
    own = _references({0: object()}, 0)
    from_survivors: dict[int, int] = {}
    inside: dict[int, Any] = {}
    added = list(found)
    while added and len(found) < _MOST_FOUND:
        for key in added:
            for inner in referents_of(found[key]):
                if id(inner) not in found and _may_belong(inner):
                    from_survivors[id(inner)] = from_survivors.get(id(inner), 0) + 1
                    inside[id(inner)] = inner
            inner = None
        added = [
            key
            for key in inside
            if _references(inside, key) - own - ours.get(key, 0) <= from_survivors[key]
        ]
        found.update({key: inside.pop(key) for key in added})
    return list(found.values())


def _may_belong(inner: object) -> bool:
    return type(inner) is dict or not gc.is_tracked(inner)


def _references(objects: dict[int, Any], key: int) -> int:
    found = objects[key]
    return sys.getrefcount(found)


def _heap_size(held: Any) -> int:
    cls = type(held)
    size = size_in_c(held)
    if any(id(base) in _GROWING for base in mro_of(cls)):
        content = size - _basic_size(cls)
        return _block(content) if content > _SMALL else 0
    if gc.is_tracked(held):
        size += _COLLECTOR_HEAD
    return _block(size) if size > _SMALL else 0


def _block(size: int) -> int:
    """Return how much ``malloc`` uses for a block: a header, rounded up to 16 bytes."""
    return max(32, (size + 8 + 15) // 16 * 16) if size else 0


def _has_pool() -> bool:
    context = initialised_context()
    if context is None:
        return False
    try:
        return bool(names.MEMORY_FIGURES.of(context)("CPU:0")["peak"])
    except (MissingNameError, ValueError):  # without statistics, all is in the heap
        return False
