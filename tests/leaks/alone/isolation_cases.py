"""State that one test leaves behind is restored before the next one starts."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from pytest_tfleak.run import isolation
from pytest_tfleak.run.isolation import Leftover
from pytest_tfleak.run.isolation import Surroundings
from pytest_tfleak.tf import names

tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")
np: Any = pytest.importorskip("numpy")

from tensorflow.python import pywrap_tfe  # noqa: E402
from tensorflow.python.eager import context  # noqa: E402
from tensorflow.python.framework import ops  # noqa: E402
from tensorflow.python.framework import stack  # noqa: E402

v1 = tf.compat.v1
tf.constant(0.0)  # makes the eager context
LAYER = keras.layers.Dense(2)
LAYER(tf.ones((1, 3)))
# Each test collects garbage several times: not all that TensorFlow's modules hold.
gc.freeze()


def state() -> dict[str, Any]:
    """Read the state in question from TensorFlow itself."""
    local = context.context()._thread_local_data
    graph = ops.get_default_graph()
    return {
        "graphs": list(ops._default_graph_stack.stack),
        "sessions": list(stack._default_session_stack.stack),
        "switches": list(context.context().context_switches.stack),
        "eager": tf.executing_eagerly(),
        "tapes": not pywrap_tfe.TFE_Py_TapeSetIsEmpty(),
        "device": (local.device_name, local.device_spec.to_string()),
        "scope": (local.scope_name, graph.get_name_scope()),
        "seed": (context.global_seed(), graph.seed),
        "mode": context.default_execution_mode,
        "version": (
            names.TF2_ENABLED.get()(),
            v1.resource_variables_enabled(),
            v1.control_flow_v2_enabled(),
            names.TENSOR_EQUALITY.get(),
            names.SHAPES_OF_2.get(),
            sys.modules["tensorflow.python.data.ops.dataset_ops"].Dataset,
        ),
        "functions": tf.config.functions_run_eagerly(),
        "summaries": dict(vars(names.SUMMARY_STATE.get())),
        "strategy": list(graph._distribution_strategy_stack),
        "set strategy": graph._global_distribute_strategy_scope,
        "creators": list(graph._variable_creator_stack),
        "control": list(graph._control_dependencies_stack),
        "graph device": list(graph._device_function_stack.peek_objs()),
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
    """Fail a test if an object raises while it is freed."""
    raised: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda seen: raised.append(repr(seen)))
    gc.collect()
    before = state()
    yield raised
    gc.collect()
    assert raised == []
    before["exceptions"] = state()["exceptions"]  # pytest stores a failure there
    assert state() == before


def _entered(scope: Any) -> Any:
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
    # Each one is dropped before the next is made, which may get the same address.
    _tape()
    _tape(persistent=True)
    return _tape()


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


def strategy() -> Any:
    return _entered(tf.distribute.OneDeviceStrategy("/CPU:0").scope())


def mirrored_strategy() -> Any:
    return _entered(tf.distribute.MirroredStrategy(["/CPU:0"]).scope())


def strategy_set() -> Any:
    tf.distribute.experimental_set_strategy(tf.distribute.OneDeviceStrategy("/CPU:0"))


def _writer() -> Any:
    return tf.summary.create_file_writer(tempfile.mkdtemp())


def default_writer() -> Any:
    return _entered(_writer().as_default(step=3))


def two_default_writers() -> Any:
    first = _entered(_writer().as_default())
    with _writer().as_default():
        pass
    return first


def default_writer_in_an_exit_stack() -> Any:
    stack = contextlib.ExitStack()
    stack.enter_context(_writer().as_default())
    return stack


def default_writer_set() -> Any:
    _writer().set_as_default(step=3)


def default_writer_entered_by_a_library() -> Any:
    library: dict[str, Any] = {}
    file = f"{sysconfig.get_path('purelib')}/library.py"
    exec(compile("def enter(scope): scope.__enter__()", file, "exec"), library)
    library["enter"](_writer().as_default())


def default_writer_that_cannot_be_flushed() -> Any:
    writer = _writer()
    with pytest.raises(OSError, match="full"), writer.as_default():
        writer.flush = _fails


def _fails() -> None:
    raise OSError("full")


def device() -> Any:
    return _entered(tf.device("/CPU:0"))


def name_scope() -> Any:
    return _entered(tf.name_scope("left"))


def two_name_scopes() -> Any:
    return [_entered(tf.name_scope("outer")), _entered(tf.name_scope("inner"))]


def graph_name_scope() -> Any:
    return _entered(ops.get_default_graph().name_scope("left"))


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


def seed() -> Any:
    tf.random.set_seed(7)


def eager_execution_disabled() -> Any:
    v1.disable_eager_execution()


def version_1() -> Any:
    v1.disable_v2_behavior()


def functions_run_eagerly() -> Any:
    tf.config.run_functions_eagerly(True)


def stored_exception() -> Any:
    sys.last_value = ValueError("stored")
    sys.last_type = ValueError
    sys.last_traceback = None


Leak = Callable[[], Any]
GRAPH, SESSION = "graph_stack", "session_stack"
# What a test leaves -> the leftovers while it is held, and after it was dropped.
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
    # A variable scope enters the graph a second time.
    graph_with_scopes_of_its_own: ({GRAPH: 2}, {}),
    session: ({GRAPH: 1, SESSION: 1},) * 2,
    session_as_default: ({SESSION: 1}, {}),
    tape: ({"tapes": 1},) * 2,
    persistent_tape: ({"tapes": 1},) * 2,
    three_tapes: ({"tapes": 3},) * 2,
    tape_of_a_subclass: ({"tapes": 1},) * 2,
    tape_in_a_suspended_generator: ({"tapes": 1}, {}),
    accumulator: ({"accumulators": 1},) * 2,
    strategy: ({"strategy": 1},) * 2,
    mirrored_strategy: ({"strategy": 1},) * 2,
    strategy_set: ({"strategy": 1},) * 2,
    default_writer: ({"summary_writer": 1},) * 2,
    two_default_writers: ({"summary_writer": 1},) * 2,
    default_writer_in_an_exit_stack: ({"summary_writer": 1},) * 2,
    default_writer_set: ({"summary_writer": 1},) * 2,
    default_writer_entered_by_a_library: ({"summary_writer": 1},) * 2,
    device: ({"device_scope": 1},) * 2,
    name_scope: ({"name_scope": 1},) * 2,
    two_name_scopes: ({"name_scope": 1},) * 2,
    graph_name_scope: ({"name_scope": 1}, {}),
    creator_scope: ({"creator_scope": 1}, {}),
    control_dependencies: ({"control_scope": 1},) * 2,
    graph_mode: ({"eager_mode": 1}, {}),
    eager_mode: ({"eager_mode": 1}, {}),
    seed: ({"seed": 1},) * 2,
    eager_execution_disabled: ({"default_mode": 1},) * 2,
    version_1: ({"behaviour": 1, "default_mode": 1},) * 2,
    functions_run_eagerly: ({"run_eagerly": 1},) * 2,
    stored_exception: ({"stored_exception": 1},) * 2,
}
SETTINGS = (
    "seed",
    "default_writer_set",
    "default_writer_entered_by_a_library",
    "eager_execution_disabled",
    "version_1",
    "functions_run_eagerly",
    "stored_exception",
)


@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
@pytest.mark.parametrize("leave", LEFT, ids=lambda leave: leave.__name__)
def test_what_a_test_left_is_restored(leave: Leak, held: bool) -> None:
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


def test_a_writer_that_cannot_be_flushed_is_no_leftover() -> None:
    """Leaving the scope fails then, and TensorFlow keeps the writer."""
    before = state()
    surroundings = Surroundings()
    default_writer_that_cannot_be_flushed()
    assert state() != before
    assert surroundings.restore() == ()
    assert state() == before


def test_the_line_that_enters_the_scope_of_a_writer_is_known() -> None:
    surroundings = Surroundings()
    for _ in range(3):
        default_writer()
    scopes = surroundings._scopes["summary_writer"]
    assert len(scopes._entered) == 1, "it would grow in each iteration of a loop"
    (left,) = surroundings.restore()
    assert left.text == "1 summary writer was left as the default"
    assert left.origin is not None
    assert left.origin.function == "_entered"
    assert left.stack[0].text.startswith("return _entered(_writer()")


def counts(left: tuple[Leftover, ...]) -> dict[str, int]:
    return {item.kind: item.count for item in left}


def outer_graph() -> Any:
    return tf.Graph().as_default()


def outer_session() -> Any:
    return v1.Session(graph=tf.Graph())


def outer_device() -> Any:
    return tf.device("/CPU:0")


def outer_name_scope() -> Any:
    return tf.name_scope("outer")


def outer_strategy() -> Any:
    return tf.distribute.OneDeviceStrategy("/CPU:0").scope()


def outer_writer() -> Any:
    return _writer().as_default()


def outer_creator_scope() -> Any:
    return tf.variable_creator_scope(lambda make, **options: make(**options))


INNER = (
    interactive_session_with_graph,
    default_writer,
    graph,
    session,
    tape,
    name_scope,
    creator_scope,
    eager_mode,
)
OUTER = (
    outer_graph,
    outer_session,
    outer_device,
    outer_name_scope,
    outer_strategy,
    outer_writer,
    outer_creator_scope,
)


@pytest.mark.parametrize("inner", INNER, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("outer", OUTER, ids=lambda enter: enter.__name__)
def test_what_was_entered_before_stays_and_is_left_cleanly(
    outer: Callable[[], AbstractContextManager[Any]], inner: Leak
) -> None:
    with outer():
        before = state()
        surroundings = Surroundings()
        kept = inner()
        left = surroundings.restore()
        assert left
        assert all(item.leak for item in left)
        assert "unrestored" not in counts(left)
        assert state() == before
        del kept
        gc.collect()
        assert state() == before


def test_interactive_sessions_are_closed_and_may_be_closed_again() -> None:
    opened = v1.InteractiveSession._active_session_count
    surroundings = Surroundings()
    sessions = three_interactive_sessions()
    surroundings.restore()
    assert v1.InteractiveSession._active_session_count == opened
    before = state()
    for interactive in sessions:
        interactive.close()
    assert state() == before


def test_an_interactive_session_made_before_stays() -> None:
    outer = v1.InteractiveSession(graph=tf.Graph())
    before = state()
    surroundings = Surroundings()
    inner = v1.InteractiveSession(graph=outer.graph)
    assert counts(surroundings.restore()) == {GRAPH: 1, SESSION: 1}
    assert state() == before
    assert tf.constant(3.0).eval() == 3.0
    inner.close()
    assert state() == before
    outer.close()


def test_a_session_made_before_and_closed_in_the_test_is_not_restored() -> None:
    outer = v1.InteractiveSession(graph=tf.Graph())
    surroundings = Surroundings()
    outer.close()
    assert surroundings.restore() == ()


def test_a_graph_entered_before_survives_one_leak_of_the_same_graph() -> None:
    both = tf.Graph()
    with both.as_default():
        surroundings = Surroundings()
        kept = _entered(both.as_default())
        assert counts(surroundings.restore()) == {GRAPH: 1}
        del kept
        gc.collect()
        assert ops._default_graph_stack.stack == [both]
        assert not tf.executing_eagerly()


@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
def test_the_tape_of_the_caller_goes_on_recording(held: bool) -> None:
    variable = tf.Variable(3.0)
    with tf.GradientTape(persistent=True) as outer:
        first = variable * variable
        surroundings = Surroundings()
        kept = _tape()
        with outer.stop_recording():
            variable * 2.0
        if not held:
            kept = None
        assert counts(surroundings.restore()) == {"tapes": 1}
        last = first * variable
    assert float(outer.gradient(last, variable)) == 27.0
    if held:
        inner, inner_variable, square = kept
        assert not inner._recording
        assert float(inner.gradient(square, inner_variable)) == 2.0


@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
def test_a_tape_that_was_stopped_no_longer_records(held: bool) -> None:
    surroundings = Surroundings()
    tape = _entered(tf.GradientTape())
    variable = tf.Variable(1.0)
    kept = tape if held else None
    del tape
    surroundings.restore()
    variable * 2.0
    if kept is not None:
        assert kept.watched_variables() == ()
    assert pywrap_tfe.TFE_Py_TapeSetIsEmpty()


def test_tapes_of_other_threads_are_left_alone() -> None:
    started, finish = threading.Event(), threading.Event()
    gradients: list[float] = []

    def record_there() -> None:
        variable = tf.Variable(3.0)
        with tf.GradientTape() as tape:
            started.set()
            assert finish.wait(30)
            square = variable * variable
        gradients.append(float(tape.gradient(square, variable)))

    surroundings = Surroundings()
    thread = threading.Thread(target=record_there)
    thread.start()
    assert started.wait(30)
    kept = _tape()
    assert counts(surroundings.restore()) == {"tapes": 1}
    finish.set()
    thread.join(30)
    assert gradients == [6.0]
    del kept


def test_a_clean_body_leaves_nothing_and_nothing_is_changed() -> None:
    methods = dict(vars(tf.GradientTape))
    before = state()
    random_state = random.getstate(), str(np.random.get_state())
    surroundings = Surroundings()
    works()
    with tf.GradientTape() as tape, tf.name_scope("a"), tf.device("/CPU:0"):
        tape.watch(tf.constant(1.0))
    with tf.distribute.OneDeviceStrategy("/CPU:0").scope():
        tf.Variable(1.0)
    with v1.variable_scope("clean"):
        pass
    with v1.Session(graph=tf.Graph()), tf.init_scope():
        tf.constant(1.0)
    assert surroundings.restore() == ()
    assert state() == before
    assert dict(vars(tf.GradientTape)) == methods
    assert (random.getstate(), str(np.random.get_state())) == random_state


def test_nothing_is_put_back_twice() -> None:
    surroundings = Surroundings()
    kept = interactive_session_with_graph()
    assert surroundings.restore()
    before = state()
    with tf.Graph().as_default(), tf.GradientTape():
        assert surroundings.restore() == ()
        assert not tf.executing_eagerly()
        assert not pywrap_tfe.TFE_Py_TapeSetIsEmpty()
    assert state() == before
    del kept


@pytest.mark.parametrize("inner_first", [True, False])
def test_two_surroundings_at_once_do_not_lose_a_tape(inner_first: bool) -> None:
    methods = dict(vars(tf.GradientTape))
    first = Surroundings()
    second = Surroundings()
    _tape()
    for surroundings in (second, first) if inner_first else (first, second):
        surroundings.restore()
    assert pywrap_tfe.TFE_Py_TapeSetIsEmpty()
    if inner_first:
        assert dict(vars(tf.GradientTape)) == methods
    else:
        tf.GradientTape._push_tape, tf.GradientTape._pop_tape = (
            methods["_push_tape"],
            methods["_pop_tape"],
        )


@pytest.mark.parametrize(
    "leave",
    [interactive_session_with_graph, session, tape, strategy],
    ids=lambda leave: leave.__name__,
)
def test_nothing_that_was_left_is_kept_alive(leave: Leak) -> None:
    surroundings = Surroundings()
    kept = leave()
    kept = kept[0] if isinstance(kept, list) else kept
    reference = weakref.ref(kept)
    graph = weakref.ref(kept.graph) if hasattr(kept, "graph") else reference
    left = surroundings.restore()
    del kept
    gc.unfreeze()  # a frozen cycle could hold it
    gc.collect()
    gc.freeze()
    assert left
    assert reference() is None
    assert graph() is None


def test_frozen_generators_are_found() -> None:
    surroundings = Surroundings()
    kept = _entered(tf.Graph().as_default())
    gc.freeze()
    frozen = gc.get_freeze_count()
    assert counts(surroundings.restore()) == {GRAPH: 1}
    assert gc.get_freeze_count() > 0.9 * frozen  # what the user froze stays frozen
    del kept


def test_restoring_the_seed_keeps_the_kernels() -> None:
    cleared: list[int] = []
    clear = pywrap_tfe.TFE_ContextClearCaches
    surroundings = Surroundings()
    tf.random.set_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pywrap_tfe, "TFE_ContextClearCaches", cleared.append)
        assert [item.text for item in surroundings.restore()] == [
            "the global seed was changed and not put back"
        ]
    assert cleared == []
    assert context.global_seed() is None
    clear(context.context()._context_handle)


def test_the_seed_of_a_fixture_is_restored_with_its_position() -> None:
    surroundings_of_this_test = Surroundings()
    tf.random.set_seed(3)
    expected = [float(tf.random.uniform([])) for _ in range(3)][2]
    tf.random.set_seed(3)
    for _ in range(2):
        tf.random.uniform([])
    surroundings = Surroundings()
    tf.random.set_seed(4)
    assert counts(surroundings.restore()) == {"seed": 1}
    assert context.global_seed() == 3
    assert float(tf.random.uniform([])) == expected
    surroundings_of_this_test.restore()


def test_a_cleared_keras_session_does_not_lose_the_scope_of_a_fixture() -> None:
    strategy = tf.distribute.OneDeviceStrategy("/CPU:0")
    with strategy.scope():
        surroundings = Surroundings()
        keras.utils.clear_session()
        assert surroundings.restore() == ()
        assert tf.distribute.get_strategy() is strategy


def test_one_sentence_says_what_was_left() -> None:
    surroundings = Surroundings()
    kept = [strategy(), tape(), *three_interactive_sessions()]
    assert sorted(item.text for item in surroundings.restore()) == [
        "1 gradient tape was never left",
        "1 strategy scope was never left",
        "3 entries were left on the default-graph stack",
        "3 entries were left on the default-session stack",
    ]
    del kept


def test_it_is_cheap_if_nothing_was_left() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        assert Surroundings().restore() == ()
        return time.perf_counter() - start

    assert min(seconds() for _ in range(20)) < 0.002


def test_what_cannot_be_restored_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings = Surroundings()
    kept = interactive_session_with_graph()

    def refuse(*_: object) -> None:
        raise ValueError("refused")

    monkeypatch.setattr(surroundings._recorders, "_objects", refuse)
    monkeypatch.setattr(surroundings._attributes, "_objects", refuse)
    left = {item.kind: item for item in surroundings.restore()}
    assert "ValueError: refused" in left["unrestored"].text
    assert left[GRAPH].leak
    del kept


def test_an_attribute_that_cannot_be_restored_does_not_affect_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = state()
    surroundings = Surroundings()
    kept = [seed(), name_scope(), device(), graph_mode(), session()]
    put_back = isolation._put_back

    def refuse(one: Any) -> None:
        if one.watched.noun == "the global seed":
            raise AttributeError("refused")
        put_back(one)

    monkeypatch.setattr(isolation, "_put_back", refuse)
    left = {item.kind: item for item in surroundings.restore()}
    assert left["unrestored"].note == (
        "The global seed could not be put back: AttributeError: refused."
    )
    assert not left["unrestored"].leak
    assert state() == {**before, "seed": (7, before["seed"][1])}
    context.context()._seed, _ = before["seed"]
    context.context()._rng = None
    del context.context()._rng, kept


def test_a_tape_that_cannot_be_stopped_does_not_affect_others() -> None:
    class BrittleTape(tf.GradientTape):  # type: ignore[misc]
        def __setattr__(self, name: str, value: object) -> None:
            if name == "_recording" and getattr(self, name, False):
                raise RuntimeError("refused")
            super().__setattr__(name, value)

    before = state()
    surroundings = Surroundings()
    kept = [_entered(BrittleTape()), _tape(), device()]
    left = surroundings.restore()
    assert counts(left) == {"unrestored": 1, "tapes": 2, "device_scope": 1}
    assert "a gradient tape could not be put back: RuntimeError" in left[0].text
    assert state() == before
    del kept


def test_a_note_says_that_a_setting_was_put_back() -> None:
    surroundings = Surroundings()
    tf.random.set_seed(7)
    (left,) = surroundings.restore()
    assert left.note == (
        "The global seed was changed and not put back; it was put back after the test."
    )


def test_a_mode_that_was_chosen_before_the_test_stays() -> None:
    outer = Surroundings()
    v1.disable_eager_execution()
    surroundings = Surroundings()
    context.default_execution_mode = context.EAGER_MODE
    assert counts(surroundings.restore()) == {"default_mode": 1}
    assert not tf.executing_eagerly()
    outer.restore()
    assert tf.executing_eagerly()


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr
    return done.stdout


def test_without_tensorflow_nothing_is_imported() -> None:
    code = """
        import sys
        from pytest_tfleak.run.isolation import Surroundings
        surroundings = Surroundings()
        sys.last_value = ValueError("stored")
        assert [item.kind for item in surroundings.restore()] == ["stored_exception"]
        assert not hasattr(sys, "last_value")
        assert surroundings.restore() == ()
        heavy = {"tensorflow", "keras", "numpy", "pytest", "psutil"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    _python(code)


def test_no_eager_context_and_no_device_is_made() -> None:
    code = """
        import tensorflow as tf
        from pytest_tfleak.run.isolation import Surroundings
        from tensorflow.python.eager import context
        assert Surroundings().restore() == ()
        assert context._context is None
        surroundings = Surroundings()
        tf.config.set_soft_device_placement(True)
        assert surroundings.restore() == ()
        assert not context._context._initialized
        assert Surroundings().restore() == ()
        assert not context._context._initialized
    """
    _python(code)


@pytest.mark.parametrize("imported", ["before", "between"])
def test_tensorflow_first_imported_by_the_test_is_left_pristine(imported: str) -> None:
    code = f"""
        import gc
        from pytest_tfleak.run.isolation import Surroundings
        if {imported == "before"}:
            import tensorflow as tf
        surroundings = Surroundings()
        import tensorflow as tf
        from tensorflow.python import pywrap_tfe
        v1 = tf.compat.v1
        tape = tf.GradientTape()
        tape.__enter__()
        sessions = [v1.InteractiveSession(graph=tf.Graph()) for _ in range(2)]
        tf.random.set_seed(1)
        left = {{item.kind: item.count for item in surroundings.restore()}}
        print(left)
        assert left["graph_stack"] == left["session_stack"] == 2
        assert left["tapes"] == 1
        del sessions
        gc.collect()
        surroundings = Surroundings()
        name = tf.name_scope("a").__enter__()
        device = tf.device("/CPU:0").__enter__()
        assert len(surroundings.restore()) == 2
        assert tf.executing_eagerly()
        assert float(tf.Variable(1.0) + 1.0) == 2.0
        assert pywrap_tfe.TFE_Py_TapeSetIsEmpty()
        assert Surroundings().restore() == ()
        with tf.Graph().as_default(), v1.Session():
            pass
    """
    _python(code)


def test_a_context_that_begins_in_graph_mode_is_eager_afterwards() -> None:
    code = """
        import threading
        import tensorflow as tf
        from pytest_tfleak.run.isolation import Surroundings
        surroundings = Surroundings()
        tf.compat.v1.disable_eager_execution()
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            session.run(tf.constant(1))
        (left,) = surroundings.restore()
        assert left.kind == "default_mode", left
        variables = []

        @tf.function
        def double(x):
            if not variables:
                variables.append(tf.Variable(2.0))
            return x * variables[0]

        def check(x):
            assert tf.executing_eagerly()
            assert float(double(tf.constant(x))) == 2 * x
            checked.append(x)

        checked = []
        check(1.0)
        thread = threading.Thread(target=check, args=(2.0,))
        thread.start()
        thread.join()
        assert checked == [1.0, 2.0]
        assert Surroundings().restore() == ()
    """
    _python(code)
