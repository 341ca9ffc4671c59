"""A test that sets up devices itself, which must not be initialised before."""

from __future__ import annotations

import pytest
import tensorflow as tf


@pytest.mark.tfleak(iterations=10)
def test_imports_tensorflow_only_is_clean():
    pass


@pytest.mark.tfleak(iterations=10)
def test_session_only_is_clean():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.ones([300, 300]))


def test_devices_can_still_be_set_up():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    assert len(tf.config.list_logical_devices("CPU")) == 2


@pytest.mark.tfleak(iterations=10, warmup=0)
def test_figures_of_a_started_context_is_clean():
    tf.ones([300, 300])
