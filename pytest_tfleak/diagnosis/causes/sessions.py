"""Causes in sessions, graphs and traced functions."""

from __future__ import annotations

from pytest_tfleak.diagnosis.causes.cause import FUNCTION_CACHE
from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.cause import Priority

_INTERACTIVE = "session.InteractiveSession"
_STACKS = ("session-stack", "graph-stack")
_FUNCTION = "polymorphic_function.Function"
_FUNCTIONS = (
    "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function",
    "tensorflow.python.eager.def_function.Function",
)
_CONCRETE = ("ConcreteFunction", "WrappedFunction")
_PLAIN = ("builtins.dict", "builtins.list", "builtins.tuple")
_LOADED = "tensorflow.python.saved_model."
_OF_GRAPHS = ("framework.ops.Operation", "framework.ops.SymbolicTensor")


def _is_interactive(e: Evidence) -> bool:
    is_stacked = e.has("tf.session_stack", "tf.graph_stack") or any(
        path.store in _STACKS for path in e.paths
    )
    is_beside = any(name.endswith(_INTERACTIVE) for name in e.beside)
    is_counted = e.has("tf.sessions") and "InteractiveSession" in e.kinds
    return e.holds(_INTERACTIVE) or (is_stacked and is_beside) or is_counted


def _is_skipped(e: Evidence) -> bool:
    return e.has("tf.sessions") and bool(e.around & {"closes", "exits"})


def _is_of_new_graph(e: Evidence) -> bool:
    is_of_old = not e.failing.isdisjoint(("tf.default_graph.ops", "tf.graphs.ops"))
    return e.held.endswith(_OF_GRAPHS) and not (is_of_old or e.is_native)


def _is_put_away(e: Evidence) -> bool:
    """Return whether something other than the tf.function keeps its traces."""
    is_cache = e.is_native or e.goes_through(FUNCTION_CACHE)
    return e.held.endswith("ConcreteFunction") and not is_cache


def _is_concrete_function(e: Evidence) -> bool:
    """Return whether concrete functions themselves are kept, not what has them."""
    is_among = e.held in _PLAIN and e.holds(*_CONCRETE)
    return e.has("tf.functions") and (e.held.endswith(_CONCRETE) or is_among)


