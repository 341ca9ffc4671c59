"""Datasets and Python functions of which TensorFlow's default graph keeps something."""

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak(iterations=10, warmup=2)

START = np.int64(0)
KEPT: list[object] = []


def plus(x):
    return x + 1


def test_scan():
    for _ in tf.data.Dataset.range(3).scan(START, lambda s, x: (s + x, s)):
        pass


def test_reduce_and_save(tmp_path):
    dataset = tf.data.Dataset.range(3)
    dataset.reduce(START, lambda s, x: s + x)
    dataset.save(str(tmp_path / "rows"))


def test_module_level_function():
    rows = tf.data.Dataset.range(2)
    for row in rows.map(lambda x: tf.numpy_function(plus, [x], tf.int64)):
        assert row > 0


class Decoder:
    def decode(self, x):
        return x + 1


DECODER = Decoder()


def test_method_of_one_object():
    rows = tf.data.Dataset.range(2)
    for row in rows.map(lambda x: tf.py_function(DECODER.decode, [x], tf.int64)):
        assert row > 0


def test_closure():
    table = np.ones([4096])
    rows = tf.data.Dataset.range(2)

    def look_up(number):
        return table[number]

    for _ in rows.map(lambda x: tf.numpy_function(look_up, [x], tf.float64)):
        pass


def test_dataset_that_is_kept():
    rows = tf.data.Dataset.range(2)
    KEPT.append(rows.map(lambda x: tf.numpy_function(plus, [x], tf.int64)))
    assert [int(row) for row in KEPT[0]] == [1, 2]


def test_function_that_the_user_adds():
    function = tf.function(lambda x: x + 1.0)
    concrete = function.get_concrete_function(tf.TensorSpec([], tf.float32))
    concrete.add_to_graph(tf.compat.v1.get_default_graph())
