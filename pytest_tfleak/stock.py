"""What the run made and left: counts for the judge, objects for the diagnosis.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_tfleak.census import Census
from pytest_tfleak.census import full_name
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.reach import reachable
from pytest_tfleak.trace import Trace


class Stock:
    """Looks at what is alive after a run; what was handed to the body may hold it."""

    def __init__(
        self, census: Census, probes: Sequence[Probe], handed: Mapping[str, object]
    ) -> None:
        self._census = census
        self._probes = probes
        self._handed = handed
        #: Types of what is still there, by signal.
        self.left_types: dict[str, dict[str, int]] = {}

    def take(self, trace: Trace) -> None:
        """Count for a trace what grew by type, and what is still there."""
        self._count(trace)
        if not trace.kinds:  # they were counted before garbage was let go of
            trace.kinds.update(self._census.survivors())
        if any(trace.left.values()):
            self._census.refreeze()  # what looks left may be garbage that was frozen
            self._count(trace)

    def objects_left(self, signals: Collection[str]) -> list[Any]:
        """Return what is still there. Let go of it before measuring again."""
        self._census.take()
        objects = [o for name, left in self._left() if name in signals for o in left]
        self._census.release()
        return objects

    def _count(self, trace: Trace) -> None:
        self._census.take()
        for signal, left in self._left():
            trace.left[signal] = len(left)
            names = Counter(full_name(type(o)) for o in left)
            self.left_types[signal] = dict(names)
            left.clear()
        self._census.release()

    def _left(self) -> Iterator[tuple[str, list[Any]]]:
        for probe in self._probes:
            for signal, objects in probe.still_there().items():
                roots = self._handed.values()
                held = reachable(roots, objects) if objects else set()
                left = [o for o in objects if id(o) not in held]
                del objects
                yield signal, left
