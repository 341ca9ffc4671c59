"""End a run as Ctrl-C does when the system asks for it, so that reports are written."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType

_TEXT = "the process received SIGTERM"


class Termination:
    """Turns SIGTERM into KeyboardInterrupt, unless somebody else handles it."""

    def __init__(self) -> None:
        self._is_forked = False

    def install(self) -> None:
        """Handle the signal from now on, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return  # only there can it be handled
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._interrupt)
            if hasattr(os, "register_at_fork") and not self._is_forked:
                self._is_forked = True
                os.register_at_fork(after_in_child=self.restore)

    def restore(self) -> None:
        """Restore the earlier handler, unless there is another one by now."""
        if signal.getsignal(signal.SIGTERM) == self._interrupt:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.restore()  # a second signal ends the process at once
        raise KeyboardInterrupt(_TEXT)
