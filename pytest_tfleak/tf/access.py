"""Look up TensorFlow and Keras in this process, without importing or starting them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from array import array
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pytest_tfleak.tf import names

NOT_YET = "until the tests import TensorFlow"


@dataclass(frozen=True, slots=True)
class Keras:
    """A Keras that a process may have, and how its user clears the session."""

    library: str  # as names.py calls it
    clear_session: str

    @property
    def package(self) -> str:
        """Return the package that is imported."""
        return self.library.partition(" ")[0]


#: The one that a test most likely uses comes first: several may be imported.
KERASES = (
    Keras("keras", "keras.utils.clear_session()"),
    Keras("tf_keras", "tf_keras.backend.clear_session()"),
    Keras("keras 2", "tf.keras.backend.clear_session()"),
)
#: The global state of Keras that grows. The rest (scopes, seed, dtype policy) is kept,
#: as a fixture may have set it.
_RELEASED = {names.NAME_COUNTS, "uninitialized_variables"}
#: Graphs that were a thread's default, by id: TensorFlow made them, not the test.
_DEFAULTS: dict[int, weakref.ref[Any]] = {}
#: Whether an RPC server or client was alive, and the reference counts of their classes,
#: which change with each new object.
_RPC = array("q", [0, 0, 0])


def is_imported(*packages: str) -> bool:
    """Return whether one of these packages is imported, not just blocked by None."""
    return any(isinstance(sys.modules.get(name), ModuleType) for name in packages)


def kerases() -> tuple[Keras, ...]:
    """Return each Keras that is imported."""
    return tuple(one for one in KERASES if names.version_of(one.library) is not None)


def clear_session_call(used: Sequence[Keras] = ()) -> str:
    """Return what clears the session of each Keras that is used.

    Where that is not known, name the Keras that is most likely used.
    """
    version = names.version_of("tensorflow")
    is_keras_2 = version is not None and version < (2, 16)
    likely = kerases()[:1] or (KERASES[2:] if is_keras_2 else KERASES[:1])
    return "; ".join(dict.fromkeys(keras.clear_session for keras in used or likely))


def initialised_context() -> Any:
    """Return TensorFlow's eager context if its devices are initialised, else None."""
    ask = names.CONTEXT_SAFE.find()
    context = None if ask is None else ask()
    return context if getattr(context, names.INITIALISED, False) else None


def global_default_graph() -> Any:
    """Return the process's default graph, None if there is none yet."""
    return getattr(names.GRAPH_STACK.find(), names.DEFAULT_GRAPH, None)


def default_graphs() -> list[Any]:
    """Return the default graphs of all threads, which TensorFlow itself makes."""
    stack = names.GRAPH_STACK.find()
    held = dicts_of_threads(stack) if isinstance(stack, threading.local) else []
    graphs = [found.get(names.DEFAULT_GRAPH) for found in held]
    return [graph for graph in graphs if graph is not None]


def note_default_graphs() -> list[Any]:
    """Return the current default graphs, which are no leak after being replaced."""
    graphs = default_graphs()
    for graph in graphs:
        if not was_default(graph):
            _DEFAULTS[id(graph)] = weakref.ref(graph, _forget)
    return graphs


def was_default(graph: object) -> bool:
    """Return whether a graph was noted as a default graph."""
    noted = _DEFAULTS.get(id(graph))
    return noted is not None and noted() is graph


def public_nest() -> Any:
    """Return ``tf.nest``. Raises AttributeError if there is none."""
    return sys.modules["tensorflow"].nest


def dicts_of_threads(local: threading.local) -> list[dict[str, Any]]:
    """Return each thread's dict in a ``threading.local``, without running its code."""
    held = [o for o in gc.get_referents(local) if type(o) is dict]
    values = (value for by_thread in held for value in dict.values(by_thread))
    return [value for value in list(values) if type(value) is dict]


def clear_keras_session() -> str | None:
    """Release what ``clear_session()`` releases; return why if that is not possible.

    ``clear_session()`` also resets TensorFlow's default graph. So nothing is cleared if
    a graph is open as default, or if the default graph holds operations that code may
    still refer to.
    """
    if not _clears():
        return None
    why = why_left_alone() or _why_in_use()
    if why is not None:
        return why
    state, settings = names.GLOBAL_STATE.find(), names.GLOBAL_SETTINGS.find()
    scopes = dict(vars(state)) if state is not None else {}
    try:
        call_clear_session()
    except Exception as error:  # the test may have changed Keras
        return f"{type(error).__name__}: {error}"
    finally:
        if settings is not None:
            module = names.GLOBAL_SETTINGS.owner()
            setattr(module, names.GLOBAL_SETTINGS.attribute, settings)
        for name in scopes.keys() - _RELEASED:
            setattr(names.GLOBAL_STATE.find(), name, scopes[name])
    return None


