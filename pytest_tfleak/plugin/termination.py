"""End a run as Ctrl-C does when the system asks for it, so that reports are written.

Python handles a signal only between two of its instructions, so C code that hangs would
keep the process alive. A thread ends it then. ``faulthandler`` wakes the thread, as its
handler is written in C: ``signal.set_wakeup_fd`` would collide with event loops, which
set it too (Trio warns if it is set).
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
import threading
from contextlib import suppress
from types import FrameType

import pytest

_TEXT = "the process received SIGTERM"
#: How long the main thread may take to react: so many times so many seconds. After the
#: first of them, a second signal ends the process at once.
_TIMES, _SECONDS = 10, 1.0


class Termination:
    """Turns SIGTERM into KeyboardInterrupt, unless somebody else handles it."""

    def __init__(self) -> None:
        self._was_received = False
        self._handles_fork = False
        self._watchdog: _Watchdog | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Handle the signal once there is a verdict that would be lost.

        That is asked again after each test: asyncio, for one, does not restore the
        handler that was there before its own.
        """
        if getattr(report, "tfleak", None):
            self.install()

    def install(self) -> None:
        """Handle the signal from now on, in the main thread."""
        if self._was_received:
            return  # the next one ends the process
        if threading.current_thread() is not threading.main_thread():
            return  # only there can it be handled
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        self._stop_watchdog()
        signal.signal(signal.SIGTERM, self._interrupt)
        if not hasattr(os, "register_at_fork"):
            return  # on Windows
        with suppress(ImportError, AttributeError, OSError, RuntimeError):
            self._watchdog = _Watchdog()
        if not self._handles_fork:
            self._handles_fork = True
            os.register_at_fork(after_in_child=self.restore)

    def restore(self) -> None:
        """Restore the earlier handler, unless there is another one by now."""
        self._stop_watchdog()
        if signal.getsignal(signal.SIGTERM) == self._interrupt:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._was_received = True
        self.restore()  # a second signal ends the process at once
        raise KeyboardInterrupt(_TEXT)

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None


class _Watchdog:
    """Ends the process if its main thread does not react to SIGTERM."""

    def __init__(self) -> None:
        import ctypes

        self._set_handler = ctypes.CDLL(None).signal  # in any thread, unlike Python's
        self._set_handler.argtypes = (ctypes.c_int, ctypes.c_void_p)
        self._pid = os.getpid()
        self._reacted = threading.Event()
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        # none of threading's, which tests may list or count
        _thread.start_new_thread(self._watch, (reader,))
        faulthandler.register(signal.SIGTERM, self._writer, False, chain=True)

    def stop(self) -> None:
        """Stop, as the signal is handled or the run is over."""
        faulthandler.unregister(signal.SIGTERM)
        self._reacted.set()
        with suppress(OSError):  # a test may have closed it
            if os.getpid() == self._pid:
                os.write(self._writer, b"\n")  # wakes the thread
            os.close(self._writer)

    def _watch(self, reader: int) -> None:
        with suppress(OSError):
            os.read(reader, 1)
            os.close(reader)
        times = 0
        while not self._reacted.wait(_SECONDS):
            self._set_handler(signal.SIGTERM, None)  # SIG_DFL
            times += 1
            if times >= _TIMES:
                os.kill(self._pid, signal.SIGTERM)
