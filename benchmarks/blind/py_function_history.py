"""An augmentation runs in a py_function of a dataset, and notes what it has done.

tensorflow/tensorflow#61344: with ``tf.py_function`` in a dataset that is used for all
epochs, memory grew in each. What is kept is in Python here, which is our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np
import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tensorflow/tensorflow#61344",
    kind="EagerTensor",
    also="Turn, tuple",
    holder="state.noting.turns",
    cause="tensor-kept",
    made_at="made here",
    stored_at="stored here",
    fix="keep the angle, not the image; or bound the list.",
)


@dataclass
class Turn:
    """What was done to one image."""

    angle: int
    image: Any


@dataclass
class Augmenter:
    """Turns images."""

    keeps: bool
    turns: list[Turn] = field(default_factory=list)
    angles: int = 0

    def turn(self, image: Any) -> Any:
        """Return an image, turned; called by the dataset."""
        turned = tf.image.rot90(image)  # made here
        self.angles += 90
        if self.keeps:
            self.turns.append(Turn(90, turned))  # stored here
        return turned

    def dataset(self) -> Any:
        """Return a dataset of turned images."""
        images = tf.data.Dataset.from_tensors(np.ones([48, 48, 3], "float32"))
        return images.map(lambda x: tf.py_function(self.turn, [x], tf.float32))


@dataclass
class Training:
    """Two pipelines, made once."""

    noting: Augmenter
    plain: Augmenter
    noted: Any
    simple: Any


def setup() -> Training:
    """Make both pipelines."""
    noting, plain = Augmenter(keeps=True), Augmenter(keeps=False)
    return Training(noting, plain, noting.dataset(), plain.dataset())


def leaky(training: Training) -> None:
    """Run an epoch, with notes."""
    for image in training.noted:
        tf.reduce_mean(image)


def clean(training: Training) -> None:
    """Run an epoch without."""
    for image in training.simple:
        tf.reduce_mean(image)
