"""Let the graph that uses a function hold it, not the default graph of the process.

TensorFlow's default graph lives until it is reset. It keeps each Python function that
an operation calls, and some functions of datasets, though eager code needs none.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from types import MethodType
from typing import Any

from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import global_default_graph


class LooseFunctions(Intervention):
    """Let the graph that calls a Python function hold it, not the default graph."""

    name = "loose-py-functions"
    words = "with the default graph holding no Python functions"

    def _begin(self) -> None:
        module = names.CALL_PY_FUNCTION.owner()
        self._patch(module, names.CALL_PY_FUNCTION.attribute, self._handing_over)

    def _handing_over(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def internal_py_func(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            with self._loosening():
                return original(*arguments, **options)

        return internal_py_func

    @contextmanager
    def _loosening(self) -> Iterator[None]:
        """Take the functions from the default graph that it is given meanwhile."""
        before = len(_kept_functions())
        yield
        if self.acts:
            with self._guarded():
                if len(_kept_functions()) > before:
                    self._move(_kept_functions())

    def _move(self, functions: list[Any]) -> None:
        """Move the function that was added last to the graph that calls it."""
        owner = owning_graph()
        if owner is not None:
            keep_in(owner, names.USED_FUNCTIONS, functions.pop())
        elif names.OUTSIDE_FUNCTIONS.get()():
            functions.pop()  # it has run


class LooseWrappers(LooseFunctions):
    """Free the wrappers that a function got in earlier calls.

    Each wrapper takes over the attributes of the function, one of which is the previous
    wrapper. So all of them stay as long as the function, in a chain.
    """

    name = "loose-wrappers"
    words = "with each Python function keeping only its last wrapper"

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self._wrapped: dict[int, weakref.ref[Any]] = {}  # in this iteration
        self._earlier: dict[int, weakref.ref[Any]] = {}
        self._running: list[Any] = []  # what operations of this iteration may call

    def _handing_over(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def internal_py_func(*arguments: Any, **options: Any) -> Any:
            is_again = False
            with self._guarded():
                function = arguments[0] if arguments else options["func"]
                is_again = self._is_again(function)
                if self.acts:
                    self._unchain(function)
            if not is_again:
                return original(*arguments, **options)
            self.seen += 1
            with self._loosening():
                return original(*arguments, **options)

        return internal_py_func

    def _move(self, functions: list[Any]) -> None:
        self._running.append(functions[-1])
        super()._move(functions)

    def _is_again(self, function: Any) -> bool:
        """Return whether the same function was wrapped in an earlier iteration."""
        owner = function.__self__ if type(function) is MethodType else function
        noted = self._earlier.get(id(owner))
        if noted is not None and noted() is owner:
            return True
        try:
            self._wrapped[id(owner)] = weakref.ref(owner)
        except TypeError:  # it has no weak references
            return False
        return False

    def _unchain(self, function: Any) -> None:
        if type(function) is FunctionType:
            last = vars(function).pop(names.LAST_WRAPPER, None)
            if last is not None:
                self._running.append(last)

    def _after(self) -> None:
        self._earlier.update(self._wrapped)
        self._wrapped.clear()
        for key, noted in list(self._earlier.items()):
            if noted() is None:
                del self._earlier[key]
        self._running.clear()

    def _end(self) -> None:
        self._running.clear()


class LooseDatasetFunctions(Intervention):
    """Keep the functions of datasets that eager code makes out of the default graph."""

    name = "loose-dataset-functions"
    words = "with the default graph holding no functions of datasets"

    def _begin(self) -> None:
        function = names.CONCRETE_FUNCTION.get()
        self._patch(function, names.ADD_TO_GRAPH, self._leaving_out)

    def _leaving_out(self, original: Callable[..., Any]) -> Callable[..., Any]:
        is_eager = names.EXECUTING_EAGERLY.get()

        def add_to_graph(function: Any, g: Any = None, **options: Any) -> Any:
            is_left = False
            with self._guarded():
                caller = str(sys._getframe(1).f_globals.get("__name__"))
                if caller.startswith(names.DATASET_MODULES) and is_eager():
                    is_left = g is not None and g is global_default_graph()
            if is_left:
                self.seen += 1
                if self.acts:
                    return None  # eager code finds it in the eager context
            return original(function, g, **options)

        return add_to_graph


def owning_graph() -> Any:
    """Return the outermost graph that is not the process's default graph."""
    graph, owner = names.GET_DEFAULT_GRAPH.get()(), None
    default = global_default_graph()
    while graph is not None and graph is not default:
        owner = graph
        graph = getattr(graph, names.OUTER_GRAPH, None)
    return owner


def keep_in(graph: Any, name: str, kept: Any) -> None:
    """Let a graph keep something in a list of that name."""
    # not vars(): a graph is a C++ object without a __dict__
    if not hasattr(graph, name):
        setattr(graph, name, [])
    getattr(graph, name).append(kept)


def _kept_functions() -> list[Any]:
    """Return the Python functions that the default graph keeps."""
    functions: list[Any] = getattr(global_default_graph(), names.USED_FUNCTIONS, [])
    return functions
