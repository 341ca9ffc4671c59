"""Read how many bytes one object takes, and to what it refers.

No code of the objects runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import io
from array import array
from collections.abc import Callable
from mmap import mmap
from types import MethodDescriptorType
from typing import Any

from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.signals import TypeName
from pytest_tfleak.tf import names
from pytest_tfleak.tf.sizes import bytes_of_tensor
from pytest_tfleak.tf.sizes import bytes_of_variable
from pytest_tfleak.tf.sizes import device_of

TENSORS = frozenset(names.EAGER_TENSOR.types)
VARIABLES = frozenset(names.RESOURCE_VARIABLE.types)
ARRAY: TypeName = ("numpy", "ndarray")

#: Functions that return how many bytes a value may hold; no code of a subclass runs.
_LENGTHS: dict[type, Callable[[Any], int]] = {
    str: str.__sizeof__,
    bytes: bytes.__len__,
    bytearray: bytearray.__len__,
    array: lambda numbers: array.__len__(numbers) * numbers.itemsize,
    io.BytesIO: lambda file: io.BytesIO.getbuffer(file).nbytes,
    io.StringIO: lambda file: str.__sizeof__(io.StringIO.getvalue(file)),
}

#: Objects that may keep an array's memory, whose size is known or is not in memory.
_BUFFERS = (bytes, bytearray, memoryview, array, mmap)

_namespace = type.__dict__["__dict__"].__get__


def measure_of(kind: type) -> Callable[[Any], int] | None:
    """Return what measures the text, buffers or arrays of a type, else None.

    The function may raise, for example for a buffer that was closed.
    """
    for base, measure in _LENGTHS.items():
        if issubclass(kind, base):
            return measure
    bases = {type_name_of(base) for base in mro_of(kind)}
    return None if bases.isdisjoint((*TENSORS, *VARIABLES, ARRAY)) else bytes_of


def bytes_of(held: object) -> int:
    """Return the bytes of one object itself, whether in the heap or not."""
    size = tensor_bytes(held)
    return size_in_c(held) if size is None else size


def weigher_of(kind: type) -> Callable[[Any], int]:
    """Return what tells the bytes of objects of a type; none of their own code runs.

    Unlike ``measure_of``, it takes objects of any type. The function may raise.
    """
    measure = measure_of(kind)
    if measure is not None:
        return measure
    in_c = _measure_in_c(kind)
    return in_c if in_c is not None else lambda _: 0


def tensor_bytes(held: Any) -> int | None:
    """Return the bytes of an eager tensor or variable, None for any other object."""
    bases = {type_name_of(base) for base in mro_of(type(held))}
    try:
        if bases & TENSORS:
            return bytes_of_tensor(held) if "CPU" in device_of(held) else 0
        if bases & VARIABLES:
            return bytes_of_variable(held)
    except Exception:  # other versions of TensorFlow may differ
        return 0
    return None


def size_in_c(held: Any) -> int:
    """Return what the ``__sizeof__`` of an object's type says, if written in C."""
    measure = _measure_in_c(type(held))
    size = 0 if measure is None else int(measure(held))
    return size + _bytes_of_view(held)


def _measure_in_c(kind: type) -> Callable[[Any], int] | None:
    for base in mro_of(kind):
        measure = (_namespace(base) or {}).get("__sizeof__")
        if type(measure) is MethodDescriptorType:  # written in C, so no user code runs
            return measure
    return None


def _bytes_of_view(held: Any) -> int:
    """Return the bytes of an array that an object from C keeps, 0 for other objects.

    Other arrays count their own memory, and what another Python object keeps counts
    there.
    """
    if keeper_of(held) is None:
        return 0
    arrays: Any = _array_in(type(held))
    return int(_namespace(arrays)["nbytes"].__get__(held))


def keeper_of(held: Any) -> object:
    """Return the object from C that keeps an array's memory, None if there is none.

    Such an object does not tell its own size, which may be much larger.
    """
    arrays = _array_in(type(held))
    if arrays is None:
        return None
    base: object = _namespace(arrays)["base"].__get__(held)
    if base is None or issubclass(type(base), (arrays, *_BUFFERS)):
        return None
    if gc.is_tracked(base):  # it may refer to an array, whose memory counts there
        return None
    is_tensor = not TENSORS.isdisjoint(map(type_name_of, mro_of(type(base))))
    return None if is_tensor else base


def is_array_type(kind: type) -> bool:
    """Return whether a type is NumPy's class of arrays or a subclass."""
    return _array_in(kind) is not None


def _array_in(kind: type) -> Any:
    """Return NumPy's class of arrays if a type is one or a subclass, else None."""
    return next((b for b in mro_of(kind) if type_name_of(b) == ARRAY), None)


def referents_of(holder: Any) -> list[Any]:
    """Return what an object refers to, also the array behind a NumPy view."""
    arrays = _array_in(type(holder))
    if arrays is None:
        return gc.get_referents(holder)
    return [_namespace(arrays)["base"].__get__(holder)]  # the collector ignores arrays
