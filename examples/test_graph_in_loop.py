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


# What the tool says of the tests that leak; numbers vary:
#
# test_leaks_an_operation_per_step
#   LEAK: tf.graphs.ops +3 per iteration at test_graph_in_loop.py:35
#   what         2 Const, 1 AddV2 per iteration
#   held by      fixture session._graph → Graph of 90 operations: 60 Const, 30
#                AddV2
#   made at      test_graph_in_loop.py:35 in test_leaks_an_operation_per_step
#                three = tf.add(1, 2)
#   cause        Each call adds operations to a graph that existed before. A graph
#                never drops an operation.
#   what to do   Build the graph once, before the loop: feed values by a
#                placeholder, and make gradients, savers and assign operations
#                only once. After `graph.finalize()`, the line that adds to it
#                raises.
#
# test_leaks_a_graph_per_step
#   LEAK: tf.graphs +1 per iteration (Graph) at test_graph_in_loop.py:56
#   what         1 Graph of 3 operations: 2 Const, 1 AddV2 per iteration
#   held by      test_graph_in_loop.graphs_by_step (dict of 105) → Graph of 3
#                operations: 2 Const, 1 AddV2
#   stored at    test_graph_in_loop.py:56 in test_leaks_a_graph_per_step
#                graphs_by_step[next(steps)] = graph
#   made at      test_graph_in_loop.py:53 in test_leaks_a_graph_per_step
#                graph = tf.Graph()
#   cause        Each call makes a graph, and something keeps it. One tensor or
#                operation of a graph is enough to keep all of it.
#   what to do   Keep results as NumPy arrays or numbers, not as tensors of the
#                graph; remove those from test_graph_in_loop.graphs_by_step, or
#                build the graph once.
#
# test_leaks_a_kernel_per_variable_name
#   LEAK: host.heap +35.2 KiB per iteration at test_graph_in_loop.py:67
#   made at      test_graph_in_loop.py:67 in test_leaks_a_kernel_per_variable_name
#                variable = tf.Variable(1.0, name=f"step_{next(steps)}")
#   cause        cache of eager kernels (tensorflow#19671)
#   what to do   Call `keras.utils.clear_session()` between the calls; or use
#                fixed names, and `tf.random.stateless_*` with the seed as a
#                tensor: each new name, seed or attribute of an operation is a new
#                kernel.
#
# test_leaks_a_trace_per_number
#   LEAK: tf.traces +1 per iteration (ConcreteFunction) at test_graph_in_loop.py:84
#   what         double at test_graph_in_loop.py:77 is retraced: x: 377 → 378 →
#                379 → …, a Python int
#   held by      test_graph_in_loop.double._function_cache._primary (OrderedDict
#                of 111) → ConcreteFunction 'double(x=381)'
#   made at      test_graph_in_loop.py:84 in test_leaks_a_trace_per_number
#                double(next(steps))
#   cause        A tf.function is retraced for each value of a Python argument.
#                Each trace is a graph that the function keeps.
#   what to do   Pass `x` as a tensor: `tf.constant(next(steps))` (or
#                `tf.constant(next(steps), tf.float32)` where it meets floats); or
#                declare the arguments:
#                `@tf.function(input_signature=[tf.TensorSpec([], tf.int32)])`.
