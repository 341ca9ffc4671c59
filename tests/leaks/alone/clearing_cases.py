"""What clearing the Keras session leaves."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_tfleak.tf import access

tf: Any = pytest.importorskip("tensorflow")


def test_a_graph_that_one_keras_makes_and_another_replaces_was_a_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def make() -> None:
        tf.compat.v1.reset_default_graph()
        made.append(tf.compat.v1.get_default_graph())

    clears = [make, tf.compat.v1.reset_default_graph]
    monkeypatch.setattr(access, "_clears", lambda: clears)
    assert access.call_clear_session() is None
    assert access.was_default(made[0])
