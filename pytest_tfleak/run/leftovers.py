"""Find the sessions and graphs that a run left: counts for the judge, and objects.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from types import FrameType
from types import FunctionType
from types import ModuleType
from typing import Any

from pytest_tfleak.probes.base import GuardedProbe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.trace import Trace


class WeaklyHanded(weakref.ref[Any]):
    """An object that is handed to a test, but not kept for it."""


class Leftovers:
    """Finds the sessions and graphs that still exist after a run.

    Those that can be reached from ``handed``, such as fixtures, do not count: it is the
    purpose of fixtures to keep objects for later.
    """

    def __init__(
        self,
        census: Census,
        probes: Sequence[GuardedProbe],
        handed: Mapping[str, object],
    ) -> None:
        self._census = census
        self._probes = probes
        self._handed = handed
        #: How many of each type still exist, by signal.
        self.types: dict[str, dict[str, int]] = {}

    def count(self, trace: Trace) -> None:
        """Record in a trace what still exists, and what survived by type."""
        self._count(trace)
        # otherwise the confirmation has counted them, or those of the first call are in
        if not (trace.kinds or trace.judges_warmup):
            trace.kinds.update(self._census.survivors())
        if any(trace.left.values()):
            self._census.refreeze()  # some may be garbage that was frozen: collect it
            self._count(trace)

    def objects(self, signals: Collection[str]) -> list[Any]:
        """Return the objects that still exist. Release them before measuring again."""
        self._census.take()
        objects = [o for name, left in self._left() if name in signals for o in left]
        self._census.release()
        return objects

    def _count(self, trace: Trace) -> None:
        self._census.take()
        for signal, left in self._left():
            trace.left[signal] = len(left)
            names = Counter(full_name(type(o)) for o in left)
            self.types[signal] = dict(names)
            left.clear()
        self._census.release()

    def _left(self) -> Iterator[tuple[str, list[Any]]]:
        for probe in self._probes:
            for signal, objects in probe.still_there().items():
                roots = [_object_of(value) for value in self._handed.values()]
                held = ids_reachable(roots, objects) if objects else set()
                left = [o for o in objects if id(o) not in held]
                del objects, roots
                yield signal, left


def _object_of(value: object) -> object:
    return value() if type(value) is WeaklyHanded else value


_MOST_VISITED = 300_000


def ids_reachable(roots: Iterable[object], wanted: Iterable[object]) -> set[int]:
    """Return the ids of the wanted objects that can be reached from the roots."""
    missing = {id(o) for o in wanted}
    found: set[int] = set()
    seen: set[int] = set()
    pending: list[Any] = list(roots)
    while pending and missing and len(seen) < _MOST_VISITED:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if id(current) in missing:
            missing.discard(id(current))
            found.add(id(current))
        pending.extend(_referents(current))
    return found


def _referents(holder: Any) -> list[Any]:
    kind = type(holder)
    if issubclass(kind, (ModuleType, type, FrameType)):
        return []
    if kind is FunctionType:
        # without __globals__, from which everything in a module can be reached
        return [holder.__closure__, holder.__defaults__, holder.__kwdefaults__]
    return gc.get_referents(holder)
