"""Does my code keep something from every call?

``losses`` looks like a list of numbers. But it is a list of eager tensors, one more for
each step, and they stay in memory (on a GPU, in GPU memory) as long as the list does.

Fix: keep a number, such as the mean, and drop the tensors.
"""

from __future__ import annotations

import pytest
import tensorflow as tf

BATCH = tf.ones([8, 4])
losses: list[tf.Tensor] = []
mean_loss = tf.keras.metrics.Mean()


@pytest.mark.tfleak
def test_leaks_a_tensor_per_step() -> None:
    loss = tf.reduce_mean(BATCH * BATCH)
    losses.append(loss)


@pytest.mark.tfleak
def test_fixed_keeps_the_mean() -> None:
    loss = tf.reduce_mean(BATCH * BATCH)
    mean_loss.update_state(loss)
