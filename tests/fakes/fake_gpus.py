"""Fake GPUs in TensorFlow's eager context, for machines without one."""

from __future__ import annotations

import ctypes
import os
import sys
from array import array
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace
from typing import Any

CONTEXT = "tensorflow.python.eager.context"
TEST_UTIL = "tensorflow.python.framework.test_util"
STOOD_IN_FOR = ("tensorflow", CONTEXT, TEST_UTIL)
MISSING = -(2**63)


class Gpus:
    """An initialised context; ``cards`` says how many logical GPUs each card has."""

    _initialized = True

    def __init__(
        self, *cards: int, limit: int | None = None, grows: bool = False
    ) -> None:
        self._cards = {
            f"/physical_device:GPU:{n}": count for n, count in enumerate(cards)
        }
        self._limit = limit
        self._grows = grows
        names = [f"GPU:{k}" for k in range(sum(cards))]
        #: What get_memory_info returns for each device; None means no statistics.
        self.figures: dict[str, dict[str, int] | None] = {
            name: {"current": 1280, "peak": 1280} for name in names
        }
        self.figures["CPU:0"] = None
        self.synced = 0
        self.executor = SimpleNamespace(is_async=lambda: False)

    def allocate(self, size: int, gpu: str = "GPU:0") -> None:
        """Allocate or free memory of a logical GPU."""
        figures = self.figures[gpu]
        assert figures is not None
        figures["current"] += size
        figures["peak"] = max(figures["peak"], figures["current"])

    def list_logical_devices(self, kind: str) -> list[Any]:
        names = [name for name in self.figures if name.startswith(kind)]
        return [SimpleNamespace(name=f"/device:{name}") for name in names]

    def get_visible_devices(self, kind: str) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self._cards]

    list_physical_devices = get_visible_devices

    def get_device_details(self, card: Any) -> dict[str, str]:
        return {"device_name": "a fake"}

    def get_logical_device_configuration(self, card: Any) -> list[Any] | None:
        if self._limit is None and self._cards[card.name] == 1:
            return None
        virtual = SimpleNamespace(memory_limit=self._limit)
        return [virtual] * self._cards[card.name]

    def get_memory_growth(self, card: Any) -> bool:
        if self._limit is not None:
            raise ValueError("cannot be set together with virtual devices")
        return self._grows

    def get_memory_info(self, device: str) -> dict[str, int]:
        figures = self.figures[device]
        if figures is None:
            raise ValueError("Allocator stats not available for this device")
        return figures


def stand_in(gpus: Gpus | None) -> None:
    """Put a fake TensorFlow with these GPUs, or no context, into ``sys.modules``."""
    context, test_util = ModuleType(CONTEXT), ModuleType(TEST_UTIL)
    context.context_safe = lambda: gpus  # type: ignore[attr-defined]
    context.executing_eagerly = lambda: True  # type: ignore[attr-defined]

    def sync_devices() -> None:
        assert gpus is not None
        gpus.synced += 1

    test_util.sync_devices = sync_devices  # type: ignore[attr-defined]
    modules = (ModuleType("tensorflow"), context, test_util)
    sys.modules.update(zip(STOOD_IN_FOR, modules, strict=True))


def load_cuda(*uuids: str) -> None:
    """Load the fake CUDA, as TensorFlow would; its cards have these UUIDs."""
    os.environ["FAKE_CUDA"] = ",".join(uuids)
    # not os.environ, since the C library has its own copy
    ctypes.CDLL("libcuda.so.1")


def say(*lines: str) -> None:
    """Make the fake NVML report this from now on."""
    Path(os.environ["FAKE_NVML"]).write_text("\n".join(lines))


def read(probe: Any) -> dict[str, int | None]:
    """Read a probe once, and return its signals' readings."""
    signals = probe.signals()
    buffer = array("q", [MISSING]) * len(signals)
    probe.settle()
    probe.read(buffer, 0, True)
    values = [None if value == MISSING else value for value in buffer]
    return dict(zip([signal.name for signal in signals], values, strict=True))
