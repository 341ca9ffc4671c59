"""Descriptions of real TensorFlow and Keras objects, in a process of its own.

The cases import TensorFlow, while other tests need a process without it.
"""

from __future__ import annotations

from collections.abc import Callable


def test_tensorflow_objects_say_what_they_are(run_alone: Callable[..., None]) -> None:
    run_alone("details", "retraces", "operations", "new_operations", "clearing")
