"""A module remembers what went in and what came out, for each time it was called.

google-deepmind/graph_nets#23: running a model eagerly grows memory, in graph mode it
does not. That the module remembers its calls, as a graph builder does, is our own.
"""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="google-deepmind/graph_nets#23",
    kind="EagerTensor",
    also="Connected",
    holder="state[0].calls",
    made_at="made here",
    stored_at="stored here",
    fix="remember calls only while a graph is built, not in eager mode.",
)


class Connected(NamedTuple):
    """One call of a module."""

    inputs: Any
    outputs: Any


class Linear(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """A linear layer that can tell where it is connected."""

    def __init__(self, remember: bool) -> None:
        super().__init__()
        self.remember = remember
        self.weight = tf.Variable(tf.ones([64, 64]))
        self.calls: list[Connected] = []

    def __call__(self, inputs: Any) -> Any:
        """Apply the layer."""
        outputs = tf.matmul(inputs, self.weight)  # made here
        if self.remember:
            self.calls.append(Connected(inputs, outputs))  # stored here
        return outputs


def setup() -> tuple[Linear, Linear]:
    """Make a layer that remembers and one that does not."""
    return Linear(remember=True), Linear(remember=False)


def leaky(layers: tuple[Linear, Linear]) -> None:
    """Call the one that remembers."""
    inputs = tf.ones([64, 64])  # made here
    layers[0](inputs)


def clean(layers: tuple[Linear, Linear]) -> None:
    """Call the other."""
    layers[1](tf.ones([64, 64]))
