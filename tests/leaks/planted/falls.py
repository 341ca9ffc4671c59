"""Tensors pile up while older ones go, or until a buffer is emptied."""

from __future__ import annotations

import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak
older = [tf.zeros([8]) for _ in range(40)]
kept: list[tf.Tensor] = []
batch: list[tf.Tensor] = []


def test_tensor_per_call_leaks_while_older_ones_go() -> None:
    kept.append(tf.zeros([8]))
    if len(kept) == 95:
        older.clear()


def test_buffer_emptied_every_64_calls_is_clean() -> None:
    batch.append(tf.zeros([8]))
    if len(batch) == 64:
        batch.clear()
