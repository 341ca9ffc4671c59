"""A weak cache never lets go, because each of its values refers to its own key.

tensorflow/probability#493, #647: calling a bijector's forward() on new tensors leaked;
bijectors cache input and output of each call, to answer inverse(forward(x)). How the
cache here holds on is our own.
"""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tensorflow/probability#493",
    kind="EagerTensor",
    also="Sample",
    holder="state._forward, whose values hold their keys through Sample.source",
    made_at="made here",
    stored_at="stored here",
    fix="let the cached value refer to its source weakly, or not at all.",
)


class Sample:
    """A value and what it was computed from."""

    def __init__(self, value: Any, source: Sample | None = None) -> None:
        self.value = value
        self.source = source


class Exp:
    """A bijector with a cache."""

    def __init__(self) -> None:
        self._forward: weakref.WeakKeyDictionary[Sample, Sample]
        self._forward = weakref.WeakKeyDictionary()

    def forward(self, x: Sample, keep_source: bool) -> Sample:
        """Return exp(x), from the cache if it is there."""
        if x not in self._forward:
            y = Sample(tf.exp(x.value), x if keep_source else None)  # made here
            self._forward[x] = y  # stored here
        return self._forward[x]


def setup() -> Exp:
    """Make the bijector that all calls share."""
    return Exp()


def leaky(bijector: Exp) -> None:
    """Cache a value that holds its key."""
    x = Sample(tf.ones([64, 64]))  # made here
    bijector.forward(x, keep_source=True)


def clean(bijector: Exp) -> None:
    """Cache a value that does not."""
    bijector.forward(Sample(tf.ones([64, 64])), keep_source=False)
