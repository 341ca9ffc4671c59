"""A snapshot of what the process holds; subtract two to see what changed."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.base import guard
from pytest_tfleak.probes.base import signals_of
from pytest_tfleak.probes.census import Census
from pytest_tfleak.trace import MISSING

Figures = Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot:
    """Readings by signal name, None if a signal could not be read.

    ``host`` and ``gpu`` are in bytes, ``objects`` are counts. ``failures`` maps each
    probe that could not be read, by name, to the reason.
    """

    host: Figures
    gpu: Figures
    objects: Figures
    failures: Mapping[str, str] = field(default_factory=dict)

    def __sub__(self, earlier: MemorySnapshot) -> MemorySnapshot:
        return MemorySnapshot(
            host=_difference(self.host, earlier.host),
            gpu=_difference(self.gpu, earlier.gpu),
            objects=_difference(self.objects, earlier.objects),
            failures={**earlier.failures, **self.failures},
        )


def take_snapshot(
    probes: Callable[[Census], Sequence[Probe]] = make_probes,
) -> MemorySnapshot:
    """Collect garbage and read every signal once."""
    census = Census()
    readings: dict[str, int | None] = {}
    units: dict[str, str] = {}
    made = guard(probes(census))
    census.take()
    try:
        for probe in made:
            probe.settle()
        for probe, signals in zip(made, signals_of(made), strict=True):
            buffer = array("q", [MISSING]) * len(signals)
            probe.read(buffer, 0, True)
            is_read = probe.failure is None
            for signal, reading in zip(signals, buffer, strict=True):
                is_there = is_read and reading != MISSING
                readings[signal.name] = reading if is_there else None
                units[signal.name] = signal.unit
    finally:
        census.release()
        for probe in made:
            probe.close()
    gpu = {n: v for n, v in readings.items() if n.startswith("gpu.")}
    host = {n: v for n, v in readings.items() if units[n] == "B" and n not in gpu}
    return MemorySnapshot(
        host=host,
        gpu=gpu,
        objects={n: v for n, v in readings.items() if units[n] != "B"},
        failures={p.name: p.failure for p in made if p.failure is not None},
    )


def _difference(later: Figures, earlier: Figures) -> Figures:
    return {name: _less(value, earlier.get(name)) for name, value in later.items()}


def _less(later: int | None, earlier: int | None) -> int | None:
    return None if later is None or earlier is None else later - earlier
