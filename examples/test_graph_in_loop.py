"""Why does my training loop get slower, and bigger, with every step?

Because each step builds something that should be built once:

- an operation: a graph only ever grows, and ``tf.add`` in graph mode adds to it;
- a graph: kept in a cache, it keeps all of its operations;
- a variable with a name of its own: TensorFlow caches a kernel of some 36 KB for each
  name, and keeps it even when the variable is gone;
- a trace: ``tf.function`` retraces for each Python number that it is called with.

Fix: build before the loop, and only run inside it. Give variables the same name each
time (or none), and pass tensors to a ``tf.function`` instead of Python numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import tensorflow as tf

steps = itertools.count()
graphs_by_step: dict[int, tf.Graph] = {}


@pytest.fixture
def session() -> Iterator[tf.compat.v1.Session]:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        yield session


@pytest.mark.tfleak
def test_leaks_an_operation_per_step(session: tf.compat.v1.Session) -> None:
    three = tf.add(1, 2)
    assert session.run(three) == 3


@pytest.fixture
def three(session: tf.compat.v1.Session) -> tf.Tensor:
    return tf.add(1, 2)


@pytest.mark.tfleak
def test_fixed_builds_the_operation_before_the_loop(
    session: tf.compat.v1.Session, three: tf.Tensor
) -> None:
    assert session.run(three) == 3


@pytest.mark.tfleak
def test_leaks_a_graph_per_step() -> None:
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        assert session.run(tf.add(1, 2)) == 3
    graphs_by_step[next(steps)] = graph


@pytest.mark.tfleak
def test_fixed_drops_the_graph() -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        assert session.run(tf.add(1, 2)) == 3


@pytest.mark.tfleak
def test_leaks_a_kernel_per_variable_name() -> None:
    variable = tf.Variable(1.0, name=f"step_{next(steps)}")
    assert variable.numpy() == 1


@pytest.mark.tfleak
def test_fixed_names_the_variable_alike() -> None:
    variable = tf.Variable(1.0, name="step")
    assert variable.numpy() == 1


@tf.function
def double(x: tf.Tensor | int) -> tf.Tensor:
    return tf.add(x, x)


@pytest.mark.tfleak
def test_leaks_a_trace_per_number() -> None:
    double(next(steps))


@pytest.mark.tfleak
def test_fixed_passes_a_tensor() -> None:
    double(tf.constant(next(steps)))
