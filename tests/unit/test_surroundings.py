"""A verdict reports the TensorFlow state that its test left."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from pytest_tfleak import Verdict
from pytest_tfleak import find_leaks
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import make_plan
from pytest_tfleak.run import isolation

SHORT = {"iterations": 5, "warmup": 0}


class Context:
    """A fake of TensorFlow's eager context."""

    _seed: int | None = None


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Context:
    made = Context()
    module: Any = ModuleType("tensorflow.python.eager.context")
    module._context = made
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def sow(context: Context) -> None:
    context._seed = 7


def test_a_seed_that_was_changed_is_reported_and_restored(context: Context) -> None:
    verdict = find_leaks(lambda: sow(context), **SHORT)
    assert context._seed is None
    assert (
        "The global seed was changed and not put back; it was put back after the test."
        in verdict.notes
    )


def test_what_could_not_be_restored_is_reported(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: object) -> None:
        raise AttributeError("refused")

    monkeypatch.setattr(isolation, "_put_back", refuse)
    verdict = find_leaks(lambda: sow(context), **SHORT)
    note = "The global seed could not be put back: AttributeError: refused."
    assert note in verdict.notes


def test_what_a_failing_body_left_is_reported_too(context: Context) -> None:
    def body() -> None:
        context._seed = 7
        raise KeyError

    measurement = Measurement(body, make_plan(**SHORT), Setting(nodeid="x"))
    with pytest.raises(KeyError):
        measurement.run()
    assert measurement.verdict is not None
    assert any("global seed" in note for note in measurement.verdict.notes)


@pytest.mark.parametrize("clear", ["around", "iteration"])
def test_a_keras_session_that_could_not_be_cleared_is_reported(
    monkeypatch: pytest.MonkeyPatch, clear: str
) -> None:
    verdict = with_keras(monkeypatch, clear)
    assert "The Keras session was not cleared: ValueError: busy." in verdict.notes


def test_a_keras_session_that_is_not_to_be_cleared_is_not_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert with_keras(monkeypatch, "never").notes == ()


@pytest.mark.parametrize("clear", ["around", "iteration"])
def test_without_keras_nothing_is_reported(clear: str) -> None:
    verdict = find_leaks(lambda: None, clear_session=clear, **SHORT)
    assert verdict.notes == ()


def with_keras(monkeypatch: pytest.MonkeyPatch, clear: str) -> Verdict:
    def clear_session() -> None:
        raise ValueError("busy")

    module: Any = ModuleType("keras.src.backend.common.global_state")
    module.clear_session = clear_session
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return find_leaks(lambda: None, clear_session=clear, **SHORT)
