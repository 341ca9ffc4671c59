"""Take one cause of growth in TensorFlow away while an experiment runs.

Each intervention works on the TensorFlow in ``sys.modules`` and restores what it
changed. The body must behave as before: functions that it keeps still run and have
gradients; only what TensorFlow alone holds may go.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any
from typing import NamedTuple

from pytest_tfleak.diagnosis.experiments.datasets import QuietIterators
from pytest_tfleak.diagnosis.experiments.full_type_caches import FullTypeCaches
from pytest_tfleak.diagnosis.experiments.graphs import LooseDatasetFunctions
from pytest_tfleak.diagnosis.experiments.graphs import LooseFunctions
from pytest_tfleak.diagnosis.experiments.graphs import LooseWrappers
from pytest_tfleak.diagnosis.experiments.graphs import keep_in
from pytest_tfleak.diagnosis.experiments.graphs import owning_graph
from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.keras_names import RepeatedNames
from pytest_tfleak.diagnosis.experiments.kernels import KeptKernels
from pytest_tfleak.diagnosis.experiments.one_traceback import OneTraceback
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import clear_keras_session
from pytest_tfleak.tf.access import clear_kernel_cache
from pytest_tfleak.tf.access import initialised_context
from pytest_tfleak.tf.access import is_imported

#: The attribute in which a graph keeps its gradients while an experiment runs.
_OURS = "_tfleak_gradients"


class WeakGradients(Intervention):
    """Let each graph hold the gradients that were registered for it.

    The registry holds them forever, and they hold the graph. Here it gets a weak
    reference: its gradients are found as long as the graph is alive. A saved model that
    is loaded registers gradients, too, which belong to all graphs loaded with them.
    """

    name = "weak-gradients"
    words = "with TensorFlow's custom-gradient registry emptied"

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self._registered: list[_Owned] = []
        self._loading: list[list[str]] = []  # names, for each load in progress
        self._graphs: list[weakref.ref[Any]] = []  # those with the plugin's attribute

    def _begin(self) -> None:
        module = names.NAME_GRADIENT.owner()
        self._patch(module, names.NAME_GRADIENT.attribute, self._noting)
        if names.LOAD_FUNCTIONS.find() is not None:
            module = names.LOAD_FUNCTIONS.owner()
            self._patch(module, names.LOAD_FUNCTIONS.attribute, self._noting_load)

    def _noting(self, original: Callable[[], str]) -> Callable[[], str]:
        def generate_name() -> str:
            name: str = original()
            self.seen += 1
            if self._loading:
                self._loading[-1].append(name)
            elif self.acts:
                with self._guarded():
                    self._note([name], [owning_graph()])
            return name

        return generate_name

    def _noting_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_functions(*arguments: Any, **options: Any) -> Any:
            self._loading.append([])
            try:
                functions = original(*arguments, **options)
            finally:
                made = self._loading.pop()
            if self.acts and made:
                with self._guarded():
                    graphs = [function.graph for function in functions.values()]
                    self._note(made, [owning_graph(), *graphs])
            return functions

        return load_functions

    def _note(self, made: list[str], graphs: list[Any]) -> None:
        owners = [weakref.ref(graph) for graph in graphs if graph is not None]
        if owners:
            self._registered.append(_Owned(made, owners))

    def _end(self) -> None:
        self._registered.clear()
        registry = _gradient_registry()
        for name, entry in list(registry.items()):
            held = entry["type"]
            if type(held) is _Weakly:
                gradient = held.reference()
                if gradient is None:
                    registry.pop(name, None)
                else:
                    registry[name] = {**entry, "type": gradient}
        for reference in self._graphs:
            graph = reference()
            if graph is not None and hasattr(graph, _OURS):
                delattr(graph, _OURS)
        self._graphs.clear()

    def _after(self) -> None:
        """Hand the registered gradients to their graphs."""
        for owned in self._registered:
            self._hand_over(owned)
        self._registered.clear()

    def _hand_over(self, owned: _Owned) -> None:
        registry = _gradient_registry()
        entries = {n: registry[n] for n in owned.names if n in registry}
        owners = (owner() for owner in owned.owners)
        graphs = [graph for graph in owners if graph is not None]
        if not graphs:  # nothing is left that could look them up
            for name in entries:
                del registry[name]
            return
        strong = {n: e for n, e in entries.items() if type(e["type"]) is not _Weakly}
        gradients = tuple(entry["type"] for entry in strong.values())
        for graph in graphs:
            if not hasattr(graph, _OURS):
                self._graphs.append(weakref.ref(graph, self._graphs.remove))
            keep_in(graph, _OURS, gradients)
        for name, entry in strong.items():
            weak = _Weakly(entry["type"], partial(_forget, name))
            registry[name] = {**entry, "type": weak}


class _Owned(NamedTuple):
    """Names of gradients, and the graphs whose operations look them up."""

    names: list[str]
    owners: list[weakref.ref[Any]]


class _Weakly:
    """A gradient function, without keeping it alive."""

    __slots__ = ("reference",)

    def __init__(self, gradient: Any, forget: Callable[[object], None]) -> None:
        self.reference = weakref.ref(gradient, forget)

    def __call__(self, *arguments: Any) -> Any:
        gradient = self.reference()
        if gradient is None:
            raise LookupError("the graph of this gradient is gone")
        return gradient(*arguments)


class AnonymousTables(Intervention):
    """Make lookup tables that go when their object goes."""

    name = "anonymous-tables"
    words = "with lookup tables that go with their object"
    of_keras = False

    def _begin(self) -> None:
        tables = (names.STATIC_TABLE, names.MUTABLE_TABLE, names.DENSE_TABLE)
        for table in tables:
            self._patch(table.get(), names.CREATE_TABLE, self._anonymous)

    def _anonymous(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def create_resource(table: Any) -> Any:
            with self._guarded():
                self._change(table)
            return original(table)

        return create_resource

    def _change(self, table: Any) -> None:
        # in a graph, an anonymous table would be created again in each run
        if not names.EXECUTING_EAGERLY.get()() or names.IS_ANONYMOUS.of(table):
            return
        if _is_called_by_keras() is self.of_keras:
            self.seen += 1
            if self.acts:
                setattr(table, names.IS_ANONYMOUS, True)


class AnonymousKerasTables(AnonymousTables):
    """Make the lookup tables of Keras layers go when the layer goes."""

    name = "anonymous-keras-tables"
    words = "with lookup tables of Keras layers that go with the layer"
    of_keras = True


class NoXla(Intervention):
    """Trace new functions without ``jit_compile``."""

    name = "no-xla"
    words = "without jit_compile"

    def _begin(self) -> None:
        self._patch(names.FUNCTION.get(), names.INITIALISE_FUNCTION, self._plain)

    def _plain(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def initialize(function: Any, *arguments: Any, **options: Any) -> Any:
            asked = getattr(function, names.JIT_COMPILE, None)
            if asked:
                self.seen += 1
            if not self.acts or not asked:
                return original(function, *arguments, **options)
            setattr(function, names.JIT_COMPILE, None)
            try:
                return original(function, *arguments, **options)
            finally:
                setattr(function, names.JIT_COMPILE, asked)

        return initialize


class NoScalarCache(Intervention):
    """Empty TensorFlow's cache of tensors of Python scalars."""

    name = "no-scalar-cache"
    words = "with TensorFlow's cache of scalars emptied"

    def _after(self) -> None:
        context = initialised_context()
        if context is not None:
            clear = names.CLEAR_SCALARS.of(context)
            self.seen += 1
            if self.acts:
                clear()


