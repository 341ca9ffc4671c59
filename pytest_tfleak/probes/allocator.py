"""TensorFlow's own figures for the memory of its devices.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from pytest_tfleak.observed import NOT_YET
from pytest_tfleak.observed import initialised_context
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal

HOST = Signal(
    name="host.allocator", unit="B", allowance="host_per_iteration", total="host_total"
)


class AllocatorProbe(Probe):
    """Reads bytes in use of ``CPU:0`` and of each logical GPU.

    Never the first to initialise TensorFlow's devices: the test's own
    ``set_memory_growth`` would then raise.
    """

    name = "allocator"

    def __init__(self) -> None:
        self._devices: list[str] = ["CPU:0"]
        self._reasons: dict[str, str] = {}

    def signals(self) -> Sequence[Signal]:
        """Return the allocators that are known by now."""
        context = initialised_context()
        if context is not None:
            gpus = context.list_logical_devices("GPU")
            names = (gpu.name.rpartition("device:")[2] for gpu in gpus)
            self._devices = ["CPU:0", *names]
        return (HOST, *map(_gpu_signal, self._devices[1:]))

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the bytes in use of each device whose allocator keeps statistics."""
        context = initialised_context()
        if context is None:
            return
        for position, device in enumerate(self._devices):
            name = _signal_name(device)
            if name in self._reasons:
                continue
            try:
                figures = context.get_memory_info(device)
            except ValueError:
                self._reasons[name] = "the allocator keeps no statistics"
                continue
            if figures["peak"] == 0:
                continue  # {0, 0} is "nothing measured", not "no growth"
            buffer[start + position] = min(figures["current"], -(MISSING + 1))

    def why_off(self) -> str | None:
        """Say why no allocator can be asked yet."""
        if "tensorflow" not in sys.modules:
            return NOT_YET
        if initialised_context() is None:
            return "TensorFlow has not initialised its devices"
        return None

    def reasons(self) -> dict[str, str]:
        """Say which allocators gave no figures, and why."""
        reasons = dict(self._reasons)
        why = self.why_off() or "nothing was allocated from it"
        for device in self._devices:
            reasons.setdefault(_signal_name(device), why)
        return reasons


def _gpu_signal(device: str) -> Signal:
    return Signal(
        name=_signal_name(device),
        unit="B",
        allowance="gpu_per_iteration",
        total="gpu_total",
    )


def _signal_name(device: str) -> str:
    return HOST.name if device == "CPU:0" else f"gpu.allocator[{device}]"
