from __future__ import annotations

import sys
from types import ModuleType

import pytest

from pytest_tfleak.run.environment import look_up
from pytest_tfleak.run.environment import merge
from pytest_tfleak.run.environment import too_old


def test_versions_are_looked_up_where_a_module_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("keras")
    monkeypatch.setitem(sys.modules, "keras", module)
    assert look_up()["keras"] is None
    vars(module)["__version__"] = "3.15"
    assert look_up()["keras"] == "3.15"
    assert look_up()["pytest"] == pytest.__version__


def test_a_private_name_that_tensorflow_lacks_is_named_with_what_it_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert look_up()["lacks"] is None
    module = ModuleType("tensorflow")
    vars(module)["__version__"] = "2.99"
    monkeypatch.setitem(sys.modules, "tensorflow", module)
    lacks = look_up()["lacks"]
    assert "tensorflow.python.eager.context.SYNC (the experiment on datasets)" in lacks


def test_a_module_is_not_asked_for_what_it_would_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was asked for")

    monkeypatch.setitem(sys.modules, "tensorflow", Lazy("tensorflow"))
    assert look_up()["tensorflow"] is None


def test_a_module_that_cannot_be_imported_has_no_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert look_up()["tensorflow"] is None


def test_what_one_process_does_not_know_another_may() -> None:
    known: dict[str, object] = {}
    merge(known, {"tensorflow": None, "gpu": None, "cpus": 2})
    merge(known, {"tensorflow": "2.21", "gpu": ["GPU:0 A"], "cpus": 2})
    merge(known, {"tensorflow": "2.20", "gpu": ["GPU:0 A", "GPU:0 B"], "cpus": 4})
    assert known == {"tensorflow": "2.21", "gpu": ["GPU:0 A", "GPU:0 B"], "cpus": 2}


@pytest.mark.parametrize(
    "version", [None, "unknown", "2.13.0", "2.21.0", "3.0", "2.22.0-dev20260101"]
)
def test_a_version_that_is_new_enough_or_unknown_is_not_too_old(
    version: str | None,
) -> None:
    assert too_old(version) is None


@pytest.mark.parametrize("version", ["2.12.1", "2.9", "1.15.5"])
def test_an_older_version_is_too_old(version: str) -> None:
    assert str(too_old(version)).startswith(f"TensorFlow {version} is not supported")
