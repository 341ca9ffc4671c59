"""Read TensorFlow's own figures for the memory of its devices.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from time import sleep
from typing import Any

from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.gpu.driver import why_no_gpu
from pytest_tfleak.probes.gpu.reasons import NO_GPU
from pytest_tfleak.probes.gpu.reasons import NO_STATISTICS
from pytest_tfleak.probes.gpu.reasons import NOT_IMPORTED
from pytest_tfleak.probes.gpu.reasons import NOT_INITIALISED
from pytest_tfleak.probes.gpu.reasons import NOTHING_ALLOCATED
from pytest_tfleak.probes.gpu.reasons import GpuReason
from pytest_tfleak.signals import make_signal
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import NOT_YET
from pytest_tfleak.tf.access import initialised_context
from pytest_tfleak.tf.access import is_imported
from pytest_tfleak.tf.names import MissingNameError
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal

HOST = make_signal("host.allocator")
#: Stands for all GPUs as long as none is known, so that a report can say why.
NO_GPU_YET = make_signal("gpu.allocator")
#: How many seconds to wait for deferred frees, and between two readings meanwhile.
PATIENCE = 0.05
PAUSE = 0.0002


class AllocatorProbe(Probe):
    """Reads the bytes in use on ``CPU:0`` and each logical GPU, and the GPUs' peaks.

    It never initialises TensorFlow's devices itself, because ``set_memory_growth`` in
    the test would then raise.
    """

    name = "allocator"
    is_readable_anytime = True

    def __init__(self) -> None:
        self._gpus: tuple[LogicalGpu, ...] = ()
        self._started_early: bool | None = None
        self._knew_devices = False
        self._iterations = array("q", [0])
        #: How many readings were taken while the figures still changed.
        self._unsettled = array("q", [0])
        #: The first iteration after which the devices were initialised.
        self._began = array("q", [0])
        self._why: dict[str, GpuReason] = {}
        self._sync_error: str | None = None

    def signals(self) -> Sequence[Signal]:
        """Return the signals of the allocators known so far."""
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
        """Return whether TensorFlow has initialised its devices since then."""
        return not self._knew_devices and initialised_context() is not None

    def settle(self) -> None:
        """Wait up to 50 ms for deferred frees to show in the allocators' figures."""
        self._iterations[0] += 1
        context = initialised_context()
        if context is None:
            return
        self._began[0] = self._began[0] or self._iterations[0]
        executor = getattr(context, names.EXECUTOR, None)
        is_async = executor is not None and executor.is_async()
        if not (self._gpus or is_async):
            return  # nothing runs asynchronously, so no frees are deferred
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
        """Return why no allocator can be read yet."""
        if not is_imported("tensorflow"):
            return NOT_YET
        return NOT_INITIALISED.why if initialised_context() is None else None

    def reasons(self) -> dict[str, str]:
        """Return which allocators gave no figures, and why."""
        return {name: _in_words(why) for name, why in self._all_why().items()}

    def codes(self) -> dict[str, str]:
        """Return the reasons as codes."""
        return {name: why.code for name, why in self._all_why().items()}

    def notes(self) -> tuple[str, ...]:
        """Return notes on how each GPU's memory is managed and what affects figures."""
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
            figures = names.MEMORY_FIGURES.of(context)(device)
        except (MissingNameError, ValueError):
            self._why[name] = NO_STATISTICS
            return
        if figures["peak"] == 0:
            return  # {0, 0} is "nothing measured", not "no growth"
        buffer[place] = min(figures["current"], -(MISSING + 1))
        if has_peak:
            buffer[place + 1] = min(figures["peak"], -(MISSING + 1))

    def _total(self, context: Any) -> int:
        devices = ("CPU:0", *(gpu.name for gpu in self._gpus))
        return sum(in_use(context, device) or 0 for device in devices)

    def _sync(self, context: Any) -> None:
        eagerly: AbstractContextManager[None] = nullcontext()
        try:
            if not names.EXECUTING_EAGERLY.get()():  # the test left a graph as default
                eagerly = names.EAGER_SCOPE.get()()
            with eagerly:
                names.SYNC_DEVICES.get()()
        except Exception as error:  # an asynchronous operation of the test may fail
            self._sync_error = f"{type(error).__name__}: {error}".rstrip(".")

    def _all_why(self) -> dict[str, GpuReason]:
        why = NOTHING_ALLOCATED
        if not is_imported("tensorflow"):
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
    if why is NOT_INITIALISED:  # a test that only uses sessions never does
        return f"{why.why}; a call of tf.config.list_logical_devices() does"
    return f"{why.why} ({why_no_gpu()})" if why is NO_GPU else why.why


