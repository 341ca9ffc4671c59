"""A fake probe and traces with chosen readings, for tests of probes and rules.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_tfleak.probes.base import Probe
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace


class FakeProbe(Probe):
    """Reads its numbers from iterables, one for each signal."""

    name = "fake"

    def __init__(
        self,
        readings: Mapping[str, Iterable[int | None]],
        *,
        unit: str = "objects",
        allowance: str | float | None = 0,
    ) -> None:
        self._signals = tuple(
            Signal(name=name, unit=unit, allowance=allowance) for name in readings
        )
        self._readings: list[Iterator[int | None]] = [
            iter(series) for series in readings.values()
        ]

    def signals(self) -> Sequence[Signal]:
        """Return one exact signal for each series."""
        return self._signals

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the next reading of each series; None or an ended series is missing."""
        for position, series in enumerate(self._readings):
            reading = next(series, None)
            buffer[start + position] = MISSING if reading is None else reading


def trace_of(
    readings: Sequence[int | None],
    *,
    signal: Signal | None = None,
    warmup: int = 0,
    confirmed: int = 0,
) -> Trace:
    """Return the trace of one signal: warm-up, measured and confirming readings."""
    signal = signal or make_signal("tf.tensors")
    trace = Trace([signal], warmup=warmup, capacity=len(readings) - warmup)
    for row, reading in enumerate(readings):
        trace.buffer[row] = MISSING if reading is None else reading
    trace.warmed_up = warmup
    trace.confirmed = confirmed
    trace.measured = len(readings) - warmup - confirmed
    return trace
