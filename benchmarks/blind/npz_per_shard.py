"""A reader opens each shard with numpy.load, and keeps what that returned.

riga/law#48, markovmodel/PyEMMA#320: for an ``.npz`` numpy.load returns an open archive;
one that is never closed is a descriptor.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="riga/law#48",
    kind="NpzFile",
    also="ZipFile, BufferedReader, ndarray, fds, descriptors",
    holder="state.shards",
    cause="file-not-closed",
    made_at="made here",
    stored_at="stored here",
    fix="with np.load(path) as shard, or keep the arrays and close the archive.",
)


class Shards:
    """Reads the shards of a data set one after the other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shard.npz"
        self.shards: dict[int, Any] = {}
        np.savez(self.path, pixels=np.ones([16, 16], "float32"))

    def read(self) -> Any:
        """Return the pixels of the next shard."""
        shard = np.load(self.path)  # made here
        self.shards[len(self.shards)] = shard  # stored here
        return tf.reduce_mean(shard["pixels"])

    def read_and_close(self) -> Any:
        """Return the same, and close it."""
        with np.load(self.path) as shard:
            return tf.reduce_mean(shard["pixels"])


def setup() -> Shards:
    """Write a shard."""
    return Shards(Path(tempfile.mkdtemp(prefix="shards")))


def leaky(shards: Shards) -> None:
    """Keep it open."""
    shards.read()


def clean(shards: Shards) -> None:
    """Close it."""
    shards.read_and_close()
