"""Hook the operations and traced functions that TensorFlow executes eagerly.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from functools import wraps
from types import FrameType
from typing import Any

from pytest_tfleak.tf import names
from pytest_tfleak.tf.patch import Patches

#: Called before TensorFlow executes an operation, with its name, what its kernel
#: depends on, and the frame that executes it. What it returns is called if TensorFlow
#: executes the operation in another way instead, for which it is called again.
Begin = Callable[[Any, Iterator[object], FrameType], Callable[[], None] | None]


def hook_operations(patches: Patches, begin: Begin) -> None:
    """Have a function called before each operation, on any thread."""
    for name, around in (
        (names.FAST_PATH, _around_fast_path),
        (names.EXECUTE, _around_execute),
        (names.EXECUTE_CANCELLABLE, _around_execute),
    ):
        if name.find() is not None:
            patches.set(name.owner(), name.attribute, partial(around, begin))


def _around_fast_path(begin: Begin, original: Any) -> Any:
    fallback = names.FALLBACK.find() or ()  # without it, no error is one

    @wraps(original)
    def execute(context: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        # the first of them is a name for the output, on which no kernel depends
        parts = _of_arguments(operation, args[1:])
        undo = begin(operation, parts, sys._getframe(1))
        try:
            return original(context, operation, *args, **kwargs)
        except fallback:
            if undo is not None:
                undo()
            raise

    return execute


def _around_execute(begin: Begin, original: Any) -> Any:
    @wraps(original)
    def execute(handle: Any, device: Any, operation: Any, *args: Any) -> Any:
        begin(operation, _of_lists(device, *args), sys._getframe(1))
        return original(handle, device, operation, *args)

    return execute


def _of_arguments(operation: str, arguments: tuple[Any, ...]) -> Iterator[object]:
    """Yield the types of inputs, which come first, and names and values of attributes.

    Raises AttributeError for an operation without a definition.
    """
    inputs = len(names.OPERATION_DEFINITION.get()(operation).input_arg)
    yield from map(_kind, arguments[:inputs])
    yield from map(_value, arguments[inputs:])


def _of_lists(
    device: object, inputs: Any = (), attributes: Any = (), *_: object
) -> Iterator[object]:
    yield device
    yield from map(_kind, inputs or ())
    yield from map(_value, attributes or ())


def _kind(value: Any) -> object:
    if isinstance(value, list | tuple):
        return tuple(map(_kind, value))
    return type(value).__name__, str(getattr(value, "dtype", ""))


def _value(value: Any) -> str:
    """Return what tells an attribute's value from others: of a function, its name."""
    return str(getattr(value, "name", value))
