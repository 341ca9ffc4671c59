"""How many bytes of the heap the objects stand for that Python knows of.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from tracemalloc import Snapshot
from types import MethodDescriptorType
from typing import Any

from pytest_tfleak.census import TypeName
from pytest_tfleak.observed import initialised_context

#: Larger tensors come from a pool of TensorFlow's where ``host.allocator`` is measured.
POOLED = 256 * 1024
#: Larger objects have a block of their own; the others share Python's pools.
_SMALL = 512
_COLLECTOR_HEAD = 16
#: Containers whose content lies in a block beside the object itself.
_GROWING = frozenset(map(id, (list, dict, set, bytearray)))
_MOST_FOUND = 300_000
_PACKAGE = str(Path(__file__).parents[1]) + os.sep

_TENSOR: TypeName = ("tensorflow.python.framework.ops", "EagerTensor")
_VARIABLE: TypeName = (
    "tensorflow.python.ops.resource_variable_ops",
    "BaseResourceVariable",
)
_ARRAY: TypeName = ("numpy", "ndarray")
_DTYPES = "tensorflow.python.framework.dtypes"
_HANDLES = ("resource", "variant")  # what they refer to is C++'s
_STRING_HEAD = 24  # a short string lies in its head

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__
_basic_size = type.__dict__["__basicsize__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__


def explained_bytes(
    survivors: Iterable[object],
    iterations: int,
    *,
    signal: str = "host.heap",
    traced: Snapshot | None = None,
) -> float:
    """Return the bytes per iteration of what survivors, and they alone, hold.

    ``traced`` is what tracemalloc saw in the same iterations. It also knows of the
    strings and arrays that an old container holds; the collector does not. With
    ``signal="host.allocator"``, what tensors take from TensorFlow's pool. Runs no code
    of the objects. What C++ keeps for a graph, say, Python does not know.
    """
    of_pool = signal == "host.allocator"
    has_pool = of_pool or _has_pool()
    total = 0
    for held in survivors if of_pool or traced else _with_content(survivors):
        size = _tensor_size(held)
        if size is None:
            total += 0 if of_pool or traced else _heap_size(held)
        elif (has_pool and size >= POOLED) == of_pool:
            total += _block(size)
    if traced is not None and not of_pool:
        total += _traced_size(traced)
    return total / max(1, iterations)


def bytes_of(held: object) -> int:
    """Return the memory of one object alone, wherever it lies."""
    size = _tensor_size(held)
    return _size(held) if size is None else size


def is_array_or_tensor(cls: type) -> bool:
    """Say whether objects of a type are eager tensors, variables or NumPy's arrays."""
    names = {_type_name(base) for base in _mro(cls)}
    return not names.isdisjoint((_TENSOR, _VARIABLE, _ARRAY))


def _traced_size(snapshot: Snapshot) -> int:
    """Return the bytes of the traced blocks that are not in Python's pools."""
    total = 0
    for trace in snapshot.traces:
        innermost = trace.traceback[-1].filename
        if trace.size > _SMALL and not innermost.startswith(_PACKAGE):
            total += _block(trace.size)
    return total


def _with_content(survivors: Iterable[object]) -> list[Any]:
    """Return survivors, and the strings, arrays and such that nothing else refers to.

    The survivors are all that the collector knows of; what it does not know of may be
    older than they are, and is theirs only if all references come from them.
    """
    found: dict[int, Any] = {id(o): o for o in survivors}
    ours = _references({0: object()}, 0)
    from_survivors: dict[int, int] = {}
    untracked: dict[int, Any] = {}
    added = list(found)
    while added and len(found) < _MOST_FOUND:
        for key in added:
            for inner in _referents(found[key]):
                if id(inner) not in found and not gc.is_tracked(inner):
                    from_survivors[id(inner)] = from_survivors.get(id(inner), 0) + 1
                    untracked[id(inner)] = inner
            inner = None
        added = [
            key
            for key in untracked
            if _references(untracked, key) - ours <= from_survivors[key]
        ]
        found.update({key: untracked.pop(key) for key in added})
    return list(found.values())


def _referents(holder: Any) -> list[Any]:
    base = next((b for b in _mro(type(holder)) if _type_name(b) == _ARRAY), None)
    if base is None:
        return gc.get_referents(holder)
    return [_namespace(base)["base"].__get__(holder)]  # the collector skips arrays


def _references(objects: dict[int, Any], key: int) -> int:
    found = objects[key]
    return sys.getrefcount(found)


def _heap_size(held: Any) -> int:
    cls = type(held)
    size = _size(held)
    if any(id(base) in _GROWING for base in _mro(cls)):
        content = size - _basic_size(cls)
        return _block(content) if content > _SMALL else 0
    if gc.is_tracked(held):
        size += _COLLECTOR_HEAD
    return _block(size) if size > _SMALL else 0


def _size(held: Any) -> int:
    for base in _mro(type(held)):
        measure = _namespace(base).get("__sizeof__")
        if type(measure) is MethodDescriptorType:  # in C: no code of the user's
            return int(measure(held))
    return 0


def _block(size: int) -> int:
    """Return what ``malloc`` takes for a block: a head, and all of it in 16s."""
    return max(32, (size + 8 + 15) // 16 * 16) if size else 0


def _tensor_size(held: Any) -> int | None:
    """Return the bytes of an eager tensor or variable, None for any other object."""
    names = {_type_name(base) for base in _mro(type(held))}
    try:
        if _TENSOR in names:
            return _eager_size(held)
        if _VARIABLE in names:
            return _variable_size(held)
    except Exception:  # a TensorFlow that is built differently
        return 0
    return None


def _eager_size(tensor: Any) -> int:
    if "CPU" not in (tensor.backing_device or "CPU"):
        return 0
    dtypes: Any = sys.modules[_DTYPES]
    dtype = dtypes.as_dtype(tensor._datatype_enum())
    elements: int = math.prod(tensor._shape_tuple())
    return elements * _item_size(dtype)


def _variable_size(variable: Any) -> int:
    fields = object.__getattribute__(variable, "__dict__")
    elements: int = math.prod(fields["_shape"]._dims)
    return elements * _item_size(fields["_dtype"])


def _item_size(dtype: Any) -> int:
    if dtype.name in _HANDLES:
        return 0
    return _STRING_HEAD if dtype.name == "string" else int(dtype.size)


def _type_name(cls: type) -> TypeName:
    module, name = _module(cls), _qualname(cls)
    return (module if type(module) is str else "?", name if type(name) is str else "?")


def _has_pool() -> bool:
    context = initialised_context()
    if context is None:
        return False
    try:
        return bool(context.get_memory_info("CPU:0")["peak"])
    except ValueError:  # no statistics: all of it is in the heap
        return False
