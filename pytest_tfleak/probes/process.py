"""Count what the process holds besides memory: threads, descriptors, children.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
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
_THREADS, _DESCRIPTORS = "/proc/self/task", "/proc/self/fd"


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

    @cached_property
    def _count_threads(self) -> Callable[[], int]:
        return make_thread_reader()

    @cached_property
    def _count_descriptors(self) -> Callable[[], int] | None:
        return make_descriptor_reader()

    def signals(self) -> Sequence[Signal]:
        """Return the signals of the process."""
        return SIGNALS

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the counts, and the children's memory if ``deep`` is true."""
        buffer[start] = self._count_threads()
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
        rooms = (descriptor_room(), thread_room(self._count_threads))
        return [room for room in rooms if room is not None]

    def _read_fds(self) -> int | None:
        import psutil

        count = self._count_descriptors
        try:
            return None if count is None else count()
        except (psutil.Error, OSError) as error:
            self._reasons["process.fds"] = f"not given here ({type(error).__name__})"
            return None


def make_thread_reader() -> Callable[[], int]:
    """Return a function that counts the threads.

    On Linux, a folder has a link for each: that is one call of the system, where psutil
    reads all that the kernel tells of the process.
    """
    import psutil

    count = psutil.Process().num_threads
    with suppress(psutil.Error, OSError):
        if _count_links() == count():
            return _count_links
    return count


def make_descriptor_reader() -> Callable[[], int] | None:
    """Return a function that counts the open descriptors; on Windows, the handles.

    Return None if nothing counts them.
    """
    import psutil

    process = psutil.Process()
    count: Callable[[], int] | None = getattr(process, "num_fds", None)
    if count is None:
        return getattr(process, "num_handles", None)
    with suppress(psutil.Error, OSError):
        if _count_listed() == count():
            return _count_listed
    return count


def _count_links() -> int:
    # two are of the folder itself
    return os.stat(_THREADS).st_nlink - 2  # noqa: PTH116 (Path.stat is slower)


def _count_listed() -> int:
    # Not the size of the folder, which Linux has since 6.2: that also counts what a
    # thread has reserved that waits in accept().
    return len(os.listdir(_DESCRIPTORS))  # noqa: PTH208 (iterdir is slower)


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
