"""TensorFlow and Keras: how many of each kind of object are alive.

Everything is looked up in ``sys.modules``; nothing here imports TensorFlow.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import weakref
from array import array
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

from pytest_tfleak.census import Census
from pytest_tfleak.census import TypeName
from pytest_tfleak.observed import NOT_YET
from pytest_tfleak.observed import default_graphs
from pytest_tfleak.observed import global_default_graph
from pytest_tfleak.observed import initialised_context
from pytest_tfleak.observed import note_default_graphs
from pytest_tfleak.observed import was_default
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.trace import Signal

_PYTHON = "tensorflow.python."
SESSION = (_PYTHON + "client.session", "BaseSession")
GRAPH = (_PYTHON + "framework.ops", "Graph")
FUNCTION_GRAPHS = (
    (_PYTHON + "framework.func_graph", "FuncGraph"),
    (_PYTHON + "framework.function", "_FuncGraph"),
)
FUNCTION = (_PYTHON + "eager.polymorphic_function.polymorphic_function", "Function")
_CONCRETE = (
    _PYTHON + "eager.polymorphic_function.concrete_function",
    "ConcreteFunction",
)

#: Signals that are a count of living objects: name, unit, allowance, types.
_COUNTS: tuple[tuple[str, str, str, tuple[TypeName, ...]], ...] = (
    ("tf.functions", "concrete functions", "functions", (_CONCRETE,)),
    (
        "tf.tensors",
        "tensors",
        "tensors",
        ((_PYTHON + "framework.ops", "EagerTensor"),),
    ),
    (
        "tf.variables",
        "variables",
        "variables",
        ((_PYTHON + "ops.variables", "Variable"),),
    ),
    (
        "tf.iterators",
        "iterators",
        "iterators",
        (
            (_PYTHON + "data.ops.iterator_ops", "IteratorBase"),
            (_PYTHON + "data.ops.iterator_ops", "Iterator"),
        ),
    ),
    (
        "tf.datasets",
        "datasets",
        "datasets",
        ((_PYTHON + "data.ops.dataset_ops", "DatasetV2"),),
    ),
    (
        "keras.layers",
        "layers",
        "layers",
        (
            ("keras.src.layers.layer", "Layer"),
            ("tf_keras.src.engine.base_layer", "Layer"),
        ),
    ),
    (
        "keras.optimizers",
        "optimizers",
        "optimizers",
        (
            ("keras.src.optimizers.base_optimizer", "BaseOptimizer"),
            ("tf_keras.src.optimizers.optimizer", "_BaseOptimizer"),
        ),
    ),
)


class TensorFlowProbe(Probe):
    """Counts TensorFlow's and Keras' objects, stacks and registries."""

    name = "tensorflow"
    is_readable_anytime = True

    def __init__(self, census: Census) -> None:
        self._census = census
        census.watch("tf.sessions", [SESSION])
        census.watch("tf.graphs", [GRAPH], unless=FUNCTION_GRAPHS)
        census.watch("tf.traces", [FUNCTION])
        for name, _, _, types in _COUNTS:
            census.watch(name, types)
        self._iterations = 0  # until the last reading
        self._of_last_call = 0
        self._reasons: dict[str, str] = {}
        self._unwatch: Callable[[], None] | None = None
        #: What the run made and was alive after the last iteration and the one before.
        self._seen: list[weakref.ref[Any]] | None = None
        self._seen_before: list[weakref.ref[Any]] | None = None
        #: Sessions that were dropped while open; Python closed them.
        self.dropped = array("q", [0])
        self._figures: tuple[tuple[Signal, Callable[[], int | None]], ...] = (
            (_count("tf.sessions", "open sessions", "sessions"), self._open_sessions),
            (
                _count("tf.sessions.closed", "closed sessions", "sessions"),
                self._closed_sessions,
            ),
            (_count("tf.graphs", "graphs", "graphs"), self._graphs),
            (
                _count("tf.default_graph.ops", "operations", "operations"),
                _default_graph_operations,
            ),
            (
                _count("tf.graphs.ops", "operations", "operations"),
                self._other_operations,
            ),
            (_count("tf.traces", "traces", "traces"), self._traces),
            (
                _count("tf.session_stack", "entries", "sessions"),
                _session_stack,
            ),
            (_count("tf.graph_stack", "entries", "graphs"), _graph_stack),
            (
                _count("tf.registered_functions", "functions", "registered_functions"),
                _registered_functions,
            ),
            (
                _count("tf.py_functions", "Python functions", "py_functions"),
                _py_functions,
            ),
            (
                _count("tf.custom_gradients", "registry entries", "custom_gradients"),
                _custom_gradients,
            ),
        )

    def signals(self) -> Sequence[Signal]:
        """Return the signals of TensorFlow and Keras."""
        self._watch_drops()
        counted = tuple(_count(name, unit, allow) for name, unit, allow, _ in _COUNTS)
        return (*(signal for signal, _ in self._figures), *counted)

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the counts; nothing where TensorFlow or Keras is not imported."""
        if not _is_imported("tensorflow"):
            return
        note_default_graphs()
        if self._census.iterations != self._iterations:
            self._iterations = self._census.iterations
            self._seen_before = self._seen
        self._seen = self._made()
        for position, (signal, figure) in enumerate(self._figures):
            if signal.name in self._reasons:
                continue
            try:
                value = figure()
            except AttributeError as error:
                self._reasons[signal.name] = f"not in this TensorFlow ({error})"
                continue
            if value is not None:
                buffer[start + position] = value
        place = start + len(self._figures)
        for position, (name, _, _, _) in enumerate(_COUNTS):
            if name.startswith("tf.") or _is_imported("keras", "tf_keras"):
                buffer[place + position] = self._census.alive(name)

    def reasons(self) -> dict[str, str]:
        """Say what could not be counted, and why."""
        reasons = dict(self._reasons)
        for signal in self.signals():
            if not _is_imported("tensorflow"):
                reasons[signal.name] = "TensorFlow is not imported"
            elif signal.name.startswith("keras.") and not _is_imported(
                "keras", "tf_keras"
            ):
                reasons[signal.name] = "Keras is not imported"
            else:
                reasons.setdefault(signal.name, "TensorFlow has not started it yet")
        return reasons

    def close(self) -> None:
        """Take the watch off ``Session.__del__``."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def why_off(self) -> str | None:
        """Say whether TensorFlow is missing from the process."""
        return None if _is_imported("tensorflow") else NOT_YET

    def still_there(self) -> dict[str, list[Any]]:
        """Return open sessions and graphs that the run made and did not take back.

        What only the last iteration made does not count: the next one might have closed
        it, as it closed those of the iterations before.
        """
        note_default_graphs()
        sessions = _open(self._census.made_since_start("tf.sessions"))
        graphs = self._census.made_since_start("tf.graphs")
        graphs = [graph for graph in graphs if not was_default(graph)]
        if self._seen_before is not None:
            outlived = {id(reference()) for reference in self._seen_before}
            older = [session for session in sessions if id(session) in outlived]
            self._of_last_call = 0 if older else len(sessions)
            sessions = older
            graphs = [graph for graph in graphs if id(graph) in outlived]
        return {"tf.sessions": sessions, "tf.graphs": graphs}

    def notes(self) -> tuple[str, ...]:
        """Name what is untidy and no leak: sessions dropped open, the last call's."""
        notes = []
        if self._of_last_call:
            notes.append(
                "A session of the last call is still open; those of the calls before "
                "it are not."
            )
        count = self.dropped[0]
        if not count:
            return tuple(notes)
        sessions = "1 session was" if count == 1 else f"{count} sessions were"
        text = (
            f"{sessions} dropped without close(); Python closed what was dropped. "
            "Close it yourself, or use it in a with statement."
        )
        return (*notes, text)

    def _open_sessions(self) -> int | None:
        return len(_open(self._census.members("tf.sessions")))

    def _closed_sessions(self) -> int | None:
        alive = self._census.members("tf.sessions")
        return len(alive) - len(_open(alive))

    def _graphs(self) -> int | None:
        defaults = set(map(id, default_graphs()))
        graphs = self._census.members("tf.graphs")
        return sum(id(graph) not in defaults for graph in graphs)

    def _other_operations(self) -> int | None:
        default = global_default_graph()
        graph_type = sys.modules["tensorflow.python.framework.ops"].Graph
        graphs = self._census.members("tf.graphs")
        others = (graph for graph in graphs if graph is not default)
        return sum(int(graph_type.num_operations(graph)) for graph in others)

    def _traces(self) -> int | None:
        functions = self._census.members("tf.traces")
        return sum(map(_tracing_count, functions))

    def _made(self) -> list[weakref.ref[Any]]:
        made = self._census.made_since_start
        return [weakref.ref(o) for o in made("tf.sessions") + made("tf.graphs")]

    def _watch_drops(self) -> None:
        """Notice sessions that die open: their ``__del__`` closes them."""
        module: Any = sys.modules.get(SESSION[0])
        if self._unwatch is not None or not hasattr(module, "BaseSession"):
            return
        session_type = module.BaseSession
        original = session_type.__dict__.get("__del__")
        if original is None:
            return
        dropped = self.dropped

        @wraps(original)
        def count_and_close(session: Any) -> None:
            if not _attribute(session, "_closed"):
                dropped[0] += 1
            original(session)

        session_type.__del__ = count_and_close

        def undo() -> None:
            session_type.__del__ = original

        self._unwatch = undo


