"""TensorFlow and Keras as this process has them: looked up, never imported or started.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

NOT_YET = "until the tests import TensorFlow"
_KERAS_STATE = "keras.src.backend.common.global_state"
#: The global state that grows. The rest (scopes, seed, dtype policy) belongs to whoever
#: set it, a fixture perhaps.
_RELEASED = {"object_name_uids", "uninitialized_variables"}


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
    for clear in _clears():
        clear()


def _clears() -> list[Callable[[], None]]:
    names = (_KERAS_STATE, "tf_keras.src.backend")
    modules: list[Any] = [sys.modules.get(name) for name in names]
    return [m.clear_session for m in modules if hasattr(m, "clear_session")]
