"""Take one cause of growth away, for as long as an experiment runs.

Each works on TensorFlow as ``sys.modules`` has it and puts back what it changed. The
body must behave as before: functions that it keeps still run and have gradients, only
what nobody but TensorFlow holds may go.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from pytest_tfleak.diagnosis.keras_names import RepeatedNames
from pytest_tfleak.diagnosis.neutraliser import Neutraliser
from pytest_tfleak.diagnosis.neutraliser import module_of_tensorflow
from pytest_tfleak.diagnosis.quiet_iterators import QuietIterators
from pytest_tfleak.observed import clear_keras_session
from pytest_tfleak.observed import global_default_graph
from pytest_tfleak.observed import initialised_context


class WeakGradients(Neutraliser):
    """Have each graph hold the gradients that were registered for it.

    The registry holds them for ever, and they hold the graph. Here it gets a weak
    reference: as long as the graph is alive its gradients are found.
    """

    name = "weak-gradients"
    words = "with TensorFlow's custom-gradient registry emptied"

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self._made: list[tuple[str, weakref.ref[Any]]] = []

    def __enter__(self) -> Neutraliser:
        module = module_of_tensorflow("ops.custom_gradient")
        original = module.generate_name

        def generate_name() -> str:
            name: str = original()
            self.seen += 1
            graph = _owning_graph()
            if self.acts and graph is not None:
                self._made.append((name, weakref.ref(graph)))
            return name

        self._replace(module, "generate_name", generate_name)
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._made.clear()
        registry = _gradient_registry()
        for name, entry in list(registry.items()):
            held = entry["type"]
            if type(held) is _Weakly:
                gradient = held.reference()
                if gradient is None:
                    registry.pop(name, None)
                else:
                    registry[name] = {**entry, "type": gradient}

    def after(self) -> None:
        """Hand the gradients that were registered to their graphs."""
        registry = _gradient_registry()
        for name, reference in self._made:
            entry, graph = registry.get(name), reference()
            if entry is None or type(entry["type"]) is _Weakly:
                continue
            if graph is None:
                del registry[name]  # nothing is left that could ask for it
                continue
            gradient = entry["type"]
            _keep(graph, "_tfleak_gradients", gradient)
            registry[name] = {
                **entry,
                "type": _Weakly(gradient, partial(_forget, name)),
            }
            del entry, graph, gradient
        self._made.clear()


class _Weakly:
    """A gradient function that somebody else holds."""

    __slots__ = ("reference",)

    def __init__(self, gradient: Any, forget: Callable[[object], None]) -> None:
        self.reference = weakref.ref(gradient, forget)

    def __call__(self, *arguments: Any) -> Any:
        gradient = self.reference()
        if gradient is None:
            raise LookupError("the graph of this gradient is gone")
        return gradient(*arguments)


class LooseFunctions(Neutraliser):
    """Have the graph that calls a Python function hold it, not the default graph."""

    name = "loose-py-functions"
    words = "with the default graph holding no Python functions"

    def __enter__(self) -> Neutraliser:
        module = module_of_tensorflow("ops.script_ops")
        original = module._internal_py_func

        def internal_py_func(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            result = original(*arguments, **options)
            if self.acts:
                _hand_over_function()
            return result

        self._replace(module, "_internal_py_func", internal_py_func)
        return self


class AnonymousTables(Neutraliser):
    """Make lookup tables that go when their object goes."""

    name = "anonymous-tables"
    words = "with lookup tables that go with their object"
    of_keras = False

    def __enter__(self) -> Neutraliser:
        module = module_of_tensorflow("ops.lookup_ops")
        for name in ("StaticHashTable", "MutableHashTable", "DenseHashTable"):
            table_type = getattr(module, name)
            original = table_type.__dict__["_create_resource"]
            self._replace(table_type, "_create_resource", self._instead_of(original))
        return self

    def _instead_of(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def create_resource(table: Any) -> Any:
            # in a graph an anonymous table would be made anew in each run
            is_eager = module_of_tensorflow("eager.context").executing_eagerly()
            if is_eager and not table._is_anonymous:
                if _is_called_by_keras() is self.of_keras:
                    self.seen += 1
                    if self.acts:
                        table._is_anonymous = True
            return original(table)

        return create_resource


class AnonymousKerasTables(AnonymousTables):
    """Make the lookup tables of Keras layers go when the layer goes."""

    name = "anonymous-keras-tables"
    words = "with lookup tables of Keras layers that go with the layer"
    of_keras = True


class NoXla(Neutraliser):
    """Trace functions that were never called before without ``jit_compile``."""

    name = "no-xla"
    words = "without jit_compile"

    def __enter__(self) -> Neutraliser:
        module = module_of_tensorflow("eager.polymorphic_function.polymorphic_function")
        original = module.Function._initialize

        def initialize(function: Any, *arguments: Any, **options: Any) -> Any:
            asked = function._jit_compile
            if asked:
                self.seen += 1
            if not self.acts or not asked:
                return original(function, *arguments, **options)
            function._jit_compile = None
            try:
                return original(function, *arguments, **options)
            finally:
                function._jit_compile = asked

        self._replace(module.Function, "_initialize", initialize)
        return self


class NoScalarCache(Neutraliser):
    """Empty TensorFlow's cache of the tensors of Python scalars."""

    name = "no-scalar-cache"
    words = "with TensorFlow's cache of scalars emptied"

    def after(self) -> None:
        """Empty the cache."""
        context = initialised_context()
        if context is not None:
            self.seen += 1
            if self.acts:
                context._clear_caches()


