"""What one test leaves behind is put back before the next one starts."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import nullcontext
from typing import Any

import pytest

from pytest_tfleak.isolation import Leftover
from pytest_tfleak.isolation import Surroundings

tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")

from tensorflow.python import pywrap_tfe  # noqa: E402
from tensorflow.python.eager import context  # noqa: E402
from tensorflow.python.eager import record  # noqa: E402
from tensorflow.python.framework import ops  # noqa: E402
from tensorflow.python.framework import stack  # noqa: E402

v1 = tf.compat.v1
tf.constant(0.0)  # makes the eager context
LAYER = keras.layers.Dense(2)
LAYER(tf.ones((1, 3)))


def state() -> dict[str, Any]:
    """Read the state in question from TensorFlow itself."""
    local = context.context()._thread_local_data
    graph = ops.get_default_graph()
    return {
        "graphs": list(ops._default_graph_stack.stack),
        "sessions": list(stack._default_session_stack.stack),
        "switches": list(context.context().context_switches.stack),
        "eager": tf.executing_eagerly(),
        "mode": context.default_execution_mode,
        "tapes": not pywrap_tfe.TFE_Py_TapeSetIsEmpty(),
        "stopped": pywrap_tfe.TFE_Py_TapeSetIsStopped(),
        "device": (local.device_name, local.device_spec.to_string()),
        "scope": (local.scope_name, graph.get_name_scope()),
        "seed": (context.global_seed(), graph.seed),
        "strategy": list(graph._distribution_strategy_stack),
        "set strategy": graph._global_distribute_strategy_scope,
        "creators": list(graph._variable_creator_stack),
        "control": list(graph._control_dependencies_stack),
        "graph device": list(graph._device_function_stack.peek_objs()),
        "variable scope": v1.get_variable_scope().name,
        "custom getter": v1.get_variable_scope().custom_getter,
        "exceptions": [getattr(sys, f"last_{name}", None) for name in STORED],
    }


STORED = ("exc", "type", "value", "traceback")


def works() -> None:
    """Use TensorFlow eagerly in the ways that tests do."""
    assert tf.executing_eagerly()
    assert float(tf.constant(2.0) + 1.0) == 3.0
    variable = tf.Variable(3.0)
    variable.assign_add(1.0)
    double = tf.function(lambda x: x * 2.0)
    assert float(double(variable)) == 8.0
    with tf.GradientTape() as tape:
        square = variable * variable
    assert float(tape.gradient(square, variable)) == 8.0
    assert LAYER(tf.ones((1, 3))).shape == (1, 2)
    with tf.Graph().as_default(), v1.Session() as session:
        assert session.run(tf.constant(1.0) + 1.0) == 2.0
    assert tf.executing_eagerly()


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fail a test after which something that dies raises."""
    raised: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda seen: raised.append(repr(seen)))
    gc.collect()
    before = state()
    yield raised
    gc.collect()
    assert raised == []
    before["exceptions"] = state()["exceptions"]  # pytest stores a failure there
    assert state() == before
    works()


