"""A method is wrapped again for each run, around the wrapper of the run before.

neelsjain/NEFTune#5: patching ``embed_tokens.forward`` with a function that calls the
``forward`` found there; patched often enough, a call ends in a RecursionError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="neelsjain/NEFTune#5",
    kind="EagerTensor",
    also="function, cell",
    holder="state.forward, then forward in the closure of each wrapper",
    made_at="made here",
    stored_at="stored here",
    fix="wrap the original method, not what stands in its place, or unwrap afterwards.",
)


class Embedding:
    """A table of vectors."""

    def __init__(self) -> None:
        self.table = tf.ones([64, 64])
        self.forward: Callable[[Any], Any] = self.lookup

    def lookup(self, ids: Any) -> Any:
        """Return the vectors of some ids."""
        return tf.gather(self.table, ids)


def add_noise(forward: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return forward with noise on its result."""
    noise = tf.random.stateless_normal([64, 64], seed=[1, 2])  # made here

    def noisy(ids: Any) -> Any:  # made here
        return forward(ids) + tf.gather(noise, ids)

    return noisy


def setup() -> Embedding:
    """Make the embedding that is tuned again and again."""
    return Embedding()


def leaky(embedding: Embedding) -> None:
    """Wrap what is there, a wrapper since the first call."""
    embedding.forward = add_noise(embedding.forward)  # stored here


def clean(embedding: Embedding) -> None:
    """Wrap the original."""
    embedding.forward = add_noise(embedding.lookup)
