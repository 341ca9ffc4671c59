"""Host memory of this process: heap in use, RSS, USS.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_tfleak.probes.base import Probe
from pytest_tfleak.trace import Signal

if TYPE_CHECKING:
    import psutil  # 5 ms, which pytest's header does without

SIGNALS = (
    Signal(
        name="host.heap", unit="B", allowance="host_per_iteration", total="host_total"
    ),
    Signal(
        name="host.rss",
        unit="B",
        nature="noisy",
        allowance="host_per_iteration",
        total="host_total",
        instead_of="host.heap",
    ),
    Signal(name="host.uss", unit="B", nature="noisy"),
)


class HostProbe(Probe):
    """Reads the C library's heap, which decides, and RSS and USS as context."""

    name = "host"
    is_readable_anytime = True

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @cached_property
    def _process(self) -> psutil.Process:
        import psutil

        return psutil.Process()

    def signals(self) -> Sequence[Signal]:
        """Return the signals of host memory."""
        if self._read_heap() is None:
            self._reasons["host.heap"] = "the C library gives no heap figures"
        return SIGNALS

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write heap and RSS; USS, which takes milliseconds, where ``deep`` is true."""
        if "host.heap" not in self._reasons:
            heap = self._read_heap()
            if heap is not None:
                buffer[start] = heap
        buffer[start + 1] = self._process.memory_info().rss
        if deep:
            uss = self._read_uss()
            if uss is not None:
                buffer[start + 2] = uss

    def reasons(self) -> dict[str, str]:
        """Say why heap or USS could not be read."""
        return self._reasons

    def _read_heap(self) -> int | None:
        import psutil

        try:
            heap = psutil.heap_info()
        except (AttributeError, NotImplementedError, OSError):
            return None
        # macOS and Windows report no mmapped part
        used: int = heap.heap_used + getattr(heap, "mmap_used", 0)
        return used

    def _read_uss(self) -> int | None:
        import psutil

        # psutil 8 moves the figure to memory_footprint
        read = getattr(self._process, "memory_footprint", None)
        try:
            figures = read() if read else self._process.memory_full_info()
            uss: int = figures.uss
        except (AttributeError, psutil.Error, OSError) as error:
            self._reasons["host.uss"] = f"not given here ({type(error).__name__})"
            return None
        return uss
