"""Which operations were added to a graph, and the lines that made them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_tfleak.diagnosis.what.tensorflow_objects import count_operations
from pytest_tfleak.diagnosis.what.tensorflow_objects import operations_made
from pytest_tfleak.diagnosis.what.tensorflow_objects import stack_of_operation
from pytest_tfleak.diagnosis.what.tensorflow_objects import stacks_of_operations
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import function_at

tf: Any = pytest.importorskip("tensorflow")

v1 = tf.compat.v1


def grow(graph: Any) -> None:
    with graph.as_default():
        scale(tf.constant(2.0))


def scale(x: Any) -> Any:
    return x * 3.0


def line_of(function: Any) -> int:
    line: int = function.__code__.co_firstlineno
    return line


def own(stack: tuple[Frame, ...]) -> list[tuple[int, str]]:
    lines = [line for file, line in stack if file == __file__]
    return [(line, function_at(__file__, line)) for line in lines]


def test_operations_are_counted_by_type() -> None:
    graph = tf.Graph()
    grow(graph)
    since = count_operations(graph)
    for _ in range(4):
        grow(graph)
    made = operations_made(graph, since)
    assert list(made.items()) == [("Const", 8), ("Mul", 4)]
    assert operations_made(graph, count_operations(graph)) == {}


def test_an_operation_knows_the_lines_that_made_it() -> None:
    graph = tf.Graph()
    grow(graph)
    multiply = graph.get_operations()[-1]
    found = own(stack_of_operation(multiply))
    assert found[:2] == [(line_of(scale) + 1, "scale"), (line_of(grow) + 2, "grow")]
    assert found[2][1] == "test_an_operation_knows_the_lines_that_made_it"


def test_operations_that_gradients_make_lead_to_the_users_line() -> None:
    graph = tf.Graph()
    with graph.as_default():
        weights = v1.get_variable("w", [4, 4])
        loss = tf.reduce_sum(tf.square(weights))
        since = count_operations(graph)
        for _ in range(3):
            v1.train.GradientDescentOptimizer(0.1).minimize(loss)
    stacks = stacks_of_operations(graph, since)
    name = "test_operations_that_gradients_make_lead_to_the_users_line"
    assert {own(stack)[0][1] for stack in stacks} == {name}
    assert sum(stacks.values()) == count_operations(graph) - since


def test_the_graph_of_a_function_knows_its_lines() -> None:
    concrete = tf.function(scale).get_concrete_function(tf.ones([]))
    stacks = stacks_of_operations(concrete.graph, 0)
    assert stacks
    assert all(map(own, stacks))


def test_only_the_newest_operations_of_a_large_graph_are_looked_at() -> None:
    graph = tf.Graph()
    with graph.as_default():
        for _ in range(2500):
            v1.no_op()
    made = operations_made(graph, 0)
    assert made == {"NoOp": 2000}
    assert sum(stacks_of_operations(graph, 0).values()) == 300


def test_imported_operations_have_no_line() -> None:
    graph, imported = tf.Graph(), tf.Graph()
    grow(graph)
    with imported.as_default():
        tf.import_graph_def(graph.as_graph_def(), name="")
    assert operations_made(imported, 0) == operations_made(graph, 0)
    assert stack_of_operation(imported.get_operations()[0]) == ()


def test_what_is_no_graph_has_no_operations() -> None:
    for o in (None, object(), 3):
        assert count_operations(o) == 0
        assert operations_made(o, 0) == {}
        assert not stacks_of_operations(o, 0)
        assert stack_of_operation(o) == ()
