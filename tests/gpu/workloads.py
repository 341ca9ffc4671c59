"""Leaks on a card and their clean twins; written as users write their tests."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

CARD = tf.config.list_physical_devices("GPU")[0]
if os.environ.get("TFLEAK_TEST_VIRTUAL"):
    halves = [tf.config.LogicalDeviceConfiguration(memory_limit=1024)] * 2
    tf.config.set_logical_device_configuration(CARD, halves)
tf.config.list_logical_devices()  # sessions alone do not start the eager context

KEPT: list[Any] = []
SIDE = 512  # a float32 square of 1 MiB
MARK = pytest.mark.tfleak(iterations=20, diagnose="off")


@pytest.fixture
def variable() -> Any:
    with tf.device("GPU:0"):
        return tf.Variable(tf.zeros([SIDE, SIDE]))


@pytest.fixture
def fit() -> Any:
    layers = [keras.Input((64,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("adam", "mse", jit_compile=False)  # XLA needs more of CUDA
    x, y = np.ones((64, 64), "float32"), np.ones((64, 1), "float32")
    return lambda: model.fit(x, y, batch_size=32, verbose=0)


def square() -> Any:
    with tf.device("GPU:0"):
        return tf.random.normal([SIDE, SIDE])


@MARK
def test_kept_tensor_leaks() -> None:
    KEPT.append(square())


@MARK
def test_dropped_tensor_is_clean() -> None:
    square()


@MARK
def test_pending_work_is_clean() -> None:
    x = square()
    for _ in range(50):
        x = tf.matmul(x, x) * 1e-3


@MARK
def test_kept_variable_leaks() -> None:
    with tf.device("GPU:0"):
        KEPT.append(tf.Variable(square(), name="one"))


@MARK
def test_assigned_variable_is_clean(variable: Any) -> None:
    variable.assign(square())


@MARK
def test_unclosed_session_leaks() -> None:
    with tf.Graph().as_default(), tf.device("GPU:0"):
        variable = tf.compat.v1.get_variable("v", initializer=tf.ones([SIDE, SIDE]))
        session = tf.compat.v1.Session()
        session.run(variable.initializer)
        KEPT.append(session)


@MARK
def test_closed_session_is_clean() -> None:
    with tf.Graph().as_default(), tf.device("GPU:0"):
        variable = tf.compat.v1.get_variable("v", initializer=tf.ones([SIDE, SIDE]))
        with tf.compat.v1.Session() as session:
            session.run(variable.initializer)


@MARK
def test_fit_is_clean(fit: Any) -> None:
    fit()


@MARK
def test_fit_with_a_kept_tensor_leaks(fit: Any) -> None:
    fit()
    KEPT.append(square())
