"""What grows without new objects in Python: operations, traces, descriptors, threads.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pytest_tfleak.census import Census
from pytest_tfleak.diagnosis.descriptors import new_descriptors
from pytest_tfleak.diagnosis.descriptors import new_threads
from pytest_tfleak.diagnosis.descriptors import open_descriptors
from pytest_tfleak.diagnosis.descriptors import threads_now
from pytest_tfleak.diagnosis.operations import count_operations
from pytest_tfleak.diagnosis.operations import describe_operations
from pytest_tfleak.diagnosis.operations import operations_made
from pytest_tfleak.diagnosis.operations import stacks_of_operations
from pytest_tfleak.diagnosis.origins import origin_of
from pytest_tfleak.diagnosis.retraces import count_traces
from pytest_tfleak.diagnosis.retraces import explain_retraces
from pytest_tfleak.diagnosis.retraces import made_in_loop
from pytest_tfleak.observed import global_default_graph
from pytest_tfleak.verdict import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen of one signal."""

    what: str
    edges: tuple[str, ...] | None = None
    erased: str = ""  # the same without numbers, for the fingerprint
    origin: Origin | None = None
    stack: tuple[Origin, ...] = ()
    retrace: str = ""  # the sort of change that makes a function trace again
    is_made_in_loop: bool = False


class Survey:
    """Compares what there is before some iterations with what there is after them."""

    def __init__(self, census: Census) -> None:
        self._census = census
        self._operations: list[tuple[weakref.ref[Any], int]] = []
        self._traces: list[tuple[weakref.ref[Any], int]] = []
        self._descriptors: dict[int, str] = {}
        self._threads: dict[int, str] = {}
        self._grown: weakref.ref[Any] | None = None

    def begin(self) -> None:
        """Note what there is."""
        self._census.take()
        graphs = self._census.members("tf.graphs")
        self._operations = [(weakref.ref(g), count_operations(g)) for g in graphs]
        functions = self._census.members("tf.traces")
        self._traces = [(weakref.ref(f), count_traces(f)) for f in functions]
        self._census.release()
        self._descriptors, self._threads = open_descriptors(), threads_now()

    def end(self, iterations: int) -> dict[str, Observed]:
        """Return what was added, by signal. A part that fails says nothing."""
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
            with suppress(Exception):  # TensorFlow's own, which may differ elsewhere
                found = look(iterations)
                if found is not None:
                    seen[signal] = found
        self._census.release()
        self._operations, self._traces = [], []
        return seen

    def grown_graph(self) -> object:
        """Return the graph, not the default one, that got operations, or None."""
        return self._grown() if self._grown is not None else None

    def _default_graph(self, iterations: int) -> Observed | None:
        graph = global_default_graph()
        if graph is None:
            return None
        since = next((n for r, n in self._operations if r() is graph), 0)
        return _made_in(graph, since, iterations, "TensorFlow's default graph")

    def _other_graphs(self, iterations: int) -> Observed | None:
        default = global_default_graph()
        for reference, since in self._operations:
            graph = reference()
            if graph is None or graph is default:
                continue
            if count_operations(graph) > since:
                found = _made_in(graph, since, iterations, "a graph made earlier")
                if found is not None:
                    self._grown = reference
                    return found
        return None

    def _retraces(self, iterations: int) -> Observed | None:
        for function, since in self._traced():
            retrace = explain_retraces(function, since)
            if retrace is not None:
                return Observed(
                    what=retrace.told(),
                    erased=f"{retrace.function} {retrace.argument} {retrace.sort}",
                    retrace=retrace.sort,
                )
        old = {id(reference()) for reference, _ in self._traces}
        functions = self._census.members("tf.traces")
        remade = made_in_loop([f for f in functions if id(f) not in old])
        if not remade:
            return None
        return Observed(
            what=remade[0].words(),
            erased=f"{remade[0].function} made anew",
            is_made_in_loop=True,
        )

    def _traced(self) -> list[tuple[Any, int]]:
        """Return the functions that were traced, those with most new traces first."""
        living = [(reference(), since) for reference, since in self._traces]
        new = [(count_traces(f) - since, f, since) for f, since in living if f]
        new.sort(key=lambda traced: -traced[0])
        return [(function, since) for count, function, since in new if count > 0]

    def _new_descriptors(self, iterations: int) -> Observed | None:
        words = new_descriptors(self._descriptors, open_descriptors(), iterations)
        return None if words is None else Observed(what=words)

    def _new_threads(self, iterations: int) -> Observed | None:
        words = new_threads(self._threads, threads_now(), iterations)
        return None if words is None else Observed(what=words)


def _made_in(graph: Any, since: int, iterations: int, name: str) -> Observed | None:
    words = describe_operations(operations_made(graph, since), iterations)
    if words is None:
        return None
    origin: Origin | None = None
    stack: tuple[Origin, ...] = ()
    for frames, _ in stacks_of_operations(graph, since):
        origin, stack = origin_of([(file, line) for file, line, _ in frames])
        if origin is not None:
            break
    return Observed(
        what=words,
        edges=(f"{name} ({count_operations(graph)} operations)",),
        erased=f"{name} {origin.function if origin else ''}",
        origin=origin,
        stack=stack,
    )
