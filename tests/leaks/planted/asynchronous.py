"""Operations that still run after the call has ended, as on a GPU."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.python.eager.context import eager_mode

tf.config.experimental.set_synchronous_execution(False)
KEPT = []
START = tf.ones([600, 600])
MARK = pytest.mark.tfleak(iterations=20, warmup=3)


def work():
    x = START
    for _ in range(8):
        x = tf.matmul(x, START)
    return x


@MARK
def test_pending_work_is_clean():
    work()


@pytest.fixture
def open_graph():
    with tf.Graph().as_default():
        yield


@MARK
def test_pending_work_beside_an_open_graph_is_clean(open_graph):
    with eager_mode():
        work()


@MARK
def test_result_of_pending_work_kept_leaks():
    KEPT.append(work())
