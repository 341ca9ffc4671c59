"""The state that tests leave behind is restored, tested in a process of its own.

The cases import TensorFlow, while other tests need a process without it.
"""

from __future__ import annotations

from collections.abc import Callable


def test_what_a_test_leaves_behind_is_put_back(run_alone: Callable[..., None]) -> None:
    run_alone("isolation", options=["--tfleak-diagnose=off"])
