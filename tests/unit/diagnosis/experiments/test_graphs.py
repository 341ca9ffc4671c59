from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tfleak.diagnosis.experiments.graphs import LooseDatasetFunctions
from pytest_tfleak.diagnosis.experiments.graphs import LooseFunctions
from pytest_tfleak.diagnosis.experiments.graphs import LooseWrappers


class Graph:
    """A graph that may be inside another one."""

    def __init__(self) -> None:
        self.outer_graph: Graph | None = None
        self.functions: list[Any] = []


class Wrapper:
    """TensorFlow's wrapper of a Python function; it takes over its attributes."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.attributes = dict(getattr(function, "__dict__", {}))


class ConcreteFunction:
    """A traced function."""

    def add_to_graph(self, g: Any = None, overwrite: bool = False) -> None:
        g.functions.append(self)


class Fake:
    """The part of TensorFlow that concerns its default graph."""

    def __init__(self) -> None:
        self.default: Any = Graph()
        self.inside = self.default
        self.is_eager = True
        self.wrappers: weakref.WeakSet[Any] = weakref.WeakSet()

    def wrap(self, func: Any, inp: object = None) -> None:
        wrapper = Wrapper(func)
        self.wrappers.add(wrapper)
        if isinstance(func, type(lambda: 0)):
            vars(func)["ag_dnc_wrapper__"] = wrapper
        keeper = self.inside if self.inside is OTHER else self.default
        if not hasattr(keeper, "_py_funcs_used_in_graph"):
            keeper._py_funcs_used_in_graph = []
        keeper._py_funcs_used_in_graph.append(wrapper)

    def count(self) -> int:
        gc.collect()
        return len(self.wrappers)


OTHER: Any = Graph()  # a graph that is not inside the default one


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    places: dict[str, dict[str, object]] = {
        "ops.script_ops": {"_internal_py_func": made.wrap},
        "framework.ops": {
            "_default_graph_stack": SimpleNamespace(_global_default_graph=made.default),
            "get_default_graph": lambda: made.inside,
            "executing_eagerly_outside_functions": lambda: True,
        },
        "eager.context": {"executing_eagerly": lambda: made.is_eager},
        "eager.polymorphic_function.concrete_function": {
            "ConcreteFunction": ConcreteFunction
        },
    }
    for name, attributes in places.items():
        module = ModuleType(f"tensorflow.python.{name}")
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def call_py_function(function: Any) -> None:
    """Make an operation from a function, with keywords, as TensorFlow does."""
    modules: Any = sys.modules
    modules["tensorflow.python.ops.script_ops"]._internal_py_func(func=function, inp=[])


def module_level() -> None:
    """Live as long as the module."""


class Decoder:
    """An object that has a method and can be called."""

    def decode(self) -> None:
        """Do nothing."""

    def __call__(self) -> None:
        """Do nothing."""


DECODER = Decoder()


@pytest.mark.parametrize("function", [module_level, DECODER.decode, DECODER])
def test_the_last_wrapper_of_a_function_stays(
    fake: Fake, function: Callable[[], None]
) -> None:
    with LooseWrappers() as loose:
        for _ in range(5):
            call_py_function(function)
            loose.after()
        assert (loose.failed, loose.seen) == (None, 4)
        assert fake.count() <= 2
    vars(module_level).pop("ag_dnc_wrapper__", None)


def test_functions_that_are_new_in_each_call_are_kept(fake: Fake) -> None:
    with LooseWrappers() as loose:
        for _ in range(5):

            def new() -> None:
                """Be a new function."""

            for _ in range(2):  # not known from an earlier iteration
                call_py_function(new)
            call_py_function(Decoder().decode)
            loose.after()
        assert (loose.failed, loose.seen) == (None, 0)
        assert fake.count() == 15


def test_wrappers_are_counted_and_left_by_a_watcher(fake: Fake) -> None:
    with LooseWrappers(acts=False) as watcher:
        for _ in range(3):
            call_py_function(module_level)
            watcher.after()
    assert watcher.seen == 2
    assert fake.count() == 3
    del vars(module_level)["ag_dnc_wrapper__"]


def test_a_graph_that_calls_a_function_holds_it(fake: Fake) -> None:
    graph: Any = Graph()
    graph.outer_graph = fake.default
    fake.inside = graph
    with LooseFunctions() as loose:
        call_py_function(Decoder().decode)
    assert loose.failed is None
    assert not fake.default._py_funcs_used_in_graph
    assert fake.count() == 1
    del graph
    fake.inside = fake.default
    assert fake.count() == 0


def test_what_another_graph_keeps_is_not_taken_from_the_default_graph(
    fake: Fake,
) -> None:
    call_py_function(DECODER)
    fake.inside = OTHER
    with LooseFunctions() as loose:
        call_py_function(DECODER)
    assert (loose.failed, loose.seen) == (None, 1)
    assert len(fake.default._py_funcs_used_in_graph) == 1
    assert len(OTHER._py_funcs_used_in_graph) == 1
    del OTHER._py_funcs_used_in_graph


def add_as(module: str, graph: Any) -> None:
    """Add a function to a graph from code in some module."""
    code = "ConcreteFunction().add_to_graph(graph)"
    exec(
        code,
        {"__name__": module, "ConcreteFunction": ConcreteFunction, "graph": graph},
    )


def test_functions_of_datasets_are_left_out_of_the_default_graph(fake: Fake) -> None:
    other = Graph()
    dataset = "tensorflow.python.data.ops.scan_op"
    with LooseDatasetFunctions() as loose:
        add_as(dataset, fake.default)
        assert fake.default.functions == []
        add_as(dataset, other)
        add_as("test_app", fake.default)
        fake.is_eager = False
        add_as(dataset, fake.default)
    assert (loose.failed, loose.seen) == (None, 1)
    assert (len(fake.default.functions), len(other.functions)) == (2, 1)


def test_functions_of_datasets_are_counted_by_a_watcher(fake: Fake) -> None:
    with LooseDatasetFunctions(acts=False) as watcher:
        add_as("tensorflow.python.data.ops.save_op", fake.default)
    assert watcher.seen == 1
    assert len(fake.default.functions) == 1
