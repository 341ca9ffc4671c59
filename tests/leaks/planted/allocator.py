"""Leaks that TensorFlow's allocator must show on CPU:0; GPUs have the same one."""

from __future__ import annotations

import pytest
import tensorflow as tf

KEPT = []
MARK = pytest.mark.tfleak(iterations=20, warmup=3)
SIDE = 300  # a float32 square of 360,000 B; from 262,144 B on the pool is used


def big():
    return tf.ones([SIDE, SIDE])


@MARK
def test_context_appears_in_the_warm_up_is_clean():
    big()


@MARK
def test_kept_tensor_leaks():
    KEPT.append(big())


@MARK
def test_dropped_tensor_is_clean():
    big()


@MARK
def test_kept_variable_leaks():
    KEPT.append(tf.Variable(big(), name="one"))


@pytest.fixture
def variable():
    return tf.Variable(tf.zeros([SIDE, SIDE]))


@MARK
def test_assigned_variable_is_clean(variable):
    variable.assign(big())


@MARK
def test_unclosed_session_with_a_variable_leaks():
    with tf.Graph().as_default():
        variable = tf.compat.v1.get_variable("v", initializer=big)
        session = tf.compat.v1.Session()
        session.run(variable.initializer)
        KEPT.append(session)


@MARK
def test_session_with_a_variable_in_with_is_clean():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("v", initializer=big)
        session.run(variable.initializer)


@pytest.mark.tfleak(iterations=20, warmup=3, host_per_iteration="1 MiB", tensors=1)
def test_kept_tensor_within_its_allowance_is_clean():
    KEPT.append(big())


class Observations:
    """Appends the rows of each call to those of earlier calls."""

    def __init__(self, value):
        self.seen = value

    def add(self, rows):
        self.seen = tf.concat([self.seen, rows], axis=0)


TENSOR = Observations(tf.zeros([SIDE, SIDE]))
#: A variable whose static shape does not tell its length.
VARIABLE = tf.Variable(tf.zeros([SIDE, SIDE]), shape=[None, SIDE])


@MARK
def test_tensor_that_gets_longer_leaks():
    TENSOR.add(tf.zeros([8, SIDE]))


@MARK
def test_variable_that_gets_longer_leaks():
    VARIABLE.assign(tf.concat([VARIABLE, tf.zeros([8, SIDE])], axis=0))


@MARK
def test_tensor_of_one_length_is_clean():
    TENSOR.seen = tf.concat([TENSOR.seen[8:], tf.zeros([8, SIDE])], axis=0)
