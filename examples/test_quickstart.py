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


# What the tool says of the tests that leak; numbers vary:
#
# test_leaks_a_tensor_per_step
#   LEAK: tf.tensors +1 per iteration (EagerTensor) at test_quickstart.py:22
#   what         1 EagerTensor float32[] (4 B) per iteration
#   held by      test_quickstart.losses (list of 105) → EagerTensor float32[]
#                (4 B)
#   stored at    test_quickstart.py:22 in test_leaks_a_tensor_per_step
#                losses.append(loss)
#   made at      test_quickstart.py:21 in test_leaks_a_tensor_per_step
#                loss = tf.reduce_mean(BATCH * BATCH)
#   cause        The loss or metric of each step is kept as a tensor. A tensor
#                keeps memory on the device, although you only need a Python
#                number.
#   what to do   Keep a number, not the tensor: `float(loss)`.
