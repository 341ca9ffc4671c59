"""What TensorFlow's allocator must show on CPU:0; a GPU has the same one."""

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
