"""The hooks of operations, if TensorFlow executes one in another way."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_tfleak.tf import names
from pytest_tfleak.tf import operations


class FallbackError(Exception):
    """Stands for TensorFlow's own, which is private and may be missing."""


@pytest.mark.parametrize("found", [FallbackError, None])
def test_a_call_that_tensorflow_makes_in_another_way_is_undone(
    monkeypatch: pytest.MonkeyPatch, found: type[Exception] | None
) -> None:
    monkeypatch.setattr(names, "FALLBACK", SimpleNamespace(find=lambda: found))
    undone: list[bool] = []

    def fails(context: object, operation: object) -> None:
        raise FallbackError(operation)

    around = operations._around_fast_path(lambda *_: lambda: undone.append(True), fails)
    with pytest.raises(FallbackError):
        around(None, "MatMul")
    assert undone == [True] * (found is not None)
