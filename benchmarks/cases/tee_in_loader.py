"""A loader tees its iterator and reads one branch: the other keeps all that was read.

kipoi/kipoi#277: the iterator that repeats the data was built on itertools.tee(), so the
loader kept in memory each sample that it had loaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="kipoi/kipoi#277",
    kind="RaggedTensor",
    also="EagerTensor, RowPartition",
    holder="state.replay by its _tee_dataobject chain; the last 57 also by state.first",
    made_at="made here",
    stored_at="stored here",
    fix="make a new iterator for the second pass, not a branch of the first.",
)

WORDS, LENGTHS = np.ones([4096], "float32"), np.full([64], 64)


def batches() -> Iterator[Any]:
    """Yield batches of sentences without end."""
    while True:
        yield tf.RaggedTensor.from_row_lengths(WORDS, LENGTHS)  # made here


class Loader:
    """Reads batches, and can read them once more."""

    def __init__(self) -> None:
        self.plain = batches()
        self.first, self.replay = itertools.tee(batches())


def setup() -> Loader:
    """Make the loader that all steps read from."""
    return Loader()


def leaky(loader: Loader) -> None:
    """Read a batch; the other branch keeps it."""
    batch = next(loader.first)  # stored here
    tf.reduce_sum(batch.flat_values)


def clean(loader: Loader) -> None:
    """Read a batch from an iterator without branches."""
    batch = next(loader.plain)
    tf.reduce_sum(batch.flat_values)
