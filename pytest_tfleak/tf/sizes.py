"""Compute how many bytes the values of eager tensors and variables take.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
from typing import Any

from pytest_tfleak.tf import names
from pytest_tfleak.tf.names import Field
from pytest_tfleak.tf.names import MissingNameError

#: Types whose values are handles; the objects behind them are counted elsewhere.
_HANDLES = {"resource", "variant"}
#: Bytes per element of type string, without its text.
_STRING_HEAD = 24
#: Bytes per element, by TensorFlow's number of the type.
_ITEM_SIZES: dict[int, int] = {}


def bytes_of_tensor(tensor: Any) -> int:
    """Return the bytes of an eager tensor's value, without the text of strings."""
    kind: int = names.TENSOR_DTYPE_NUMBER.of(tensor)()
    size = _ITEM_SIZES.get(kind)
    if size is None:
        size = _ITEM_SIZES[kind] = item_size(names.AS_DTYPE.get()(kind))
    return size * int(names.TENSOR_ELEMENTS.of(tensor)()) if size else 0


def bytes_of_variable(variable: Any) -> int:
    """Return the bytes of a variable's value, in its current shape."""
    dimensions = names.DIMENSIONS.of(_field(variable, names.SHAPE))
    if dimensions is None or None in dimensions:
        dimensions = _shape_now(_field(variable, names.VARIABLE_HANDLE))
    elements: int = math.prod(dimensions)
    return elements * item_size(_field(variable, names.DTYPE))


def handle_of(variable: Any) -> Any:
    """Return the eager handle of a variable, None if it has none."""
    fields = object.__getattribute__(variable, "__dict__")
    handle = fields.get(names.VARIABLE_HANDLE)
    return handle if hasattr(handle, names.BACKING_DEVICE) else None


def device_of(tensor: Any) -> str:
    """Return the device of an eager tensor, such as ``GPU:0``."""
    device: str = names.BACKING_DEVICE.of(tensor) or ""
    return device.rpartition("device:")[2] or "CPU:0"


def item_size(dtype: Any) -> int:
    """Return the bytes of one element of a type."""
    if dtype.name in _HANDLES:
        return 0
    return _STRING_HEAD if dtype.name == "string" else int(dtype.size)


def _field(variable: Any, name: Field) -> Any:
    # not getattr, which may run code of a user's subclass
    fields = object.__getattribute__(variable, "__dict__")
    if name not in fields:
        raise MissingNameError(f"{type(variable).__name__} has no {name}")
    return fields[name]


def _shape_now(handle: Any) -> list[int]:
    """Return the current shape of the value behind a handle, ``[0]`` inside a graph."""
    if not names.EXECUTING_EAGERLY.get()():
        return [0]
    shape: list[int] = names.VARIABLE_SHAPE.get()(handle).numpy().tolist()
    return shape
