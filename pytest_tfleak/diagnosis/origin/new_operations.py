"""Find the lines whose operations TensorFlow has not executed before.

TensorFlow keeps a kernel for each operation with other attributes: a name, a seed, a
traced function. A line that runs a new one in each iteration adds a kernel each time.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

from pytest_tfleak.tf.operations import hook_operations
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import users_frames

#: What is new in so many iterations after the first is new in each.
_FEWEST = 2

_Stack = tuple[Frame, ...]
_Key = tuple[object, ...]


class NewOperations:
    """Notes the lines of user code that execute new operations inside its block.

    Only what runs eagerly is seen, on any thread.
    """

    def __init__(self) -> None:
        self._patches = Patches()
        self._seen: set[_Key] = set()
        self._in_iteration: Counter[_Stack] = Counter()
        #: New operations by stack, one counter for each iteration after the first.
        self._by_iteration: list[Counter[_Stack]] = []
        self._is_first = True
        self._is_on = False  # off for hooks that stay because another patch wraps them

    def __enter__(self) -> NewOperations:
        self._is_on = True
        try:
            hook_operations(self._patches, self._note)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._is_on = False
        self._patches.undo()

    def tick(self) -> None:
        """Note that an iteration has ended."""
        if not self._is_first:
            self._by_iteration.append(self._in_iteration)
        self._is_first = False
        self._in_iteration = Counter()

    def stack(self) -> list[Frame]:
        """Return the line with most new operations in each iteration, and its callers.

        The innermost line comes first. Return [] if no line has some in each.
        """
        if len(self._by_iteration) < _FEWEST:
            return []
        in_each = set.intersection(*(set(map(_line, n)) for n in self._by_iteration))
        if not in_each:
            return []
        stacks: Counter[_Stack] = sum(self._by_iteration, Counter())
        lines: Counter[Frame] = Counter()
        for stack, count in stacks.items():
            if _line(stack) in in_each:
                lines[_line(stack)] += count
        [(line, _)] = lines.most_common(1)
        longest: _Stack = max((s for s in stacks if _line(s) == line), key=len)
        return list(longest)

    def _note(
        self, operation: object, parts: Iterator[object], frame: FrameType
    ) -> None:
        if not self._is_on:
            return
        with suppress(Exception):  # our errors must not fail the test
            key = (str(operation), *parts)
            if key not in self._seen:
                self._seen.add(key)
                frames = users_frames(frame)
                if frames:
                    self._in_iteration[tuple(frames)] += 1


def _line(stack: _Stack) -> Frame:
    return stack[0]
