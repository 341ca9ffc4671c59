"""Signals, statuses and reasons in plain words, the most telling signal first."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status


@dataclass(frozen=True, slots=True)
class SignalWords:
    """How a message speaks of a signal."""

    grows: str  # what grows, as a noun
    one: str = ""  # one of them, and more of them, for "1 session is still open"
    many: str = ""
    state: str = "alive"
    look_for: str = ""  # what usually causes it, and what helps


@dataclass(frozen=True, slots=True)
class ReasonWords:
    """How a message speaks of a reason."""

    why: str
    remedy: str = ""


#: In the order of how much a signal tells: what holds others comes before what it
#: holds, objects before memory. The first finding leads, the others follow in short.
SIGNALS: dict[str, SignalWords] = {
    "tf.sessions": SignalWords(
        "open sessions",
        "session",
        "sessions",
        "open",
        "a session that nobody closes; `with tf.compat.v1.Session() as session:` does",
    ),
    "tf.sessions.closed": SignalWords(
        "closed sessions that something still holds",
        "closed session",
        "closed sessions",
        "held",
        "a list, an attribute or a fixture that keeps the closed Session object",
    ),
    "tf.session_stack": SignalWords(
        "sessions on the stack of default sessions",
        "session",
        "sessions",
        "on the stack of default sessions",
        "an InteractiveSession without close(), or a session.as_default() never left",
    ),
    "tf.graph_stack": SignalWords(
        "graphs on the stack of default graphs",
        "graph",
        "graphs",
        "on the stack of default graphs",
        "a graph.as_default() never left, or an InteractiveSession without close()",
    ),
    "tf.tapes": SignalWords(
        "gradient tapes that were entered and never left",
        "gradient tape",
        "gradient tapes",
        "open",
        "a gradient tape that is entered and never left; use a with statement",
    ),
    "tf.accumulators": SignalWords(
        "forward accumulators that were entered and never left",
        "forward accumulator",
        "forward accumulators",
        "open",
        "an accumulator that is entered and never left; use a with statement",
    ),
    "tf.strategy": SignalWords(
        "distribution scopes that were entered and never left",
        "distribution scope",
        "distribution scopes",
        "open",
        "a distribution scope that is entered and never left; use a with statement",
    ),
    "tf.creator_scope": SignalWords(
        "variable-creator scopes that were entered and never left",
        "variable-creator scope",
        "variable-creator scopes",
        "open",
        "a variable-creator scope that is entered and never left; use a with statement",
    ),
    "tf.control_scope": SignalWords(
        "control-dependency scopes that were entered and never left",
        "control-dependency scope",
        "control-dependency scopes",
        "open",
        "a scope that is entered and never left; use a with statement",
    ),
    "tf.device_scope": SignalWords(
        "device scopes that were entered and never left",
        "device scope",
        "device scopes",
        "open",
        "a device scope that is entered and never left; use a with statement",
    ),
    "tf.name_scope": SignalWords(
        "name scopes that were entered and never left",
        "name scope",
        "name scopes",
        "open",
        "a name scope that is entered and never left; use a with statement",
    ),
    "tf.eager_mode": SignalWords(
        "changes of eager mode",
        "change of eager mode",
        "changes of eager mode",
        "in force",
        "a call that switches eager execution on or off, and nothing that undoes it",
    ),
    "tf.graphs": SignalWords(
        "graphs",
        "graph",
        "graphs",
        "alive",
        "whatever keeps the tf.Graph, or a tensor or operation of it",
    ),
    "tf.default_graph.ops": SignalWords(
        "operations in the default graph",
        "operation",
        "operations",
        "in the default graph",
        "operations added in each call; build the graph once, and then only run it",
    ),
    "tf.graphs.ops": SignalWords(
        "operations in graphs other than the default one",
        "operation",
        "operations",
        look_for="operations added in each call; build the graph once, then run it",
    ),
    "keras.layers": SignalWords(
        "Keras layers",
        "Keras layer",
        "Keras layers",
        look_for="a model or layer that each call makes and something keeps",
    ),
    "keras.optimizers": SignalWords(
        "Keras optimizers",
        "Keras optimizer",
        "Keras optimizers",
        look_for="a model or optimizer that each call makes and something keeps",
    ),
    "tf.datasets": SignalWords(
        "datasets",
        "dataset",
        "datasets",
        look_for="a dataset that each call makes and something keeps",
    ),
    "tf.iterators": SignalWords(
        "dataset iterators",
        "dataset iterator",
        "dataset iterators",
        look_for="an iterator that each call makes and something keeps",
    ),
    "tf.traces": SignalWords(
        "traces of tf.functions",
        "trace",
        "traces",
        look_for="a tf.function that is traced anew in each call; pass tensors instead "
        "of Python numbers, and do not make the function inside the call",
    ),
    "tf.functions": SignalWords(
        "concrete functions",
        "concrete function",
        "concrete functions",
        look_for="a tf.function that each call traces anew, or makes and keeps",
    ),
    "tf.variables": SignalWords(
        "TensorFlow variables",
        "variable",
        "variables",
        look_for="a variable that each call makes and a list, cache or attribute keeps",
    ),
    "tf.tensors": SignalWords(
        "eager tensors",
        "tensor",
        "tensors",
        look_for="a list, a cache or an attribute that keeps a tensor of each call",
    ),
    "tf.registered_functions": SignalWords(
        "functions in TensorFlow's eager context",
        "registered function",
        "registered functions",
        "registered",
        "a tf.function, or a dataset with a function, that is made in each call",
    ),
    "tf.py_functions": SignalWords(
        "Python functions that TensorFlow's operations call",
        "Python function",
        "Python functions",
        "registered",
        "py_function, numpy_function or from_generator used anew in each call",
    ),
    "tf.custom_gradients": SignalWords(
        "entries of the custom-gradient registry",
        "custom gradient",
        "custom gradients",
        "registered",
        "a function with a custom gradient that is traced anew in each call",
    ),
    "process.threads": SignalWords(
        "threads",
        "thread",
        "threads",
        "running",
        "a thread that is never joined, or a pool that is never shut down",
    ),
    "process.fds": SignalWords(
        "open file descriptors",
        "file descriptor",
        "file descriptors",
        "open",
        "a file, a socket or a pipe that is never closed",
    ),
    "process.children": SignalWords(
        "child processes",
        "child process",
        "child processes",
        "running",
        "a process that is never joined, or a pool that is never shut down",
    ),
    "python.objects": SignalWords(
        "Python objects",
        "Python object",
        "Python objects",
        look_for="a list, a cache or an attribute that keeps something of each call",
    ),
    "gpu.allocator": SignalWords(
        "GPU memory in TensorFlow's allocator",
        look_for="a list, a cache or an attribute that keeps tensors of each call",
    ),
    "host.allocator": SignalWords(
        "host memory in TensorFlow's allocator",
        look_for="a list, a cache or an attribute that keeps big tensors of each call",
    ),
    "python.blocks": SignalWords(
        "Python's memory blocks",
        look_for="a list, a cache or an attribute that keeps something of each call",
    ),
    "host.heap": SignalWords(
        "heap memory",
        look_for="an array or buffer that something keeps, memory that a C extension "
        "does not free, or a cache inside TensorFlow",
    ),
    "gpu.process": SignalWords(
        "GPU memory of this process, as the driver counts it",
        look_for="GPU memory outside TensorFlow's pool, where gpu.allocator does not "
        "grow: CUDA modules, XLA executables, cuDNN's plans, or another library",
    ),
    "process.children.rss": SignalWords("memory of child processes"),
    "host.uss": SignalWords("memory of this process alone (USS)"),
    "host.rss": SignalWords("resident memory (RSS)"),
    "gpu.peak": SignalWords("the most that TensorFlow's allocator has had in use"),
    "gpu.device": SignalWords("memory of the whole card, shared by all its processes"),
}
_RANKS = {name: rank for rank, name in enumerate(SIGNALS)}
# Signals of other people's probes stand between TensorFlow's objects and memory.
_COUNT_RANK = _RANKS["process.threads"] - 0.5
_BYTES_RANK = _RANKS["host.allocator"] - 0.5

REASONS: dict[Reason, ReasonWords] = {
    Reason.TOO_FEW_ITERATIONS: ReasonWords(
        "too few iterations", "ask for more: iterations=50"
    ),
    Reason.OUT_OF_TIME: ReasonWords(
        "out of time", "allow more time with max_time, or make the body faster"
    ),
    Reason.FADING: ReasonWords(
        "growth that fades", "more warm-up (warmup=) or more iterations (iterations=)"
    ),
    Reason.UNSTEADY: ReasonWords(
        "growth that comes and goes", "ask for more iterations (iterations=)"
    ),
    Reason.NO_SIGNAL: ReasonWords("no signal could be read"),
    Reason.PROBE_FAILED: ReasonWords("a probe failed"),
    Reason.BODY_FAILED: ReasonWords("failed"),
    Reason.NOT_REPEATABLE: ReasonWords("cannot be repeated"),
    Reason.BODY_SKIPPED: ReasonWords("skipped"),
    Reason.INTERRUPTED: ReasonWords("interrupted"),
    Reason.DISABLED: ReasonWords("disabled"),
    Reason.UNSUPPORTED: ReasonWords("not supported"),
    Reason.MEASURES_ITSELF: ReasonWords("measures itself"),
    Reason.GPU_NOT_MEASURED: ReasonWords("GPU memory was not measured"),
}

STATUSES = {
    Status.LEAK: "LEAK",
    Status.INCONCLUSIVE: "INCONCLUSIVE",
    Status.NOT_MEASURED: "NOT MEASURED",
    Status.CLEAN: "clean",
}


def words_for(signal: str, unit: str) -> SignalWords:
    """Return the words for a signal, for a third party's from its unit."""
    known = SIGNALS.get(_base(signal))
    if known is not None:
        return known
    if unit == "B":
        return SignalWords("memory")
    return SignalWords(unit, _singular(unit), unit)


def rank(signal: str, unit: str, is_left: bool = False) -> tuple[float, float, str]:
    """Return the sort key that puts the most telling signal first.

    Objects that are left say less than objects that pile up, but a scope that was never
    left often explains both.
    """
    other = _BYTES_RANK if unit == "B" else _COUNT_RANK
    place = _RANKS.get(_base(signal), other)
    is_scope = _RANKS["tf.session_stack"] <= place <= _RANKS["tf.eager_mode"]
    group = 2 if place >= _COUNT_RANK else int(is_left and not is_scope)
    return group, place, signal


def _singular(noun: str) -> str:
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith("sses"):
        return noun[:-2]
    return noun.removesuffix("s")


def _base(signal: str) -> str:
    return signal.partition("[")[0]
