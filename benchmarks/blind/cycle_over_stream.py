"""A stream that never ends is cycled, for which each of its batches is kept.

pytorch/pytorch#23900: ``itertools.cycle(loader)`` keeps a copy of all that it has seen,
to begin again. Here the loader is a dataset that repeats by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="pytorch/pytorch#23900",
    kind="EagerTensor",
    also="Batch, tuple, dict",
    holder="state.cycled, by the list that a cycle has",
    cause="iterator-falls-behind, or one about cycles, or object-kept",
    made_at="made here",
    stored_at="stored here",
    fix="iter(dataset), or a generator that goes over the dataset again and again.",
)


class Batch(NamedTuple):
    """What one step trains on."""

    pixels: Any
    labels: Any


class Loader:
    """Batches, with and without a cycle."""

    def __init__(self) -> None:
        pixels = np.ones([8, 16, 16], "float32")
        data = tf.data.Dataset.from_tensors((pixels, np.ones([8], "int64"))).repeat()
        self.cycled = itertools.cycle(self.batches(data))
        self.plain = self.batches(data)

    def batches(self, data: Any) -> Iterator[Batch]:
        """Yield batches."""
        for pixels, labels in data:  # made here
            yield Batch(pixels / 255.0, labels)  # made here


def setup() -> Loader:
    """Make the loader."""
    return Loader()


def step(batches: Iterator[Batch]) -> float:
    """Train on the next batch."""
    batch = next(batches)  # stored here
    return float(tf.reduce_mean(batch.pixels))


def leaky(loader: Loader) -> None:
    """Step over the cycle."""
    step(loader.cycled)


def clean(loader: Loader) -> None:
    """Step over the stream itself."""
    step(loader.plain)
