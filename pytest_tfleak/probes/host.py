"""Read host memory of this process: heap in use, RSS without file pages, and USS.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.heap import HeapReader
from pytest_tfleak.probes.heap import find_heap_reader
from pytest_tfleak.probes.heap import why_unread
from pytest_tfleak.probes.room import Room
from pytest_tfleak.probes.room import make_memory_reader
from pytest_tfleak.probes.room import memory_rooms
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal

if TYPE_CHECKING:
    import psutil  # imported late: it takes 5 ms, which pytest's header can save

SIGNALS = (make_signal("host.heap"), make_signal("host.rss"), make_signal("host.uss"))


class HostProbe(Probe):
    """Reads the heap, which decides, RSS, which decides if the heap cannot, and USS."""

    name = "host"
    is_readable_anytime = True

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @cached_property
    def _process(self) -> psutil.Process:
        import psutil

        return psutil.Process()

    @cached_property
    def _read_rss(self) -> Callable[[], int]:
        return find_rss_reader()

    @cached_property
    def _heap(self) -> HeapReader | None:
        return find_heap_reader()

    def signals(self) -> Sequence[Signal]:
        """Return the signals of host memory."""
        if self._heap is None:
            self._reasons["host.heap"] = why_unread()
        return SIGNALS

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write heap and RSS, and USS, which is slow, if ``deep`` is true."""
        heap = None if self._heap is None else self._heap.read()
        if heap is not None:
            buffer[start] = heap
        buffer[start + 1] = self._read_rss()
        if deep:
            uss = self._read_uss()
            if uss is not None:
                buffer[start + 2] = uss

    def reasons(self) -> dict[str, str]:
        """Return why heap or USS could not be read."""
        return self._reasons

    def remark(self) -> str | None:
        """Return whose heap is read, or why RSS decides instead."""
        if self._heap is None:
            return f"{why_unread()}: RSS decides"
        return f"heap of {self._heap.name}" if self._heap.name else None

    def rooms(self) -> Sequence[Room]:
        """Return the room for memory and for addresses."""
        return memory_rooms()

    def _read_uss(self) -> int | None:
        import psutil

        # psutil 8 has the figure in memory_footprint
        read = getattr(self._process, "memory_footprint", None)
        try:
            figures = read() if read else self._process.memory_full_info()
            uss: int = figures.uss
        except (AttributeError, psutil.Error, OSError) as error:
            self._reasons["host.uss"] = f"not given here ({type(error).__name__})"
            return None
        return uss


def find_rss_reader() -> Callable[[], int]:
    """Return a function that reads RSS, without file pages if the kernel shows them.

    All readings must use the same function, as a change would look like a step.
    """
    return make_memory_reader()
