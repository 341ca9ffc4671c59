"""Count living objects of TensorFlow and Keras, by kind.

Their classes are looked up in ``sys.modules``; nothing here imports TensorFlow.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from functools import wraps
from typing import Any
from typing import NamedTuple

from pytest_tfleak.probes.allocator import logical_gpus
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.signals import make_signal
from pytest_tfleak.signals import row_of
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import NOT_YET
from pytest_tfleak.tf.access import global_default_graph
from pytest_tfleak.tf.access import initialised_context
from pytest_tfleak.tf.access import is_imported
from pytest_tfleak.tf.access import note_default_graphs
from pytest_tfleak.tf.access import was_default
from pytest_tfleak.tf.names import Name
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.tf.sizes import bytes_of_tensor
from pytest_tfleak.tf.sizes import bytes_of_variable
from pytest_tfleak.tf.sizes import device_of
from pytest_tfleak.tf.sizes import handle_of
from pytest_tfleak.trace import Signal

#: The signals for the bytes of living tensors and variables, on host and cards.
_HOST_BYTES, _CARD_BYTES = "host.tensors", "gpu.tensors"
_HOST = "CPU"

#: Signals that count the living objects of a class, and that class.
_COUNTED = {
    "tf.functions": names.CONCRETE_FUNCTION,
    "tf.tensors": names.EAGER_TENSOR,
    "tf.variables": names.VARIABLE,
    "tf.iterators": names.ITERATOR,
    "tf.datasets": names.DATASET,
    "keras.layers": names.LAYER,
    "keras.optimizers": names.OPTIMIZER,
}
_OF_KERAS = frozenset(name for name in _COUNTED if row_of(name).family == "keras")


class _Living(NamedTuple):
    """What several figures are read from."""

    sessions: list[Any]
    graphs: list[Any]
    defaults: list[Any]  # the default graphs of all threads


_Figure = Callable[[_Living], "int | None"]


class TensorFlowProbe(Probe):
    """Counts objects and entries of stacks and registries in TensorFlow and Keras."""

    name = "tensorflow"
    is_readable_anytime = True

    def __init__(self, census: Census) -> None:
        self._census = census
        for name in ("tf.sessions", "tf.graphs", "tf.traces", *_COUNTED):
            row = row_of(name)
            census.watch(name, row.types, row.unless)
        self._devices: tuple[str, ...] = (_HOST,)
        self._knew_devices = False
        self._iterations = 0  # how many had run at the last reading
        self._of_last_call = 0
        self._reasons: dict[str, str] = {}
        self._patches = Patches()
        self._watches_drops = False
        #: Objects of the run that were alive after the last iteration,
        self._seen: list[weakref.ref[Any]] | None = None
        #: and after the one before it.
        self._seen_before: list[weakref.ref[Any]] | None = None
        #: How many sessions were dropped while open; their ``__del__`` closed them.
        self.dropped = array("q", [0])
        #: The signals whose names in TensorFlow were found: they are not looked up in
        #: each iteration.
        self._known: set[str] = set()
        self._figures: dict[str, _Figure] = {
            "tf.sessions": self._open_sessions,
            "tf.sessions.closed": self._closed_sessions,
            "tf.graphs": self._graphs,
            "tf.default_graph.ops": _default_graph_operations,
            "tf.graphs.ops": self._other_operations,
            "tf.traces": self._traces,
            "tf.session_stack": _session_stack,
            "tf.graph_stack": _graph_stack,
            "tf.registered_functions": _registered_functions,
            "tf.py_functions": _py_functions,
            "tf.custom_gradients": _custom_gradients,
            **{name: partial(self._alive, name, of) for name, of in _COUNTED.items()},
        }

    def signals(self) -> Sequence[Signal]:
        """Return the signals of TensorFlow and Keras."""
        self._watch_drops()
        context = initialised_context()
        self._knew_devices = context is not None
        if context is not None:
            self._devices = (_HOST, *(gpu.name for gpu in logical_gpus(context)))
        counts = map(make_signal, self._figures)
        return (*counts, *map(_bytes_signal, self._devices))

    def has_more_signals(self) -> bool:
        """Return whether TensorFlow has initialised its devices since then."""
        return not self._knew_devices and initialised_context() is not None

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the counts, except those of a library that is not imported."""
        if not is_imported("tensorflow"):
            return
        defaults = note_default_graphs()
        if self._census.iterations != self._iterations:
            self._iterations = self._census.iterations
            self._seen_before = self._seen
        self._seen = self._made()
        members = self._census.members
        living = _Living(members("tf.sessions"), members("tf.graphs"), defaults)
        has_keras = is_imported("keras", "tf_keras")
        place = start
        for name, figure in self._figures.items():
            if has_keras or name not in _OF_KERAS:
                self._write(buffer, place, name, figure, living)
            place += 1
        self._read_bytes(buffer, place)

    def reasons(self) -> dict[str, str]:
        """Return what could not be counted, and why."""
        reasons = dict(self._reasons)
        for name in (*self._figures, _HOST_BYTES):
            if not is_imported("tensorflow"):
                reasons[name] = "TensorFlow is not imported"
            elif name in _OF_KERAS and not is_imported("keras", "tf_keras"):
                reasons[name] = "Keras is not imported"
            else:
                reasons.setdefault(name, "TensorFlow has not started it yet")
        return reasons

    def close(self) -> None:
        """Remove the patch of ``Session.__del__``."""
        self._patches.undo()

    def why_off(self) -> str | None:
        """Return a reason if TensorFlow is not imported."""
        return None if is_imported("tensorflow") else NOT_YET

    def still_there(self) -> dict[str, list[Any]]:
        """Return open sessions and graphs that the run made and left.

        Those of the last iteration do not count: the next one might have closed them,
        as each iteration may have closed those of the one before.
        """
        note_default_graphs()
        sessions = _open(self._census.made_since_start("tf.sessions"))
        graphs = self._census.made_since_start("tf.graphs")
        graphs = [graph for graph in graphs if not was_default(graph)]
        if self._seen_before is not None:
            outlived = {id(reference()) for reference in self._seen_before}
            older = [session for session in sessions if id(session) in outlived]
            # not seen after the last call: a fixture was set up again since then
            seen = {id(reference()) for reference in self._seen or ()}
            last = [session for session in sessions if id(session) in seen]
            self._of_last_call = 0 if older else len(last)
            sessions = older
            graphs = [graph for graph in graphs if id(graph) in outlived]
        return {"tf.sessions": sessions, "tf.graphs": graphs}

    def notes(self) -> tuple[str, ...]:
        """Return notes on untidy sessions that are no leak."""
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

    def _write(
        self,
        buffer: array[int],
        place: int,
        signal: str,
        figure: _Figure,
        living: _Living,
    ) -> None:
        """Write one figure, or note that this TensorFlow lacks a name it needs."""
        if signal in self._reasons:
            return
        try:
            value = figure(living)
        except AttributeError as error:
            self._reasons[signal] = f"not in this TensorFlow ({error})"
            return
        if value is not None:
            buffer[place] = value

    def _read_bytes(self, buffer: array[int], place: int) -> None:
        """Write the bytes of living tensors and variables, device by device."""
        if initialised_context() is None or _HOST_BYTES in self._reasons:
            return
        try:
            totals = self._bytes()
        except AttributeError as error:
            self._reasons[_HOST_BYTES] = f"not in this TensorFlow ({error})"
            return
        for position, device in enumerate(self._devices):
            buffer[place + position] = totals[device]

    def _bytes(self) -> dict[str, int]:
        totals = dict.fromkeys(self._devices, 0)
        for tensor in self._census.members("tf.tensors"):
            totals[self._device_of(tensor)] += bytes_of_tensor(tensor)
        for variable in self._census.members("tf.variables"):
            handle = handle_of(variable)
            if handle is not None:
                totals[self._device_of(handle)] += bytes_of_variable(variable)
        return totals

    def _device_of(self, tensor: Any) -> str:
        """Return the device whose total a tensor adds to."""
        if len(self._devices) == 1:
            return _HOST  # it takes longer to ask the tensor than to add it
        device = device_of(tensor)
        return device if device in self._devices else _HOST

    def _need(self, signal: str, *needed: Name) -> None:
        """Raise MissingNameError if TensorFlow lacks one, where 0 would mislead."""
        if signal not in self._known:
            for name in needed:
                name.get()
            self._known.add(signal)

    def _alive(self, signal: str, cls: Name, _: _Living) -> int:
        self._need(signal, cls)
        return self._census.alive(signal)

    def _open_sessions(self, living: _Living) -> int:
        self._need("tf.sessions", names.SESSION)
        return len(_open(living.sessions))

    def _closed_sessions(self, living: _Living) -> int:
        self._need("tf.sessions.closed", names.SESSION)
        return len(living.sessions) - len(_open(living.sessions))

    def _graphs(self, living: _Living) -> int:
        self._need("tf.graphs", names.GRAPH, names.FUNCTION_GRAPH)
        defaults = set(map(id, living.defaults))
        return sum(id(graph) not in defaults for graph in living.graphs)

    def _other_operations(self, living: _Living) -> int:
        self._need("tf.graphs.ops", names.GRAPH, names.FUNCTION_GRAPH)
        if not living.graphs:
            return 0
        default = global_default_graph()
        count = names.GRAPH.get().num_operations
        others = (graph for graph in living.graphs if graph is not default)
        return sum(int(count(graph)) for graph in others)

    def _traces(self, _: _Living) -> int:
        if "tf.traces" not in self._known:
            names.TRACING_COUNT.of(names.FUNCTION.get())
            self._known.add("tf.traces")
        functions = self._census.members("tf.traces")
        return sum(map(_tracing_count, functions))

    def _made(self) -> list[weakref.ref[Any]]:
        made = self._census.made_since_start
        return [weakref.ref(o) for o in made("tf.sessions") + made("tf.graphs")]

    def _watch_drops(self) -> None:
        """Count sessions that are dropped while open, which ``__del__`` then closes."""
        session_type = names.SESSION.find()
        if self._watches_drops or not hasattr(session_type, "__del__"):
            return
        dropped = self.dropped

        def make(original: Callable[[Any], None]) -> Callable[[Any], None]:
            @wraps(original)
            def count_and_close(session: Any) -> None:
                if not _attribute(session, names.SESSION_CLOSED):
                    dropped[0] += 1
                original(session)

            return count_and_close

        self._watches_drops = True
        self._patches.set(session_type, "__del__", make)


