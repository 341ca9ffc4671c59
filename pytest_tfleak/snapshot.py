"""What the process holds at one moment; two snapshots subtract."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_tfleak.census import Census
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.trace import MISSING

Figures = Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot:
    """Readings by signal name, None where a signal could not be read.

    ``host`` and ``gpu`` are in bytes, ``objects`` are counts.
    """

    host: Figures
    gpu: Figures
    objects: Figures

    def __sub__(self, earlier: MemorySnapshot) -> MemorySnapshot:
        return MemorySnapshot(
            host=_difference(self.host, earlier.host),
            gpu=_difference(self.gpu, earlier.gpu),
            objects=_difference(self.objects, earlier.objects),
        )


def take_snapshot(
    probes: Callable[[Census], Sequence[Probe]] = make_probes,
) -> MemorySnapshot:
    """Collect garbage and read every signal once."""
    census = Census()
    readings: dict[str, int | None] = {}
    units: dict[str, str] = {}
    made = probes(census)
    census.take()
    try:
        for probe in made:
            probe.settle()
        for probe in made:
            signals = probe.signals()
            buffer = array("q", [MISSING]) * len(signals)
            probe.read(buffer, 0, True)
            for signal, reading in zip(signals, buffer, strict=True):
                readings[signal.name] = None if reading == MISSING else reading
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
    )


def _difference(later: Figures, earlier: Figures) -> Figures:
    return {name: _less(value, earlier.get(name)) for name, value in later.items()}


def _less(later: int | None, earlier: int | None) -> int | None:
    return None if later is None or earlier is None else later - earlier