def call_clear_session() -> str | None:
    """Call ``clear_session()`` of each imported Keras. Raises what they raise.

    If the process might not survive that, call none and return the reason.
    """
    why = why_left_alone()
    if why is not None:
        return why
    for clear in _clears():
        note_default_graphs()  # one Keras may replace what another one has made
        clear()
    return None


def clear_kernel_cache() -> bool:
    """Empty TensorFlow's cache of eager kernels; return whether that was possible."""
    context = initialised_context()
    if context is None or why_left_alone() is not None:
        return False
    names.CLEAR_KERNELS.of(context)()
    return True


def why_left_alone() -> str | None:
    """Return why the process might not survive clearing the Keras session, or None.

    ``clear_session()`` imports TensorFlow again if it is not in ``sys.modules``, which
    aborts the process. It also drops kernels that a running RPC server still calls.
    """
    if not _clears():
        return None
    if _is_on_tensorflow() and not _is_whole():
        return "TensorFlow's modules were taken out of sys.modules, or replaced"
    if _is_rpc_alive():
        return "an RPC server or client is alive, and TensorFlow would crash"
    return None


def note_rpc() -> None:
    """Look for RPC servers and clients, and remember if there are any.

    Call it while no objects are frozen, since the collector does not list frozen ones.
    """
    if _has_rpc_changed():
        _RPC[0] = _sees_rpc()


def _is_rpc_alive() -> bool:
    if _has_rpc_changed() and _sees_rpc():
        _RPC[0] = True
    return bool(_RPC[0])


def _has_rpc_changed() -> bool:
    """Return whether there may be new RPC servers or clients since the last look."""
    is_changed = False
    for place, cls in enumerate(_rpc_classes(), 1):
        references = sys.getrefcount(cls)
        is_changed |= references != _RPC[place]
        _RPC[place] = references
    return is_changed


def _sees_rpc() -> bool:
    classes = _rpc_classes()
    of_objects = list(map(type, gc.get_objects()))
    # by id, since hashing a class may run code of its metaclass
    kinds = dict(zip(map(id, of_objects), of_objects, strict=True))
    return any(issubclass(kind, classes) for kind in kinds.values())


def _rpc_classes() -> tuple[type, ...]:
    found = (names.RPC_SERVER.find(), names.RPC_CLIENT.find())
    return tuple(cls for cls in found if isinstance(cls, type))


def _is_on_tensorflow() -> bool:
    return any(ask() == "tensorflow" for ask in names.KERAS_BACKEND.find_all())


def _is_whole() -> bool:
    """Return whether TensorFlow's modules are all in place and refer to each other."""
    tensorflow: Any = sys.modules.get("tensorflow")
    graph = names.GRAPH.find()
    if graph is None or getattr(tensorflow, "Graph", None) is not graph:
        return False
    return is_imported("tensorflow.python") and all(
        held is not None and held is sys.modules.get(module)
        for package, child, module in _MODULES
        for held in (getattr(sys.modules.get(package), "__dict__", {}).get(child),)
    )


def _modules_of(module: str) -> Iterator[tuple[str, str, str]]:
    """Yield the package, name and full name of a module and of its parent packages.

    Used once: names made in each call would stay in Python's cache of attribute names.
    """
    while module.count(".") > 1:
        package, _, child = module.rpartition(".")
        yield package, child, module
        module = package


#: Modules that an intact TensorFlow has, as package, name and full name.
_MODULES = tuple(
    row
    for name in (names.CONTEXT, names.GRAPH)
    for row in _modules_of(name.places[0].module)
)


def _why_in_use() -> str | None:
    """Return what the test still uses and clearing would take away, or None."""
    stack = names.GRAPH_STACK.find()
    if stack is not None and stack.stack:
        return "a graph is open as default"
    graph = global_default_graph()
    if getattr(graph, names.STRATEGIES, None):
        return "a distribution strategy's scope is open"  # kept on this graph
    if graph is not None and graph.num_operations():
        return f"the default graph holds {graph.num_operations()} operations"
    return None


def _forget(reference: weakref.ref[Any]) -> None:
    for key, noted in list(_DEFAULTS.items()):
        if noted is reference:
            del _DEFAULTS[key]


def _clears() -> list[Callable[[], None]]:
    clears: list[Callable[[], None]] = names.CLEAR_SESSION.find_all()
    return clears