CAUSES = (
    Cause(
        slug="interactive-session-left",
        priority=Priority.SESSIONS,
        explains="An InteractiveSession puts itself on the stack of default sessions, "
        "and its graph on the stack of default graphs. Without close() both stay "
        "there, and code that runs later adds to that graph.",
        remedy="{end_session}; or call `{session}.close()` in a `finally`.",
        rule=_is_interactive,
    ),
    Cause(
        slug="session-scope-never-left",
        priority=Priority.SESSIONS,
        explains="A session was made the default, and this was never undone. The stack "
        "of default sessions keeps it.",
        remedy="Use a with statement: `with session.as_default(): ...`.",
        rule=lambda e: e.has("tf.session_stack"),
    ),
    Cause(
        slug="graph-scope-never-left",
        priority=Priority.SESSIONS,
        explains="A graph was made the default, and this was never undone. The stack "
        "of default graphs keeps it, and later operations are added to it.",
        remedy="Use a with statement: `with graph.as_default(): ...`.",
        rule=lambda e: e.has("tf.graph_stack"),
    ),
    Cause(
        slug="session-close-skipped",
        priority=Priority.SESSIONS,
        explains="The code closes this session, but does not get there: because of an "
        "error, an early return, or an __exit__ that fails before it. The session "
        "stays open with its graph and its variables.",
        remedy="Close it in a `finally`: `try: ... finally: {session}.close()`; take "
        "it out of {holder} there, too: {remove}; in an `__exit__`, close it first, "
        "and do not return True: that hides the error.",
        rule=_is_skipped,
    ),
    Cause(
        slug="session-never-closed",
        priority=Priority.SESSIONS,
        explains="Each call opens a session that is never closed. It keeps its graph, "
        "its variables and its threads.",
        remedy="{end_session}; {not_kept}; or open one session outside the loop and "
        "close it at the end.",
        rule=lambda e: e.has("tf.sessions"),
    ),
    Cause(
        slug="closed-session-kept",
        priority=Priority.SESSIONS,
        explains="The session is closed, but something still refers to it. TensorFlow "
        "frees its memory only when the Python object is freed.",
        remedy="Take it out when it is closed: {remove}; keep the results, not the "
        "session, in {holder}.",
        rule=lambda e: e.has("tf.sessions.closed"),
    ),
    Cause(
        slug="default-graph-grows",
        priority=Priority.SESSIONS,
        explains="Each call adds operations to the default graph. A graph never drops "
        "an operation.",
        remedy="Build the graph once, before the loop, and only run it in the loop. "
        "After `graph.finalize()`, the line that adds to it raises.",
        rule=lambda e: (
            e.has("tf.default_graph.ops")
            or (e.held.endswith(_OF_GRAPHS) and "tf.default_graph.ops" in e.failing)
        ),
    ),
    Cause(
        slug="graph-grows",
        priority=Priority.SESSIONS,
        explains="Each call adds operations to a graph that existed before. A graph "
        "never drops an operation.",
        remedy="Make it once: {built_once}; build the graph once, before the loop: "
        "feed values by a placeholder, and make gradients, savers and assign "
        "operations only once. After `graph.finalize()`, the line that adds to it "
        "raises.",
        rule=lambda e: (
            "tf.graphs" not in e.failing
            and (e.has("tf.graphs.ops") or e.held.endswith(_OF_GRAPHS))
            and "tf.graphs.ops" in e.failing
        ),
    ),
    Cause(
        slug="retrace-python-value",
        priority=Priority.SESSIONS,
        explains="A tf.function is retraced for each value of a Python argument. "
        "Each trace is a graph that the function keeps.",
        remedy="Pass `{argument}` as a tensor: {as_tensor}; or declare the arguments: "
        "{declared}.",
        rule=lambda e: e.retrace == "python_scalar",
    ),
    Cause(
        slug="retrace-shape",
        priority=Priority.SESSIONS,
        explains="A tf.function is retraced for each new shape or dtype. Each trace is "
        "a graph that the function keeps.",
        remedy="Leave open what changes: {open_shape}.",
        rule=lambda e: e.retrace in ("shape", "dtype") and not _is_put_away(e),
    ),
    Cause(
        slug="retrace-new-object",
        priority=Priority.SESSIONS,
        explains="A tf.function is retraced for each new object that it is called "
        "with: a lambda, a bound method, an instance. Each trace is a graph that the "
        "function keeps.",
        remedy="Make it once and pass the same one: {pass_once}; pass what changes as "
        "a tensor.",
        rule=lambda e: e.retrace == "object",
    ),
    Cause(
        slug="retrace-structure",
        priority=Priority.SESSIONS,
        explains="A tf.function is retraced because its arguments have a new "
        "structure: a list of another length, other keys. Each trace is a graph that "
        "the function keeps.",
        remedy="Pass one array instead of a list, of any length: {stacked} under "
        "`@tf.function(reduce_retracing=True)`; give a dict the same keys in each "
        "call, and a list the same length.",
        rule=lambda e: e.retrace == "structure",
    ),
    Cause(
        slug="retrace-context",
        priority=Priority.SESSIONS,
        explains="A tf.function is retraced because each call happens inside something "
        "new, such as a new tf.Graph. Each trace is a graph that the function keeps.",
        remedy="Call it in eager mode, outside of `with graph.as_default()`, or always "
        "in the same graph, device scope and strategy.",
        rule=lambda e: e.retrace == "context",
    ),
    Cause(
        slug="saved-model-kept",
        priority=Priority.FUNCTIONS,
        explains="Each call loads a SavedModel, and something keeps it. Each copy has "
        "variables and functions of its own.",
        remedy="Load it once, before the loop, and share it: {loaded_once}; before you "
        "reload it, remove the old one from {holder}.",
        rule=lambda e: any(name.startswith(_LOADED) for name in e.types),
    ),
    Cause(
        slug="graph-kept",
        priority=Priority.FUNCTIONS,
        explains="Each call makes a graph, and something keeps it. One tensor or "
        "operation of a graph is enough to keep all of it.",
        remedy="Keep results as NumPy arrays or numbers, not as tensors of the graph; "
        "remove those from {holder}, or build the graph once.",
        rule=lambda e: e.has("tf.graphs") or _is_of_new_graph(e),
    ),
    Cause(
        slug="function-made-in-loop",
        priority=Priority.FUNCTIONS,
        explains="Each call makes a new tf.function and traces it. Something keeps the "
        "old ones with their graphs.",
        remedy="Make it once, before the loop, and not in each call: {function_once}; "
        "or decorate the function at module level.",
        rule=lambda e: (
            (e.is_made_in_loop and e.has("tf.traces", "tf.functions"))
            or e.held.endswith(_FUNCTION)
            or (e.is_in_library and e.adds(*_FUNCTIONS))
        ),
    ),
    Cause(
        slug="concrete-function-kept",
        priority=Priority.CONCRETE_FUNCTIONS,
        explains="Each call makes a concrete function, and something keeps it. Each "
        "has a graph of its own.",
        remedy="Make it once, before the loop, and use it again: {concrete_once}, with "
        "None for each dimension that changes; remove the old ones from {holder}.",
        rule=_is_concrete_function,
    ),
)