class NoKernelCache(Neutraliser):
    """Empty TensorFlow's cache of eager kernels."""

    name = "no-kernel-cache"
    words = "with TensorFlow's cache of eager kernels emptied"

    def after(self) -> None:
        """Empty the cache."""
        context = initialised_context()
        if context is not None:
            self.seen += 1
            if self.acts:
                context.clear_kernel_cache()


class ClearedSession(Neutraliser):
    """Clear the Keras session."""

    name = "clear-session"
    words = "with keras.utils.clear_session() after each iteration"

    def after(self) -> None:
        """Clear the session."""
        if is_keras_imported():
            if not self.acts or clear_keras_session() is None:
                self.seen += 1


class EagerFunctions(Neutraliser):
    """Run each tf.function as plain Python: nothing is traced."""

    name = "eager-functions"
    words = "with tf.config.run_functions_eagerly(True)"

    def __enter__(self) -> Neutraliser:
        switch = module_of_tensorflow("eager.polymorphic_function.eager_function_run")
        was = switch.functions_run_eagerly()
        if self.acts and not was:
            switch.run_functions_eagerly(True)
            self._undo.append(partial(switch.run_functions_eagerly, was))
            self.seen = 1
        return self


NEUTRALISERS: dict[str, type[Neutraliser]] = {
    neutraliser.name: neutraliser
    for neutraliser in (
        WeakGradients,
        AnonymousKerasTables,
        NoXla,
        RepeatedNames,
        NoScalarCache,
        QuietIterators,
        LooseFunctions,
        AnonymousTables,
        NoKernelCache,
        ClearedSession,
    )
}


def is_keras_imported() -> bool:
    """Say whether there is a Keras session that could be cleared."""
    return "keras" in sys.modules or "tf_keras" in sys.modules


def _gradient_registry() -> dict[str, Any]:
    registry: dict[str, Any] = module_of_tensorflow(
        "framework.ops"
    ).gradient_registry._registry
    return registry


def _owning_graph() -> Any:
    """Return the outermost graph that may go: not the process's default graph."""
    graph, owner = module_of_tensorflow("framework.ops").get_default_graph(), None
    default = global_default_graph()
    while graph is not None and graph is not default:
        owner = graph
        graph = getattr(graph, "outer_graph", None)
    return owner


def _forget(name: str, _: object) -> None:
    registry = _gradient_registry()
    entry = registry.get(name)
    if entry is not None and type(entry["type"]) is _Weakly:
        del registry[name]


def _hand_over_function() -> None:
    """Move the function that was added last to the graph that calls it."""
    ops, default = module_of_tensorflow("framework.ops"), global_default_graph()
    functions = getattr(default, "_py_funcs_used_in_graph", None)
    if not functions:
        return
    owner = _owning_graph()
    if owner is not None:
        _keep(owner, "_py_funcs_used_in_graph", functions.pop())
    elif ops.executing_eagerly_outside_functions():
        functions.pop()  # it has run


def _keep(graph: Any, name: str, function: Any) -> None:
    # not vars(): a graph is an object of C++ without a __dict__
    if not hasattr(graph, name):
        setattr(graph, name, [])
    getattr(graph, name).append(function)


def _is_called_by_keras() -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not str(module).startswith(("tensorflow.", "pytest_tfleak.")):
            return str(module).startswith(("keras.", "tf_keras."))
        frame = frame.f_back
    return False
