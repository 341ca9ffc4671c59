"""TensorFlow's own figures for the memory of its devices.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from time import perf_counter
from time import sleep
from typing import Any

from pytest_tfleak.observed import NOT_YET
from pytest_tfleak.observed import initialised_context
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.devices import LogicalGpu
from pytest_tfleak.probes.devices import in_use
from pytest_tfleak.probes.devices import logical_gpus
from pytest_tfleak.probes.driver import why_no_gpu
from pytest_tfleak.probes.gpu_reasons import NO_GPU
from pytest_tfleak.probes.gpu_reasons import NO_STATISTICS
from pytest_tfleak.probes.gpu_reasons import NOT_IMPORTED
from pytest_tfleak.probes.gpu_reasons import NOT_INITIALISED
from pytest_tfleak.probes.gpu_reasons import NOTHING_ALLOCATED
from pytest_tfleak.probes.gpu_reasons import GpuReason
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal

HOST = Signal(
    name="host.allocator", unit="B", allowance="host_per_iteration", total="host_total"
)
#: Stands for all GPUs as long as none is known, so that a report can say why.
NO_GPU_YET = Signal(
    name="gpu.allocator", unit="B", allowance="gpu_per_iteration", total="gpu_total"
)
#: Seconds that deferred frees get to arrive, and between two readings.
PATIENCE = 0.05
PAUSE = 0.0002


class AllocatorProbe(Probe):
    """Reads bytes in use of ``CPU:0`` and of each logical GPU, and the GPUs' peaks.

    Never the first to initialise TensorFlow's devices: the test's own
    ``set_memory_growth`` would then raise.
    """

    name = "allocator"
    is_readable_anytime = True

    def __init__(self) -> None:
        self._gpus: tuple[LogicalGpu, ...] = ()
        self._started_early: bool | None = None
        self._knew_devices = False
        self._iterations = array("q", [0])
        #: Readings whose figures still moved when patience ran out.
        self._unsettled = array("q", [0])
        #: The first iteration after which the devices were there.
        self._began = array("q", [0])
        self._why: dict[str, GpuReason] = {}
        self._sync_error: str | None = None

    def signals(self) -> Sequence[Signal]:
        """Return the allocators that are known by now."""
        context = initialised_context()
        self._knew_devices = context is not None
        if self._started_early is None:
            self._started_early = self._knew_devices
        if context is not None:
            self._gpus = logical_gpus(context)
        if not self._gpus:
            return (HOST, NO_GPU_YET)
        return (HOST, *(s for gpu in self._gpus for s in _gpu_signals(gpu.name)))

    def has_more_signals(self) -> bool:
        """Say whether TensorFlow has found its devices since."""
        return not self._knew_devices and initialised_context() is not None

    def settle(self) -> None:
        """Wait, up to 50 ms, until what was freed has left the allocators' figures."""
        self._iterations[0] += 1
        context = initialised_context()
        if context is None:
            return
        self._began[0] = self._began[0] or self._iterations[0]
        is_async = context.executor.is_async()
        if not (self._gpus or is_async):
            return  # nothing runs, or is freed, behind Python's back
        self._sync(context)
        until = perf_counter() + PATIENCE
        before = self._total(context)
        while True:
            sleep(PAUSE)
            now = self._total(context)
            if now == before:
                return
            if perf_counter() > until:
                self._unsettled[0] += 1
                return
            before = now

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the bytes in use of each device whose allocator keeps statistics."""
        context = initialised_context()
        if context is None:
            return
        self._read_device(context, "CPU:0", buffer, start, has_peak=False)
        for position, gpu in enumerate(self._gpus):
            place = start + 1 + 2 * position
            self._read_device(context, gpu.name, buffer, place, has_peak=True)

    def why_off(self) -> str | None:
        """Say why no allocator can be asked yet."""
        if "tensorflow" not in sys.modules:
            return NOT_YET
        return NOT_INITIALISED.why if initialised_context() is None else None

    def reasons(self) -> dict[str, str]:
        """Say which allocators gave no figures, and why."""
        return {name: _in_words(why) for name, why in self._all_why().items()}

    def codes(self) -> dict[str, str]:
        """Return the reasons as codes."""
        return {name: why.code for name, why in self._all_why().items()}

    def notes(self) -> tuple[str, ...]:
        """Say how each GPU's memory is managed, and what shifts its figures."""
        notes = [gpu.describe() for gpu in self._gpus]
        if self._gpus and not self._started_early and self._began[0]:
            notes.append(
                f"TensorFlow initialised its devices in iteration {self._began[0]} "
                "(warm-up included); the figures of its allocators start there."
            )
        if self._unsettled[0]:
            notes.append(
                f"In {self._unsettled[0]} of the readings the allocators' figures "
                "still moved 50 ms after the call."
            )
        if self._sync_error is not None:
            notes.append(f"The devices could not be synchronised: {self._sync_error}.")
        return tuple(notes)

    def _read_device(
        self, context: Any, device: str, buffer: array[int], place: int, has_peak: bool
    ) -> None:
        name = _signal_name(device)
        if self._why.get(name) is NO_STATISTICS:
            return
        try:
            figures = context.get_memory_info(device)
        except ValueError:
            self._why[name] = NO_STATISTICS
            return
        if figures["peak"] == 0:
            return  # {0, 0} is "nothing measured", not "no growth"
        buffer[place] = min(figures["current"], -(MISSING + 1))
        if has_peak:
            buffer[place + 1] = min(figures["peak"], -(MISSING + 1))

    def _total(self, context: Any) -> int:
        names = ("CPU:0", *(gpu.name for gpu in self._gpus))
        return sum(in_use(context, name) or 0 for name in names)

    def _sync(self, context: Any) -> None:
        test_util: Any = sys.modules.get("tensorflow.python.framework.test_util")
        module: Any = sys.modules["tensorflow.python.eager.context"]
        eagerly: AbstractContextManager[None] = nullcontext()
        if not module.executing_eagerly():  # a graph that is open as default
            eagerly = module.eager_mode()
        try:
            with eagerly:
                test_util.sync_devices()
        except Exception as error:  # an asynchronous operation of the test's may fail
            self._sync_error = f"{type(error).__name__}: {error}".rstrip(".")

    def _all_why(self) -> dict[str, GpuReason]:
        why = NOTHING_ALLOCATED
        if "tensorflow" not in sys.modules:
            why = NOT_IMPORTED
        elif initialised_context() is None:
            why = NOT_INITIALISED
        devices = ("CPU:0", *(gpu.name for gpu in self._gpus))
        known = {name: why for device in devices for name in _names(device)}
        for device in devices:
            found = self._why.get(_signal_name(device))
            if found is not None:
                known |= dict.fromkeys(_names(device), found)
        if not self._gpus:
            known[NO_GPU_YET.name] = NO_GPU if why is NOTHING_ALLOCATED else why
        return known


def _in_words(why: GpuReason) -> str:
    if why is NOT_IMPORTED:
        return NOT_YET
    if why is NOT_INITIALISED:  # sessions alone never do
        return f"{why.why}; a call of tf.config.list_logical_devices() does"
    return f"{why.why} ({why_no_gpu()})" if why is NO_GPU else why.why


def _gpu_signals(device: str) -> tuple[Signal, Signal]:
    in_use_name, peak_name = _names(device)
    return (
        Signal(
            name=in_use_name,
            unit="B",
            allowance="gpu_per_iteration",
            total="gpu_total",
        ),
        Signal(name=peak_name, unit="B"),
    )


def _names(device: str) -> tuple[str, ...]:
    if device == "CPU:0":
        return (HOST.name,)
    return (_signal_name(device), f"gpu.peak[{device}]")


def _signal_name(device: str) -> str:
    return HOST.name if device == "CPU:0" else f"gpu.allocator[{device}]"
