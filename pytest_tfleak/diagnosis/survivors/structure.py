"""Find growth that adds no Python objects: operations, traces, descriptors, threads.

Compare their numbers before and after some iterations.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pytest_tfleak.diagnosis.what.descriptors import RunningThread
from pytest_tfleak.diagnosis.what.descriptors import find_new
from pytest_tfleak.diagnosis.what.descriptors import open_descriptors
from pytest_tfleak.diagnosis.what.descriptors import rates_of_new
from pytest_tfleak.diagnosis.what.descriptors import threads_now
from pytest_tfleak.diagnosis.what.retraces import count_traces
from pytest_tfleak.diagnosis.what.retraces import explain_retraces
from pytest_tfleak.diagnosis.what.retraces import made_in_loop
from pytest_tfleak.diagnosis.what.retraces import newest_types
from pytest_tfleak.diagnosis.what.retraces import parameters_of
from pytest_tfleak.diagnosis.what.signature import declare
from pytest_tfleak.diagnosis.what.tensorflow_objects import count_operations
from pytest_tfleak.diagnosis.what.tensorflow_objects import operations_made
from pytest_tfleak.diagnosis.what.tensorflow_objects import stacks_of_operations
from pytest_tfleak.object_facts import rates_of
from pytest_tfleak.probes.census import Census
from pytest_tfleak.reports.held_object import words_of_names
from pytest_tfleak.reports.held_object import words_of_rates
from pytest_tfleak.reports.retraced import words_of_remade
from pytest_tfleak.reports.retraced import words_of_retrace
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.tf.access import global_default_graph
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was observed about one signal."""

    what: str
    path: RetainingPath | None = None
    place: tuple[str, ...] = ()  # identifies the leak in different runs
    origin: Origin | None = None
    stack: tuple[Origin, ...] = ()
    retrace: str = ""  # the kind of change that makes a function trace again
    declared: str = ""  # how to declare the function so that it is not traced again
    function: str = ""  # its name
    argument: str = ""  # that changes
    is_made_in_loop: bool = False
    files: tuple[str, ...] = ()  # those that stay open
    threads: tuple[RunningThread, ...] = ()  # those that do not end


class Survey:
    """Compares operations, traces, descriptors and threads before and after."""

    def __init__(self, census: Census) -> None:
        self._census = census
        self._operations: list[tuple[weakref.ref[Any], int]] = []
        self._traces: list[tuple[weakref.ref[Any], int]] = []
        self._descriptors: dict[int, str] = {}
        self._threads: dict[int, RunningThread] = {}
        self._grown: weakref.ref[Any] | None = None

    def begin(self) -> None:
        """Note the state before the iterations."""
        self._census.take()
        graphs = self._census.members("tf.graphs")
        self._operations = [(weakref.ref(g), count_operations(g)) for g in graphs]
        functions = self._census.members("tf.traces")
        self._traces = [(weakref.ref(f), count_traces(f)) for f in functions]
        self._census.release()
        with suppress(OSError):  # no descriptor may be left to list them with
            self._descriptors = open_descriptors()
            self._threads = threads_now()

    def end(self, iterations: int) -> dict[str, Observed]:
        """Return what was added, by signal, without parts that cannot be read."""
        seen: dict[str, Observed] = {}
        self._census.take()
        parts: tuple[tuple[str, Callable[[int], Observed | None]], ...] = (
            ("tf.default_graph.ops", self._default_graph),
            ("tf.graphs.ops", self._other_graphs),
            ("tf.traces", self._retraces),
            ("process.fds", self._new_descriptors),
            ("process.threads", self._new_threads),
        )
        for signal, look in parts:
            with suppress(Exception):  # other versions of TensorFlow may differ
                observed = look(iterations)
                if observed is not None:
                    seen[signal] = observed
        self._census.release()
        self._operations, self._traces = [], []
        return seen

    def grown_graph(self) -> object:
        """Return a graph that gained operations, except the default one, or None."""
        return self._grown() if self._grown is not None else None

    def _default_graph(self, iterations: int) -> Observed | None:
        graph = global_default_graph()
        if graph is None:
            return None
        since = next((n for r, n in self._operations if r() is graph), 0)
        return _made_in(graph, since, iterations, "default-graph")

    def _other_graphs(self, iterations: int) -> Observed | None:
        default = global_default_graph()
        for reference, since in self._operations:
            graph = reference()
            if graph is None or graph is default:
                continue
            if count_operations(graph) > since:
                observed = _made_in(graph, since, iterations, "graph")
                if observed is not None:
                    self._grown = reference
                    return observed
        return None

    def _retraces(self, iterations: int) -> Observed | None:
        for function, since in self._traced():
            retrace = explain_retraces(function, since)
            if retrace is not None:
                return Observed(
                    what=words_of_retrace(retrace),
                    place=(retrace.function, retrace.argument, retrace.sort),
                    retrace=retrace.sort,
                    declared=_declared(function, retrace.argument),
                    function=retrace.function,
                    argument=retrace.argument,
                )
        old = {id(reference()) for reference, _ in self._traces}
        functions = self._census.members("tf.traces")
        remade = made_in_loop([f for f in functions if id(f) not in old])
        if not remade:
            return None
        return Observed(
            what=words_of_remade(remade[0]),
            place=(remade[0].function, "made in loop"),
            function=remade[0].function,
            # an instance with a function of its own is what something keeps
            is_made_in_loop=not remade[0].method,
        )

    def _traced(self) -> list[tuple[Any, int]]:
        """Return the functions that were traced again, with most new traces first."""
        living = [(reference(), since) for reference, since in self._traces]
        new = [
            (count_traces(function) - since, function, since)
            for function, since in living
            if function is not None
        ]
        new.sort(key=lambda traced: -traced[0])
        return [(function, since) for count, function, since in new if count > 0]

    def _new_descriptors(self, iterations: int) -> Observed | None:
        before, after = self._descriptors, open_descriptors()
        rates = rates_of_new(before, after, iterations)
        if not rates:
            return None
        return Observed(what=words_of_names(rates), files=find_new(before, after))

    def _new_threads(self, iterations: int) -> Observed | None:
        before, after = self._threads, threads_now()
        rates = rates_of_new(before, after, iterations)
        if not rates:
            return None
        return Observed(what=words_of_names(rates), threads=find_new(before, after))


def _made_in(graph: Any, since: int, iterations: int, kind: str) -> Observed | None:
    """Return the operations that a graph gained, and the line that makes them.

    ``since`` is the number it had before, ``kind`` the kind of the path's root.
    """
    rates = rates_of(operations_made(graph, since), iterations)
    if not rates:
        return None
    origin: Origin | None = None
    stack: tuple[Origin, ...] = ()
    for frames, _ in stacks_of_operations(graph, since).most_common():
        origin, stack = origin_of(frames)
        if origin is not None:
            break
    return Observed(
        what=words_of_rates(rates),
        path=RetainingPath(root=Root(kind=kind, size=count_operations(graph))),
        place=(kind, origin.function if origin else ""),
        origin=origin,
        stack=stack,
    )


def _declared(function: Any, argument: str) -> str:
    with suppress(Exception):  # other versions of TensorFlow may differ
        return declare(newest_types(function), argument, parameters_of(function))
    return ""