def _count(name: str, unit: str, allowance: str) -> Signal:
    return Signal(name=name, unit=unit, allowance=allowance)


def _open(sessions: Sequence[Any]) -> list[Any]:
    return [session for session in sessions if not _attribute(session, "_closed")]


def _is_imported(*names: str) -> bool:
    return any(name in sys.modules for name in names)


def _attribute(instance: Any, name: str) -> Any:
    # not getattr: a subclass of the user's may run code there
    return object.__getattribute__(instance, "__dict__").get(name)


def _tracing_count(function: Any) -> int:
    with suppress(Exception):  # a function whose __init__ has not finished
        count: int = type(function).experimental_get_tracing_count(function)
        return count
    return 0


def _default_graph_operations() -> int | None:
    graph = global_default_graph()
    return 0 if graph is None else graph.num_operations()


def _session_stack() -> int | None:
    module = sys.modules["tensorflow.python.framework.stack"]
    return len(module._default_session_stack.stack)


def _graph_stack() -> int | None:
    module = sys.modules["tensorflow.python.framework.ops"]
    return len(module._default_graph_stack.stack)


def _registered_functions() -> int | None:
    context = initialised_context()
    return None if context is None else len(context.list_function_names())


def _py_functions() -> int | None:
    return len(sys.modules["tensorflow.python.ops.script_ops"]._py_funcs._funcs)


def _custom_gradients() -> int | None:
    module = sys.modules["tensorflow.python.framework.ops"]
    return len(module.gradient_registry._registry)
