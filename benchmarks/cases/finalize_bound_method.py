"""weakref.finalize is given a method of the very object that it watches.

DiamondLightSource/httomo#265: readers passed ``self.finalize`` to weakref.finalize(),
whose registry then holds the reader: it is never collected, and never finalized. Here
each reader has an iterator of tf.data, and each of those has threads of its own.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="DiamondLightSource/httomo#265",
    kind="ClipReader",
    also="OwnedIterator",
    holder="weakref.finalize._registry",
    made_at="made here",
    stored_at="stored here",
    fix="give finalize() a function and arguments that do not refer to the object.",
)

OPEN: set[int] = set()


class ClipReader:
    """Reads clips one by one."""

    def __init__(self, clips: Any, bound: bool) -> None:
        OPEN.add(id(self))
        self.clips = iter(clips)  # made here
        if bound:
            weakref.finalize(self, self.close)  # stored here
        else:
            weakref.finalize(self, OPEN.discard, id(self))

    def close(self) -> None:
        """Note that the reader is closed."""
        OPEN.discard(id(self))


def setup() -> Any:
    """Make the dataset that all readers read."""
    return tf.data.Dataset.from_tensor_slices(np.ones([4, 64], "float32"))


def leaky(clips: Any) -> None:
    """Let a method of the reader finalize it."""
    reader = ClipReader(clips, bound=True)  # made here
    next(reader.clips)


def clean(clips: Any) -> None:
    """Let a function do it that knows only a number."""
    reader = ClipReader(clips, bound=False)
    next(reader.clips)
