"""The hooks that make a call fail, where TensorFlow has moved a private name."""

from __future__ import annotations

import pytest

from pytest_tfleak.run.faults import Faults
from pytest_tfleak.tf import names
from pytest_tfleak.tf.names import Name

NOWHERE = Name(places=(), use="", example="")


def test_without_the_exception_of_the_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "FALLBACK", NOWHERE)

    def fails(context: object, operation: object) -> None:
        raise KeyError(operation)

    with pytest.raises(KeyError):
        Faults("UnavailableError")._hooked_fast_path(fails)(None, "MatMul")
