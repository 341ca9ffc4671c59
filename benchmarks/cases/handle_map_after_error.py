"""A table of handles is not cleared when the operation behind a handle fails.

horovod/horovod#3109: synchronize() removes the tensors from ``_handle_map`` only after
the wait succeeded; after an error they stay.
"""

from __future__ import annotations

import contextlib
from itertools import count
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="horovod/horovod#3109",
    kind="EagerTensor",
    also="tuple",
    holder="_handle_map",
    made_at="made here",
    stored_at="stored here",
    fix="take the entry out of the map before waiting, or in a finally.",
)

HANDLES = count()
_handle_map: dict[int, tuple[Any, Any]] = {}


def reduce_async(gradient: Any) -> int:
    """Start to sum a gradient over all workers; return a handle."""
    handle = next(HANDLES)
    total = tf.identity(gradient * 2)  # made here
    _handle_map[handle] = gradient, total  # stored here
    return handle


def wait(handle: int) -> None:
    """Wait for the other workers, one of which is gone."""
    raise ConnectionError(f"no answer to {handle}")


def leaky(state: None) -> None:
    """Take the entry out after the wait."""
    gradient = tf.ones([64, 64])  # made here
    handle = reduce_async(gradient)
    with contextlib.suppress(ConnectionError):
        wait(handle)
        _handle_map.pop(handle)


def clean(state: None) -> None:
    """Take it out in any case."""
    handle = reduce_async(tf.ones([64, 64]))
    with contextlib.suppress(ConnectionError):
        try:
            wait(handle)
        finally:
            _handle_map.pop(handle)


def teardown(state: None) -> None:
    """Empty the map."""
    _handle_map.clear()
