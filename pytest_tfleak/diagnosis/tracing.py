"""Python's memory of who allocates, for as long as there is time for it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import _thread
import tracemalloc

from pytest_tfleak.diagnosis.origins import DEPTH


class Tracing:
    """A context manager that traces, and stops in mid-iteration when time is up.

    A body that allocates a lot becomes a hundred times slower. Tracing of somebody
    else's is left on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = max(0.0, seconds)
        self._was_tracing = tracemalloc.is_tracing()
        self._left = _thread.allocate_lock()
        self._ended = _thread.allocate_lock()

    def __enter__(self) -> Tracing:
        if not self._was_tracing:
            tracemalloc.start(DEPTH)
            self._left.acquire()
            self._ended.acquire()
            # a Thread would be one more in Python's table
            _thread.start_new_thread(self._watch_the_clock, ())
        return self

    def __exit__(self, *_: object) -> None:
        if not self._was_tracing:
            self._left.release()
            self._ended.acquire()
            tracemalloc.stop()

    def _watch_the_clock(self) -> None:
        if not self._left.acquire(timeout=min(self._seconds, _thread.TIMEOUT_MAX)):
            tracemalloc.stop()
        self._ended.release()