def _entered(scope: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    scope.__enter__()
    return scope


def interactive_session_with_graph() -> Any:
    graph = tf.Graph()
    with graph.as_default():
        value = tf.constant(1.0)
    session = v1.InteractiveSession(graph=graph)
    assert session.run(value) == 1.0
    return session


def interactive_session_made_inside_its_graph() -> Any:
    with tf.Graph().as_default() as graph:
        return v1.InteractiveSession(graph=graph)


def interactive_session_without_graph() -> Any:
    with tf.Graph().as_default():
        return v1.InteractiveSession()


def three_interactive_sessions() -> Any:
    shared = tf.Graph()
    return [v1.InteractiveSession(graph=g) for g in (tf.Graph(), shared, shared)]


def interactive_session_of_a_graph_left_too_early() -> Any:
    session = v1.InteractiveSession(graph=tf.Graph())
    session._default_graph.__exit__(None, None, None)
    return session


def interactive_session_below_a_graph() -> Any:
    session = v1.InteractiveSession(graph=tf.Graph())
    return [session, _entered(tf.Graph().as_default())]


def graph() -> Any:
    return _entered(tf.Graph().as_default())


def graph_twice() -> Any:
    both = tf.Graph()
    return [_entered(both.as_default()), _entered(both.as_default())]


def graph_in_a_suspended_generator() -> Any:
    def suspended() -> Iterator[None]:
        with tf.Graph().as_default(), tf.name_scope("inner"):
            yield

    generator = suspended()
    next(generator)
    return generator


def graph_with_scopes_of_its_own() -> Any:
    scopes = [_entered(tf.Graph().as_default())]
    scopes.append(_entered(tf.name_scope("own")))
    scopes.append(_entered(v1.variable_scope("own")))
    scopes.append(_entered(tf.device("/CPU:0")))
    return scopes


def session() -> Any:
    entered = v1.Session(graph=tf.Graph())
    entered.__enter__()
    return entered


def session_as_default() -> Any:
    open_session = v1.Session(graph=tf.Graph())
    return [open_session, _entered(open_session.as_default())]


def _tape(**options: Any) -> Any:
    tape = tf.GradientTape(**options)
    tape.__enter__()
    variable = tf.Variable(1.0)
    return [tape, variable, variable * variable]


def tape() -> Any:
    return _tape()


def persistent_tape() -> Any:
    return _tape(persistent=True)


def three_tapes() -> Any:
    return [_tape(), _tape(persistent=True), _tape()]


def tape_of_a_subclass() -> Any:
    class Tape(tf.GradientTape):  # type: ignore[misc]
        pass

    return _entered(Tape())


def tape_in_a_suspended_generator() -> Any:
    def suspended() -> Iterator[None]:
        with tf.GradientTape():
            yield

    generator = suspended()
    next(generator)
    return generator


def accumulator() -> Any:
    primal = tf.Variable(1.0)
    tangent = tf.constant(1.0)
    return [primal, _entered(tf.autodiff.ForwardAccumulator(primal, tangent))]


def recording_stopped() -> Any:
    return _entered(record.stop_recording())


def strategy() -> Any:
    return _entered(tf.distribute.OneDeviceStrategy("/CPU:0").scope())


def mirrored_strategy() -> Any:
    return _entered(tf.distribute.MirroredStrategy(["/CPU:0"]).scope())


def strategy_set() -> Any:
    tf.distribute.experimental_set_strategy(tf.distribute.OneDeviceStrategy("/CPU:0"))


def device() -> Any:
    return _entered(tf.device("/CPU:0"))


def name_scope() -> Any:
    return _entered(tf.name_scope("left"))


def two_name_scopes() -> Any:
    return [_entered(tf.name_scope("outer")), _entered(tf.name_scope("inner"))]


def graph_name_scope() -> Any:
    return _entered(ops.get_default_graph().name_scope("left"))


def variable_scope() -> Any:
    return _entered(v1.variable_scope("left"))


def creator_scope() -> Any:
    return _entered(tf.variable_creator_scope(lambda make, **options: make(**options)))


def control_dependencies() -> Any:
    with ops.get_default_graph().as_default():
        operation = tf.no_op()
    return _entered(ops.get_default_graph().control_dependencies([operation]))


def graph_mode() -> Any:
    return _entered(context.graph_mode())


def eager_mode() -> Any:
    return _entered(context.eager_mode())


def eager_execution_disabled() -> Any:
    ops.disable_eager_execution()


def seed() -> Any:
    tf.random.set_seed(7)


def stored_exception() -> Any:
    sys.last_value = ValueError("stored")
    sys.last_type = ValueError
    sys.last_traceback = None


Leak = Callable[[], Any]
GRAPH, SESSION = "graph_stack", "session_stack"
# What is left -> the leftovers while it is held, and once it was dropped.
LEFT: dict[Leak, tuple[dict[str, int], dict[str, int]]] = {
    interactive_session_with_graph: ({GRAPH: 1, SESSION: 1},) * 2,
    interactive_session_made_inside_its_graph: ({GRAPH: 1, SESSION: 1},) * 2,
    interactive_session_without_graph: ({SESSION: 1},) * 2,
    three_interactive_sessions: ({GRAPH: 3, SESSION: 3},) * 2,
    interactive_session_of_a_graph_left_too_early: ({SESSION: 1},) * 2,
    interactive_session_below_a_graph: (
        {GRAPH: 2, SESSION: 1},
        {GRAPH: 1, SESSION: 1},
    ),
    graph: ({GRAPH: 1}, {}),
    graph_twice: ({GRAPH: 2}, {}),
    graph_in_a_suspended_generator: ({GRAPH: 1}, {}),
    # A variable scope enters the graph once more.
    graph_with_scopes_of_its_own: ({GRAPH: 2}, {}),
    session: ({GRAPH: 1, SESSION: 1},) * 2,
    session_as_default: ({SESSION: 1}, {}),
    tape: ({"tapes": 1},) * 2,
    persistent_tape: ({"tapes": 1},) * 2,
    three_tapes: ({"tapes": 3},) * 2,
    tape_of_a_subclass: ({"tapes": 1},) * 2,
    tape_in_a_suspended_generator: ({"tapes": 1}, {}),
    accumulator: ({"accumulators": 1},) * 2,
    recording_stopped: ({"recording": 1}, {}),
    strategy: ({"strategy": 1},) * 2,
    mirrored_strategy: ({"strategy": 1},) * 2,
    strategy_set: ({"strategy": 1},) * 2,
    device: ({"device_scope": 1},) * 2,
    name_scope: ({"name_scope": 1},) * 2,
    two_name_scopes: ({"name_scope": 1},) * 2,
    graph_name_scope: ({"name_scope": 1}, {}),
    variable_scope: ({"variable_scope": 1},) * 2,
    creator_scope: ({"creator_scope": 1}, {}),
    control_dependencies: ({"control_scope": 1},) * 2,
    graph_mode: ({"eager_mode": 1}, {}),
    eager_mode: ({"eager_mode": 1}, {}),
    eager_execution_disabled: ({"eager_execution": 1},) * 2,
    seed: ({"seed": 1},) * 2,
    stored_exception: ({"stored_exception": 1},) * 2,
}
SETTINGS = ("eager_execution_disabled", "seed", "stored_exception")


@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
@pytest.mark.parametrize("leave", LEFT, ids=lambda leave: leave.__name__)
def test_what_was_left_is_put_back(leave: Leak, held: bool) -> None:
    before = state()
    surroundings = Surroundings()
    kept = leave() if held else leave() and None
    gc.collect()
    expected = LEFT[leave][not held]
    assert (state() != before) == bool(expected)

    left = surroundings.restore()

    assert counts(left) == expected
    assert all(item.leak != (leave.__name__ in SETTINGS) for item in left)
    assert state() == before
    works()
    del kept
    gc.collect()
    assert state() == before


def counts(left: tuple[Leftover, ...]) -> dict[str, int]:
    return {item.kind: item.count for item in left}