def _gpu_signals(device: str) -> tuple[Signal, Signal]:
    return make_signal("gpu.allocator", device), make_signal("gpu.peak", device)


def _names(device: str) -> tuple[str, ...]:
    if device == "CPU:0":
        return (HOST.name,)
    return (_signal_name(device), f"gpu.peak[{device}]")


def _signal_name(device: str) -> str:
    return HOST.name if device == "CPU:0" else f"gpu.allocator[{device}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalGpu:
    """One logical GPU; several may share a card."""

    name: str  # such as GPU:0
    ordinal: int | None  # CUDA's number of the card, None if unknown
    on_card: int = 1  # how many logical GPUs that card has
    limit: int | None = None  # the memory limit of a virtual device, in MiB
    grows: bool | None = None
    allocator: str = ""

    def describe(self) -> str:
        """Return how its memory is managed, in one sentence."""
        parts = [f"{self.name}: allocator {self.allocator or 'BFC'}"]
        if self.allocator != "cuda_malloc":
            parts.append(
                "memory grows on demand" if self.grows else "memory is taken at once"
            )
        if self.on_card > 1 or self.limit is not None:
            limit = "" if self.limit is None else f" of {self.limit} MiB"
            parts.append(
                f"a virtual device{limit}, one of {self.on_card} on physical GPU "
                f"{self.ordinal}"
            )
        return ", ".join(parts) + "."


def logical_gpus(context: Any) -> tuple[LogicalGpu, ...]:
    """Return the logical GPUs of an initialised context, in TensorFlow's order."""
    listed = getattr(context, names.DEVICE_LISTS, lambda _: ())("GPU")
    devices = [device.name.rpartition("device:")[2] for device in listed]
    if not devices:
        return ()
    places = _places(context)
    if len(places) != len(devices):  # this TensorFlow counts differently
        places = [{"ordinal": None} for _ in devices]
    allocator = os.environ.get("TF_GPU_ALLOCATOR", "")
    return tuple(
        LogicalGpu(name=name, allocator=allocator, **place)
        for name, place in zip(devices, places, strict=True)
    )


def in_use(context: Any, gpu: str) -> int | None:
    """Return the bytes in use on a logical device, None without statistics."""
    try:
        return int(names.MEMORY_FIGURES.of(context)(gpu)["current"])
    except (MissingNameError, ValueError):
        return None


def _places(context: Any) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = []
    with suppress(MissingNameError):
        for card in names.VISIBLE_DEVICES.of(context)("GPU"):
            virtual = names.VIRTUAL_DEVICES.of(context)(card) or [None]
            ordinal = card.name.rpartition(":")[2]
            places += [
                {
                    "ordinal": int(ordinal) if ordinal.isdigit() else None,
                    "on_card": len(virtual),
                    "limit": getattr(device, "memory_limit", None),
                    "grows": _grows(context, card),
                }
                for device in virtual
            ]
    return places


def _grows(context: Any, card: Any) -> bool:
    forced = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "").lower()
    if forced in ("true", "false"):
        return forced == "true"
    try:
        return bool(names.MEMORY_GROWTH.of(context)(card))
    except (MissingNameError, ValueError):
        return False
