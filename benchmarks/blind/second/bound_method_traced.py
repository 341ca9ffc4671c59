"""A ``tf.function`` gets a step to run as its argument, a bound method.

tensorflow/tensorflow#31175: ``model.step`` is another object each time it is read, and
the function was traced again for each. What TensorFlow compares has changed since then;
here the method belongs to another object in each call, which traces it again for sure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tensorflow/tensorflow#31175",
    kind="ConcreteFunction",
    also="FuncGraph, Graph, traces",
    holder="train, the cache of the tf.function",
    cause="retrace-new-object",
    made_at="made here",
    stored_at="no line stores it",
    fix="make the schedule once, and hand it over each time.",
)


class Schedule:
    """Scales a gradient."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def step(self, gradient: Any) -> Any:
        """Return the gradient, scaled."""
        return gradient * self.factor


@tf.function
def train(step: Callable[[Any], Any], batch: Any) -> Any:
    """Train on a batch."""
    return step(tf.reduce_mean(tf.square(batch)))


SCHEDULE = Schedule(0.5)
STEP = SCHEDULE.step


def leaky(state: None) -> None:
    """Train with a schedule of this call's own."""
    schedule = Schedule(0.5)
    train(schedule.step, tf.ones([8, 8]))  # made here


def clean(state: None) -> None:
    """Train with the only schedule."""
    train(STEP, tf.ones([8, 8]))
