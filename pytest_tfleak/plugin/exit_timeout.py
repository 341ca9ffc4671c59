"""End the process if its exit hangs, for example in TensorFlow's destructors.

When the interpreter shuts down, Python's threads stop running before the destructors
of C++ do. So on Linux a timer of the C library ends the process: it needs no Python.
Elsewhere a thread does, which cannot end a hang that comes so late.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import sleep
from typing import Any

#: In the C library of Linux.
_CLOCK_MONOTONIC, _SIGEV_THREAD = 1, 2


class ExitTimeout:
    """Gives the process some seconds to exit, from when the interpreter shuts down.

    A run in a process that goes on, such as ``pytest.main()`` in a script, does not end
    it.
    """

    def __init__(self, seconds: float, status: Callable[[], int]) -> None:
        self._seconds = seconds
        self._status = status
        self._pid = os.getpid()
        self._is_armed = False

    def prepare(self) -> None:
        """Start the clock when the interpreter shuts down."""
        atexit.register(self._arm)
        # earlier: before it waits for other threads, which may hang as well
        register: Any = getattr(threading, "_register_atexit", None)
        if register is not None:
            with suppress(RuntimeError):  # it is shutting down already
                register(self._arm)

    def _arm(self) -> None:
        if self._is_armed or os.getpid() != self._pid:
            return
        self._is_armed = True
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
        if not _start_timer(self._seconds, self._status()):
            thread = threading.Thread(target=self._end, daemon=True)
            with suppress(RuntimeError):
                thread.start()

    def _end(self) -> None:
        sleep(self._seconds)
        os._exit(self._status())


def _start_timer(seconds: float, status: int) -> bool:
    """Have the C library call ``_exit(status)`` later; return whether it will."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        create, start = library.timer_create, library.timer_settime
        leave = ctypes.cast(library._exit, ctypes.c_void_p)
    except (ImportError, AttributeError, OSError):
        return False

    class Event(ctypes.Structure):
        _fields_ = (
            ("value", ctypes.c_void_p),  # a union with an int
            ("signal", ctypes.c_int),
            ("notify", ctypes.c_int),
            ("function", ctypes.c_void_p),
            ("attributes", ctypes.c_void_p),
            ("rest", ctypes.c_char * 64),
        )

    whole = int(seconds)
    times = (ctypes.c_long * 4)(0, 0, whole, max(1, int((seconds - whole) * 1e9)))
    event, timer = Event(), ctypes.c_void_p()
    event.value, event.notify, event.function = status, _SIGEV_THREAD, leave.value
    if create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        return False
    return not start(timer, 0, times, None)
