"""New types in each call that pass through tf.nest."""

from collections import namedtuple
from typing import NamedTuple

import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak(iterations=15, warmup=2)

X = tf.ones([2])
KEPT: list[object] = []


def test_new_types_in_each_call():
    Batch = namedtuple("Batch", ["features", "labels"])

    class Typed(NamedTuple):
        features: tf.Tensor

    class Named(dict):
        pass

    for batch in (Batch(X, X), Typed(X), Named(features=X)):
        tf.nest.map_structure(tf.identity, batch)


def test_types_that_the_user_keeps():
    Batch = namedtuple("Batch", ["features", "labels"])
    tf.nest.map_structure(tf.identity, Batch(X, X))
    KEPT.append(Batch)
