"""A dict of hyperparameters holds a Python float, so each new value is a new trace.

tensorflow/tensorflow#31842: a train step under tf.function took Python numbers, was
traced again for each, and the process was killed.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tensorflow/tensorflow#31842",
    kind="ConcreteFunction",
    also="FuncGraph, AtomicFunction",
    holder="the cache of concrete functions of train_step",
    made_at="made here",
    stored_at="stored here",
    fix="pass the number as a tensor.",
)

STEPS = count(1)


@tf.function
def train_step(batch: Any, settings: dict[str, Any]) -> Any:
    """Return the loss of a batch."""
    return tf.reduce_mean(tf.square(batch)) * settings["rate"]


def setup() -> Any:
    """Make the batch."""
    return tf.ones([16, 16])


def leaky(batch: Any) -> None:
    """Pass the rate as it is."""
    settings = {"rate": 1 / next(STEPS)}
    train_step(batch, settings)  # made here # stored here


def clean(batch: Any) -> None:
    """Pass it as a tensor."""
    rate = np.array(1 / next(STEPS), "float32")
    train_step(batch, {"rate": tf.convert_to_tensor(rate)})
