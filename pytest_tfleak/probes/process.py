"""Count what the process holds besides memory: threads, descriptors, children.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.room import Room
from pytest_tfleak.probes.room import descriptor_room
from pytest_tfleak.probes.room import thread_room
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal

if TYPE_CHECKING:
    import psutil  # imported late: it takes 5 ms, which pytest's header can save

SIGNALS = (
    make_signal("process.threads"),
    make_signal("process.fds"),
    make_signal("process.children"),
    make_signal("process.children.rss"),
)


class ProcessProbe(Probe):
    """Reads the operating system's counts for this process."""

    name = "process"
    is_readable_anytime = True

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @cached_property
    def _process(self) -> psutil.Process:
        import psutil

        return psutil.Process()

    def signals(self) -> Sequence[Signal]:
        """Return the signals of the process."""
        return SIGNALS

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the counts, and the children's memory if ``deep`` is true."""
        buffer[start] = self._process.num_threads()
        if "process.fds" not in self._reasons:
            fds = self._read_fds()
            if fds is not None:
                buffer[start + 1] = fds
        if has_no_children():
            buffer[start + 2] = 0
            if deep:
                buffer[start + 3] = 0
            return
        children = self._process.children()
        buffer[start + 2] = len(children)
        if deep:
            buffer[start + 3] = sum(map(_rss, children))

    def reasons(self) -> dict[str, str]:
        """Return why descriptors could not be counted."""
        return self._reasons

    def rooms(self) -> Sequence[Room]:
        """Return the room for descriptors and threads, where they have a limit."""
        rooms = (descriptor_room(), thread_room(self._process.num_threads))
        return [room for room in rooms if room is not None]

    def _read_fds(self) -> int | None:
        import psutil

        # Windows counts handles instead
        read = getattr(self._process, "num_fds", None)
        read = read or getattr(self._process, "num_handles", None)
        try:
            return None if read is None else read()
        except (psutil.Error, OSError) as error:
            self._reasons["process.fds"] = f"not given here ({type(error).__name__})"
            return None


def has_no_children() -> bool:
    """Ask the kernel whether this process has no children; takes a microsecond."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    except OSError:
        return False
    return False


def _rss(child: psutil.Process) -> int:
    import psutil

    try:
        rss: int = child.memory_info().rss
    except psutil.Error:
        return 0
    return rss
