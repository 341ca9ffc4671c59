"""Find the line of user code in which a figure grows.

Read the figure, such as the size of the heap or the length of a list, at each line of
user code. The difference between two readings is what the line left, including all that
it calls in libraries and in C. Compare the sum with the growth that the judge found:
memory that is freed again later is rarely of just that size.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import threading
from _thread import allocate_lock
from _thread import get_ident
from collections import Counter
from collections.abc import Callable
from math import inf
from time import perf_counter
from types import FrameType
from typing import Any

from pytest_tfleak.tf import names
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import is_users

#: A line is the origin if it leaves from half to twice the growth that was found.
_LEAST, _MOST = 0.5, 2.0
#: The running lines of a thread's call stack, outermost first.
Lines = tuple[Frame, ...]
#: Receives the lines that ran, and the places of the figures that they changed.
AfterLine = Callable[[Lines, list[int]], None]


class LineTracer:
    """Reads figures at each line of user code that runs inside its ``with`` block.

    It follows the thread of the block, threads started in the block, and Python
    functions that TensorFlow calls in threads of its own. ``until`` is a time on
    ``perf_counter``'s clock, after which it stops reading. Meanwhile, it replaces the
    tracer of a debugger or of coverage.
    """

    def __init__(
        self,
        *reads: Callable[[], int],
        until: float = inf,
        after_line: AfterLine | None = None,
    ) -> None:
        self._reads = reads
        self._until = until
        self._after_line = after_line
        self._others: tuple[Any, Any] = (None, None)  # the tracers that it replaces
        self._patches = Patches()
        self._lock = allocate_lock()
        self._running: dict[int, list[Frame]] = {}  # Lines, by thread
        self._last = 0  # the thread that ran last
        self._before = [0] * len(reads)  # the last readings
        self._grown: list[Counter[Lines]] = [Counter() for _ in reads]
        self._iterations = 0

    def __enter__(self) -> LineTracer:
        self._others = (sys.gettrace(), threading.gettrace())
        self._last = get_ident()
        self._read()
        table = names.PY_FUNCTIONS.find()
        if table is not None:
            self._patches.set(type(table), "__call__", self._traced)
        threading.settrace(self._enter_frame)
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *_: object) -> None:
        self._until = -inf  # stops tracing in threads that continue
        self._reads = ()  # frames that are kept refer to this tracer
        self._after_line = None
        tracer, of_threads = self._others
        threading.settrace(of_threads)
        sys.settrace(tracer)
        self._patches.undo()

    def tick(self) -> None:
        """Note that an iteration has ended."""
        self._running.pop(get_ident(), None)
        self._iterations += 1

    def stack_of(self, growth: float, figure: int = 0) -> list[Frame]:
        """Return the line that leaves about this much per iteration, and its callers.

        ``figure`` is the place of the figure among the readers. The innermost line
        comes first. Return [] if no line fits.
        """
        by_line: Counter[Frame] = Counter()
        for lines, grown in self._grown[figure].items():
            by_line[lines[-1]] += grown
        wanted = growth * max(1, self._iterations)
        fitting = [
            (abs(grown - wanted), line)
            for line, grown in by_line.items()
            if _LEAST * wanted <= grown <= _MOST * wanted
        ]
        if not fitting:
            return []
        _, line = min(fitting)
        grown_in = self._grown[figure].items()
        stacks = ((n, lines) for lines, n in grown_in if lines[-1] == line)
        return list(reversed(max(stacks)[1]))

    def _traced(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is traced in any thread that calls it."""

        def traced(*arguments: Any) -> Any:
            if sys.gettrace() is not None:
                return call(*arguments)
            sys.settrace(self._enter_frame)
            try:
                return call(*arguments)
            finally:
                sys.settrace(None)

        return traced

    def _enter_frame(self, frame: FrameType, event: str, _: Any) -> Any:
        if not is_users(frame.f_code.co_filename):
            return None  # library code counts towards the line that called it
        if self._is_over():
            return None
        with self._lock:
            self._note_growth()
            lines = self._running.setdefault(get_ident(), [])
            lines.append((frame.f_code.co_filename, frame.f_lineno))
            self._read()
        return self._follow_frame

    def _follow_frame(self, frame: FrameType, event: str, _: Any) -> Any:
        if self._is_over():
            return None
        with self._lock:
            self._note_growth()
            lines = self._running.get(get_ident())
            if lines and event == "line":
                lines[-1] = (frame.f_code.co_filename, frame.f_lineno)
            elif lines and event == "return":
                lines.pop()
            self._read()
        return self._follow_frame

    def _is_over(self) -> bool:
        if perf_counter() > self._until:
            sys.settrace(None)
            return True
        return False

    def _note_growth(self) -> None:
        """Attribute the growth since the last reading to the line that ran."""
        lines = self._running.get(get_ident())
        # a library's thread was probably started or woken by the thread that ran last
        lines = lines or self._running.get(self._last)
        self._last = get_ident()
        if not lines:
            return
        changed = []
        for place, read in enumerate(self._reads):
            grown = read() - self._before[place]
            if grown:
                changed.append(place)
                self._grown[place][tuple(lines)] += grown
        if self._after_line is not None:
            self._after_line(tuple(lines), changed)

    def _read(self) -> None:
        for place, read in enumerate(self._reads):
            self._before[place] = read()
