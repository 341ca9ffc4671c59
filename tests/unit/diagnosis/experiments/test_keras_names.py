from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from pytest_tfleak.diagnosis.experiments.keras_names import RepeatedNames
from pytest_tfleak.diagnosis.experiments.keras_names import named_by_user
from pytest_tfleak.tf.access import clear_session_call

VERSIONS = {"keras": "3.15.1", "keras 2": "2.15.0", "tf_keras": "2.21.0"}


class Graph:
    """The object for which Keras 2 counts names."""


class State:
    """The object in which Keras 3 counts names."""


def make_module(
    monkeypatch: pytest.MonkeyPatch, name: str, **attributes: object
) -> Any:
    module: Any = ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def make_keras(monkeypatch: pytest.MonkeyPatch, library: str) -> tuple[Any, str]:
    """Import a fake Keras; return its module and function that make unique names."""
    package = library.partition(" ")[0]
    make_module(monkeypatch, package, __version__=VERSIONS[library])
    counts: dict[object, int] = {}

    def make_name(name: str) -> str:
        counts[name] = counts.get(name, 0) + 1
        return f"{name}_{counts[name]}"

    if library != "keras":
        by_graph: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        backend = make_module(
            monkeypatch,
            f"{package}.src.backend",
            PER_GRAPH_OBJECT_NAME_UIDS=by_graph,
            unique_object_name=make_name,
            get_uid=lambda prefix: int(make_name(prefix).rpartition("_")[2]),
            kept=Graph(),
        )
        by_graph[backend.kept] = counts
        return backend, "unique_object_name"
    state: Any = State()
    state.object_name_uids = counts
    shared = "keras.src.backend.common.global_state"
    make_module(monkeypatch, shared, GLOBAL_STATE_TRACKER=state)
    naming = make_module(monkeypatch, "keras.src.utils.naming", uniquify=make_name)
    return naming, "uniquify"


@pytest.fixture(autouse=True)
def no_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove any Keras from ``sys.modules``."""
    for name in ("keras", "tf_keras", "tensorflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)


each_library = pytest.mark.parametrize("library", VERSIONS)


@each_library
def test_names_are_repeated_and_later_ones_are_unique(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    module, function = make_keras(monkeypatch, library)
    assert getattr(module, function)("dense") == "dense_1"
    repeated = RepeatedNames()
    with repeated:
        for _ in range(3):
            assert getattr(module, function)("dense") == "dense_2"
            assert getattr(module, function)("dense") == "dense_3"
            assert getattr(module, function)("model") == "model_1"
            repeated.after()
    assert (repeated.failed, repeated.seen) == (None, 9)
    assert [keras.library for keras in repeated.used] == [library]
    assert getattr(module, function)("dense") == "dense_4"
    assert getattr(module, function)("model") == "model_2"


@each_library
def test_a_watcher_counts_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    module, function = make_keras(monkeypatch, library)
    original = getattr(module, function)
    watcher = RepeatedNames(acts=False)
    with watcher:
        for number in (1, 2):
            assert getattr(module, function)("dense") == f"dense_{number}"
            watcher.after()
    assert watcher.seen == 2
    assert getattr(module, function) is original


def test_numbers_of_keras_2_are_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, _ = make_keras(monkeypatch, "tf_keras")
    repeated = RepeatedNames()
    with repeated:
        for _ in range(2):
            assert backend.get_uid("input") == 1
            repeated.after()
    assert repeated.seen == 2


def test_a_graph_that_is_gone_has_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph may go when the body clears the session."""
    backend, _ = make_keras(monkeypatch, "tf_keras")
    backend.unique_object_name("dense")
    repeated = RepeatedNames()
    with repeated:
        backend.PER_GRAPH_OBJECT_NAME_UIDS.clear()
        new = Graph()
        backend.PER_GRAPH_OBJECT_NAME_UIDS[new] = counts = {"dense": 5}
        repeated.after()
        assert counts == {}
    assert repeated.failed is None
    assert counts == {"dense": 5}


def test_every_keras_that_the_body_uses_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keras_3, uniquify = make_keras(monkeypatch, "keras")
    keras_2, unique_name = make_keras(monkeypatch, "tf_keras")
    watcher = RepeatedNames(acts=False)
    with watcher:
        getattr(keras_2, unique_name)("dense")
    assert clear_session_call(watcher.used) == "tf_keras.backend.clear_session()"
    watcher = RepeatedNames(acts=False)
    with watcher:
        getattr(keras_3, uniquify)("dense")
        getattr(keras_2, unique_name)("dense")
    assert clear_session_call(watcher.used) == (
        "keras.utils.clear_session(); tf_keras.backend.clear_session()"
    )


@pytest.mark.parametrize(
    ("imported", "call"),
    [
        ([], "keras.utils.clear_session()"),
        (["keras"], "keras.utils.clear_session()"),
        (["keras 2"], "tf.keras.backend.clear_session()"),
        (["tf_keras"], "tf_keras.backend.clear_session()"),
        (["tf_keras", "keras"], "keras.utils.clear_session()"),
    ],
)
def test_the_likeliest_keras_is_named_if_none_is_used(
    monkeypatch: pytest.MonkeyPatch, imported: list[str], call: str
) -> None:
    for library in imported:
        make_keras(monkeypatch, library)
    assert clear_session_call() == call


def test_a_tensorflow_that_came_with_keras_2_names_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_module(monkeypatch, "tensorflow", __version__="2.15.1")
    assert clear_session_call() == "tf.keras.backend.clear_session()"


def values_of_tf_keras() -> list[object]:
    """Return objects of tf_keras that a module may refer to; this module must not."""
    layer = type("Layer", (), {"__module__": "tf_keras.src.layers"})

    def build() -> None:
        """Build a model."""

    build.__module__ = "tf_keras.src.models"
    return [
        ModuleType("tf_keras"),
        ModuleType("tf_keras.layers"),
        layer,
        layer(),
        build,
    ]


@pytest.mark.parametrize("value", values_of_tf_keras())
def test_a_keras_that_the_users_modules_refer_to(
    monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    make_keras(monkeypatch, "keras")
    make_keras(monkeypatch, "tf_keras")
    make_module(monkeypatch, "other", __file__=None, value=ModuleType("keras"))
    make_module(
        monkeypatch, "library", __file__="/x/site-packages/a.py", v=ModuleType("keras")
    )
    assert named_by_user() == []
    make_module(monkeypatch, "users", __file__="/home/user/test_app.py", value=value)
    assert [keras.library for keras in named_by_user()] == ["tf_keras"]
