"""Causes around sessions, graphs and traced functions.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import FUNCTION_CACHE
from pytest_tfleak.diagnosis.evidence import Evidence

_INTERACTIVE = "session.InteractiveSession"
_FUNCTION = "polymorphic_function.Function"
_LOADED = "tensorflow.python.saved_model."
_OF_GRAPHS = ("framework.ops.Operation", "framework.ops.SymbolicTensor")


def _is_interactive(e: Evidence) -> bool:
    stacked = e.has("tf.session_stack", "tf.graph_stack") or "stack" in e.clues
    beside = any(name.endswith(_INTERACTIVE) for name in e.beside)
    return e.holds(_INTERACTIVE) or bool(
        (stacked and beside)
        or (e.has("tf.sessions") and re.search(r"\bInteractiveSession\b", e.what))
    )


def _is_skipped(e: Evidence) -> bool:
    return e.has("tf.sessions") and bool(e.around & {"closes", "exits"})


def _is_of_new_graph(e: Evidence) -> bool:
    is_of_old = not e.failing.isdisjoint(("tf.default_graph.ops", "tf.graphs.ops"))
    return e.held.endswith(_OF_GRAPHS) and not (is_of_old or e.is_native)


def _is_put_away(e: Evidence) -> bool:
    """Say whether somebody else than the tf.function keeps its concrete functions."""
    is_cache = e.is_native or FUNCTION_CACHE in e.clues
    return e.held.endswith("ConcreteFunction") and not is_cache


CAUSES = (
    Cause(
        slug="interactive-session-left",
        explains="An InteractiveSession puts itself on the stack of default sessions, "
        "and its graph on that of default graphs. Without close() both stay there, "
        "and code that runs later ends up in that graph.",
        remedy="Use `with tf.compat.v1.Session(graph=graph) as session: ...`; or call "
        "`session.close()` in a `finally`.",
        rule=_is_interactive,
    ),
    Cause(
        slug="session-scope-never-left",
        explains="A session was made the default one, and that was never undone. The "
        "stack of default sessions keeps it.",
        remedy="Use a with statement: `with session.as_default(): ...`.",
        rule=lambda e: e.has("tf.session_stack"),
    ),
    Cause(
        slug="graph-scope-never-left",
        explains="A graph was made the default one, and that was never undone. The "
        "stack of default graphs keeps it, and operations made later go into it.",
        remedy="Use a with statement: `with graph.as_default(): ...`.",
        rule=lambda e: e.has("tf.graph_stack"),
    ),
    Cause(
        slug="session-close-skipped",
        explains="The code has a close() for this session, and did not get there: an "
        "error, an early return, or an __exit__ that fails before it. The session "
        "stays open with its graph and its variables.",
        remedy="Close in a `finally`: `try: ... finally: session.close()`. In an "
        "`__exit__` close first, and do not return True: that hides the error.",
        rule=_is_skipped,
    ),
    Cause(
        slug="session-never-closed",
        explains="Each call opens a session that nobody closes. It keeps its graph, "
        "its variables and its threads.",
        remedy="Use a with statement: `with tf.compat.v1.Session() as session: "
        "session.run(y)`; or open one session outside the loop and close it at the "
        "end.",
        rule=lambda e: e.has("tf.sessions"),
    ),
    Cause(
        slug="closed-session-kept",
        explains="The session is closed, and something still refers to it. Only when "
        "the Python object goes does TensorFlow free what it has.",
        remedy="Keep the results, not the session: take it out of {holder}; an "
        "attribute lets go of it by `self.session = None` after `close()`.",
        rule=lambda e: e.has("tf.sessions.closed"),
    ),
    Cause(
        slug="default-graph-grows",
        explains="Each call adds operations to the default graph. A graph never lets "
        "go of an operation.",
        remedy="Build the graph once, before the loop, and only run it in the loop: "
        "`session.run(y, {x: value})`. `graph.finalize()` shows the line that adds to "
        "it.",
        rule=lambda e: (
            e.has("tf.default_graph.ops")
            or (e.held.endswith(_OF_GRAPHS) and "tf.default_graph.ops" in e.failing)
        ),
    ),
    Cause(
        slug="graph-grows",
        explains="Each call adds operations to a graph that was there before. A graph "
        "never lets go of an operation.",
        remedy="Build the graph once, before the loop: feed values by a placeholder, "
        "`session.run(assign, {x: value})`, and make gradients, savers and assign "
        "operations only once. `graph.finalize()` shows the line that adds to it.",
        rule=lambda e: (
            "tf.graphs" not in e.failing
            and (e.has("tf.graphs.ops") or e.held.endswith(_OF_GRAPHS))
            and "tf.graphs.ops" in e.failing
        ),
    ),
    Cause(
        slug="retrace-python-value",
        explains="A tf.function is traced anew for each value of a Python argument. "
        "Each trace is a graph that the function keeps.",
        remedy="Pass a tensor: `step(x, tf.constant(value))`; or declare all "
        "arguments: `@tf.function(input_signature=[...])`, with `tf.TensorSpec([], "
        "tf.float32)` for this one.",
        rule=lambda e: e.retrace == "python_scalar",
    ),
    Cause(
        slug="retrace-shape",
        explains="A tf.function is traced anew for each new shape or dtype. Each trace "
        "is a graph that the function keeps.",
        remedy="Leave the dimension open: `@tf.function(input_signature=[tf.TensorSpec("
        "[None], tf.float32)])`, or `@tf.function(reduce_retracing=True)`; or pad the "
        "batches.",
        rule=lambda e: e.retrace in ("shape", "dtype") and not _is_put_away(e),
    ),
    Cause(
        slug="retrace-new-object",
        explains="A tf.function is traced anew for each new object that it is called "
        "with: a lambda, a bound method, an instance. Each trace is a graph that the "
        "function keeps.",
        remedy="Make the object once and pass the same one: `loss = model.loss` before "
        "the loop, `step(x, loss)` in it; pass what changes as a tensor.",
        rule=lambda e: e.retrace == "object",
    ),
    Cause(
        slug="retrace-structure",
        explains="A tf.function is traced anew because its arguments come in a new "
        "structure: another length of list, other keys. Each trace is a graph that "
        "the function keeps.",
        remedy="Pass one tensor instead of a list: `step(tf.stack(values))`; give a "
        "dict the same keys in each call.",
        rule=lambda e: e.retrace == "structure",
    ),
    Cause(
        slug="retrace-context",
        explains="A tf.function is traced anew because what is around the call is new "
        "each time, such as a new tf.Graph. Each trace is a graph that the function "
        "keeps.",
        remedy="Call it in eager mode, outside of `with graph.as_default()`, or always "
        "in the same graph, device scope and strategy.",
        rule=lambda e: e.retrace == "context",
    ),
)

#: Those that come after what holds models and data.
OF_FUNCTIONS = (
    Cause(
        slug="saved-model-kept",
        explains="Each call loads a SavedModel, and something keeps it. Each copy has "
        "variables and functions of its own.",
        remedy="Load it once and share it: `model = tf.saved_model.load(path)` outside "
        "the loop; before a reload drop the old one from {holder}.",
        rule=lambda e: any(n.startswith(_LOADED) for n in (e.held, *e.members)),
    ),
    Cause(
        slug="graph-kept",
        explains="Each call makes a graph, and something keeps it. One tensor or "
        "operation of a graph is enough to keep all of it.",
        remedy="Keep results as NumPy arrays or numbers, not tensors of the graph; "
        "take them out of {holder}, or build the graph once.",
        rule=lambda e: e.has("tf.graphs") or _is_of_new_graph(e),
    ),
    Cause(
        slug="function-made-in-loop",
        explains="Each call makes a tf.function anew, and it is traced anew. "
        "Something keeps the old ones with their graphs.",
        remedy="Decorate a function at module level, or make it once and keep that "
        "one: `step = tf.function(step)` before the loop.",
        rule=lambda e: (
            (e.is_made_in_loop and e.has("tf.traces", "tf.functions"))
            or e.held.endswith(_FUNCTION)
        ),
    ),
)

#: What datasets have, too.
OF_CONCRETE_FUNCTIONS = (
    Cause(
        slug="concrete-function-kept",
        explains="Each call makes a concrete function, and something keeps it. Each "
        "has a graph of its own.",
        remedy="Make it once, with open dimensions, and use it again: "
        "`step.get_concrete_function(tf.TensorSpec([None], tf.float32))` before the "
        "loop; drop the old ones from {holder}.",
        rule=lambda e: e.has("tf.functions"),
    ),
)
