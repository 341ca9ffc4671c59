"""TensorFlow and Keras as this process has them: looked up, never imported or started.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

NOT_YET = "until the tests import TensorFlow"
_KERAS_STATE = "keras.src.backend.common.global_state"
#: The global state that grows. The rest (scopes, seed, dtype policy) belongs to whoever
#: set it, a fixture perhaps.
_RELEASED = {"object_name_uids", "uninitialized_variables"}
#: Graphs that were a thread's default one, by id: TensorFlow made them, not the test.
_DEFAULTS: dict[int, weakref.ref[Any]] = {}


def initialised_context() -> Any:
    """Return TensorFlow's eager context, None unless its devices are initialised."""
    module: Any = sys.modules.get("tensorflow.python.eager.context")
    context = module.context_safe() if hasattr(module, "context_safe") else None
    if context is None or not getattr(context, "_initialized", False):
        return None
    return context


def global_default_graph() -> Any:
    """Return the process's default graph, None while there is none."""
    module = sys.modules.get("tensorflow.python.framework.ops")
    stack = getattr(module, "_default_graph_stack", None)
    return getattr(stack, "_global_default_graph", None)


def default_graphs() -> list[Any]:
    """Return the default graph of each thread that has one: TensorFlow makes them."""
    module = sys.modules.get("tensorflow.python.framework.ops")
    stack = getattr(module, "_default_graph_stack", None)
    names = dicts_of_threads(stack) if isinstance(stack, threading.local) else []
    graphs = [found.get("_global_default_graph") for found in names]
    return [graph for graph in graphs if graph is not None]


def note_default_graphs() -> None:
    """Remember what is a default graph now: it may be replaced, and is no leak then."""
    for graph in default_graphs():
        if not was_default(graph):
            _DEFAULTS[id(graph)] = weakref.ref(graph, _forget)


def was_default(graph: object) -> bool:
    """Say whether a graph was a default one when that was noted."""
    noted = _DEFAULTS.get(id(graph))
    return noted is not None and noted() is graph


def dicts_of_threads(local: threading.local) -> list[dict[str, Any]]:
    """Return what each thread keeps in a local; to ask for it may run __init__()."""
    held = [o for o in gc.get_referents(local) if type(o) is dict]
    values = (value for by_thread in held for value in dict.values(by_thread))
    return [value for value in list(values) if type(value) is dict]


def clear_keras_session() -> str | None:
    """Release what ``keras.utils.clear_session()`` does; say why where that cannot be.

    It also resets TensorFlow's default graph. Where a graph is open as default, or the
    default graph holds operations that code may still refer to, nothing is cleared.
    """
    if not _clears():
        return None
    ops = sys.modules.get("tensorflow.python.framework.ops")
    stack = getattr(ops, "_default_graph_stack", None)
    if stack is not None and stack.stack:
        return "a graph is open as default"
    graph = global_default_graph()
    if getattr(graph, "_distribution_strategy_stack", None):
        return "a distribution strategy's scope is open"  # it lives on this graph
    if graph is not None and graph.num_operations():
        return f"the default graph holds {graph.num_operations()} operations"
    state: Any = sys.modules.get(_KERAS_STATE)
    scopes = dict(vars(getattr(state, "GLOBAL_STATE_TRACKER", object)))
    settings = getattr(state, "GLOBAL_SETTINGS_TRACKER", None)
    try:
        call_clear_session()
    except Exception as error:  # a Keras in a state of the test's making
        return f"{type(error).__name__}: {error}"
    finally:
        if settings is not None:
            state.GLOBAL_SETTINGS_TRACKER = settings
            for name in scopes.keys() - _RELEASED:
                setattr(state.GLOBAL_STATE_TRACKER, name, scopes[name])
    return None


def call_clear_session() -> None:
    """Call ``clear_session()`` of each imported Keras. Raises what they raise."""
    note_default_graphs()
    for clear in _clears():
        clear()


def _forget(reference: weakref.ref[Any]) -> None:
    for key, noted in list(_DEFAULTS.items()):
        if noted is reference:
            del _DEFAULTS[key]


def _clears() -> list[Callable[[], None]]:
    names = (_KERAS_STATE, "tf_keras.src.backend")
    modules: list[Any] = [sys.modules.get(name) for name in names]
    return [m.clear_session for m in modules if hasattr(m, "clear_session")]
