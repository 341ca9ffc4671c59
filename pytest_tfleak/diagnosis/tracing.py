"""Python's memory of who allocates, for as long as there is time for it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import _thread
import tracemalloc

from pytest_tfleak.diagnosis.origins import DEPTH


class Tracing:
    """A context manager that traces, and stops in mid-iteration when time is up.

    A body that allocates a lot becomes a hundred times slower: with ``is_on=False``
    nothing is traced. Tracing of somebody else's is left on.
    """

    def __init__(self, seconds: float, *, is_on: bool = True) -> None:
        self._seconds = max(0.0, seconds)
        self._starts = is_on and not tracemalloc.is_tracing()
        self._is_timed = False
        self._left = _thread.allocate_lock()
        self._ended = _thread.allocate_lock()

    def __enter__(self) -> Tracing:
        if self._starts:
            tracemalloc.start(DEPTH)
            self._left.acquire()
            self._ended.acquire()
            self._is_timed = True
            # a Thread would be one more in Python's table
            _thread.start_new_thread(self._watch_the_clock, ())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_the_clock()
        if self._starts:
            tracemalloc.stop()

    def stop_the_clock(self) -> None:
        """Keep what was traced until the end: the body runs no more."""
        if self._is_timed:
            self._is_timed = False
            self._left.release()
            self._ended.acquire()

    def _watch_the_clock(self) -> None:
        if not self._left.acquire(timeout=min(self._seconds, _thread.TIMEOUT_MAX)):
            tracemalloc.stop()
        self._ended.release()
