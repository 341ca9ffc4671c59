"""Find the lines whose operations TensorFlow has not executed before.

TensorFlow keeps a kernel for each operation with other attributes: a name, a seed, a
traced function. A line that runs a new one in each iteration adds a kernel each time.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import suppress
from functools import wraps
from typing import Any

from pytest_tfleak.tf import names
from pytest_tfleak.tf.names import Name
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
            self._patch(names.FAST_PATH, self._noting_fast_path)
            for name in (names.EXECUTE, names.EXECUTE_CANCELLABLE):
                self._patch(name, self._noting_execute)
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

    def _patch(self, name: Name, make: Any) -> None:
        if name.find() is not None:
            self._patches.set(name.owner(), name.attribute, make)

    def _noting_fast_path(self, original: Any) -> Any:
        @wraps(original)
        def execute(context: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
            # the first of them is a name for the output, which makes no kernel
            self._note(operation, _of_arguments(operation, args[1:]))
            return original(context, operation, *args, **kwargs)

        return execute

    def _noting_execute(self, original: Any) -> Any:
        @wraps(original)
        def execute(handle: Any, device: Any, operation: Any, *args: Any) -> Any:
            self._note(operation, _of_lists(device, *args))
            return original(handle, device, operation, *args)

        return execute

    def _note(self, operation: object, parts: Iterable[object]) -> None:
        if not self._is_on:
            return
        with suppress(Exception):  # our errors must not fail the test
            key = (str(operation), *parts)
            if key not in self._seen:
                self._seen.add(key)
                frames = users_frames(sys._getframe(2))
                if frames:
                    self._in_iteration[tuple(frames)] += 1


def _line(stack: _Stack) -> Frame:
    return stack[0]


def _of_arguments(operation: str, arguments: tuple[Any, ...]) -> Iterator[object]:
    """Yield what a kernel depends on: types of inputs, names and values of attributes.

    Attributes come last, each as its name and its value.
    """
    inputs = len(names.OPERATION_DEFINITION.get()(operation).input_arg)
    yield from map(_kind, arguments[:inputs])
    yield from map(_value, arguments[inputs:])


def _of_lists(
    device: object, inputs: Any = (), attributes: Any = (), *_: object
) -> Iterator[object]:
    yield device
    yield from map(_kind, inputs or ())
    yield from map(_value, attributes or ())


def _kind(value: Any) -> object:
    if isinstance(value, list | tuple):
        return tuple(map(_kind, value))
    return type(value).__name__, str(getattr(value, "dtype", ""))


def _value(value: Any) -> str:
    """Return what tells an attribute's value from others: of a function, its name."""
    return str(getattr(value, "name", value))