def _open(sessions: Sequence[Any]) -> list[Any]:
    return [
        session for session in sessions if not _attribute(session, names.SESSION_CLOSED)
    ]


def _attribute(instance: Any, name: str) -> Any:
    # not getattr, which may run code of a user's subclass
    return object.__getattribute__(instance, "__dict__").get(name)


def _tracing_count(function: Any) -> int:
    try:
        count: int = names.TRACING_COUNT.of(type(function))(function)
    except Exception:  # the function's __init__ may not have finished
        return 0
    return count


def _default_graph_operations(_: _Living) -> int | None:
    names.GRAPH_STACK.get()
    graph = global_default_graph()
    return 0 if graph is None else graph.num_operations()


def _session_stack(_: _Living) -> int | None:
    return len(names.STACK.of(names.SESSION_STACK.get()))


def _graph_stack(_: _Living) -> int | None:
    return len(names.STACK.of(names.GRAPH_STACK.get()))


def _registered_functions(_: _Living) -> int | None:
    names.CONTEXT_SAFE.get()
    context = initialised_context()
    return None if context is None else len(names.FUNCTION_NAMES.of(context)())


def _py_functions(_: _Living) -> int | None:
    return len(names.PY_FUNCTION_TABLE.of(names.PY_FUNCTIONS.get()))


def _custom_gradients(_: _Living) -> int | None:
    return len(names.REGISTERED.of(names.GRADIENTS.get()))


def _bytes_signal(device: str) -> Signal:
    if device == _HOST:
        return make_signal(_HOST_BYTES)
    return make_signal(_CARD_BYTES, device)
