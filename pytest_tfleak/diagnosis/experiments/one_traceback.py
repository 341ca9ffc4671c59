"""Take away the tracebacks that TensorFlow keeps of operations in graphs.

Each operation that is added to a graph has the traceback of the Python code that added
it. TensorFlow never frees the code objects in it, even when the graph is gone. That is
nothing as long as the code stays the same. But a model with a Lambda layer, once it is
loaded, has code of its own, and so has what pickle or ``exec`` makes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import signature
from types import FrameType
from typing import Any

from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.tf import names


class OneTraceback(Intervention):
    """Give all operations in graphs the same traceback."""

    name = "one-traceback"
    words = "with one traceback for all operations in graphs"

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self._traceback: Any = None
        # Those that TensorFlow keeps, so that no other object has the same id.
        self._code: set[int] = set()
        self._before: int | None = None  # how many those were an iteration ago

    def _begin(self) -> None:
        self._traceback = names.EXTRACT_STACK.get()()
        module = names.EXTRACT_STACK.owner()
        self._patch(module, names.EXTRACT_STACK.attribute, self._same)

    def _same(self, original: Callable[..., Any]) -> Callable[..., Any]:
        has_levels = bool(signature(original).parameters)  # since TensorFlow 2.14

        def extract_stack(stacklevel: int = 1) -> Any:
            if self.acts:
                return self._traceback
            with self._guarded():
                self._note(sys._getframe(1))
            if not has_levels:
                return original()
            return original(stacklevel + 1)  # without this function

        return extract_stack

    def _note(self, frame: FrameType | None) -> None:
        while frame is not None:
            self._code.add(id(frame.f_code))
            frame = frame.f_back

    def _after(self) -> None:
        """Count an iteration with new code; in the first one, all of it is new."""
        if self._before is not None and len(self._code) > self._before:
            self.seen += 1
        self._before = len(self._code)