class NoKernelCache(Intervention):
    """Empty TensorFlow's cache of eager kernels."""

    name = "no-kernel-cache"
    words = "with TensorFlow's cache of eager kernels emptied"

    def _after(self) -> None:
        if not self.acts or clear_kernel_cache():
            self.seen += 1


class ClearedSession(Intervention):
    """Clear the Keras session."""

    name = "clear-session"
    words = "with the Keras session cleared after each iteration"

    def _after(self) -> None:
        if is_keras_imported():
            if not self.acts or clear_keras_session() is None:
                self.seen += 1


class EagerFunctions(Intervention):
    """Run each tf.function as plain Python: nothing is traced."""

    name = "eager-functions"
    words = "with tf.config.run_functions_eagerly(True)"

    def _begin(self) -> None:
        was, run_eagerly = names.RUN_EAGERLY.get(), names.SET_RUN_EAGERLY.get()
        if self.acts and not was:
            self._patches.call_back(partial(run_eagerly, was))
            run_eagerly(True)
            self.seen = 1


INTERVENTIONS: dict[str, type[Intervention]] = {
    intervention.name: intervention
    for intervention in (
        WeakGradients,
        AnonymousKerasTables,
        NoXla,
        RepeatedNames,
        KeptKernels,
        NoScalarCache,
        QuietIterators,
        FullTypeCaches,
        OneTraceback,
        LooseDatasetFunctions,
        LooseWrappers,
        LooseFunctions,
        AnonymousTables,
        NoKernelCache,
        ClearedSession,
    )
}


def is_keras_imported() -> bool:
    """Return whether there is a Keras session that could be cleared."""
    return is_imported("keras", "tf_keras")


def _gradient_registry() -> dict[str, Any]:
    registry: dict[str, Any] = names.REGISTERED.of(names.GRADIENTS.get())
    return registry


def _forget(name: str, _: object) -> None:
    registry = _gradient_registry()
    entry = registry.get(name)
    if entry is not None and type(entry["type"]) is _Weakly:
        del registry[name]


def _is_called_by_keras() -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not str(module).startswith(("tensorflow.", "pytest_tfleak.")):
            return str(module).startswith(("keras.", "tf_keras."))
        frame = frame.f_back
    return False
