"""The line that puts objects into a container that grows is found."""

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import cast

import pytest

from pytest_tfleak.diagnosis.origin.stores import find_stores
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.verdict import Origin


class Repeats:
    """A loop that only calls the body."""

    def __init__(self, body: Callable[[], object]) -> None:
        self._body = body

    def repeat(
        self, iterations: int, after: Sequence[Callable[[], None]], deadline: Deadline
    ) -> int:
        for _ in range(iterations):
            self._body()
            for call in after:
                call()
        return iterations


def stored_at(body: Callable[[], object], *containers: Any) -> Origin | None:
    """Return the line that puts something into the containers, over three calls."""
    loop = cast(Loop, Repeats(body))
    found = find_stores(loop, containers, 3, [], NO_DEADLINE)
    assert found.iterations == 3 or not found.lines
    return next(filter(None, map(found.line_of, containers)), None)


def line() -> int:
    return sys._getframe(1).f_lineno


KEPT: list[object] = []
BY_NAME: dict[str, object] = {}
SEEN: set[int] = set()
LAST: deque[int] = deque()


@functools.cache
def load(number: int) -> object:
    return object()


def append() -> int:
    made = object()
    KEPT.append(made)
    return line() - 1


def put() -> int:
    BY_NAME[str(len(BY_NAME))] = object()
    return line() - 1


def add() -> int:
    SEEN.add(len(SEEN))
    return line() - 1


def push() -> int:
    LAST.append(1)
    return line() - 1


def cache() -> int:
    load(load.cache_info().currsize)
    return line() - 1


def over_several_lines() -> int:
    KEPT.append(
        [
            object(),
        ]
    )
    return line() - 5


def in_a_thread() -> int:
    found: list[int] = []

    def work() -> None:
        KEPT.append(object())
        found.append(line() - 1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    ("store", "container"),
    [
        (append, KEPT),
        (put, BY_NAME),
        (add, SEEN),
        (push, LAST),
        (cache, load),
        (over_several_lines, KEPT),
        (in_a_thread, KEPT),
    ],
)
def test_the_line_that_stores_is_found(
    store: Callable[[], int], container: object
) -> None:
    wanted = store()
    found = stored_at(store, container)
    assert found is not None
    assert (found.file, found.line) == (__file__, wanted)
    assert found.function.startswith(store.__name__)


def test_a_library_that_stores_counts_as_the_line_that_calls_it() -> None:
    names: dict[str, Any] = {}
    source = "KEPT = []\ndef keep(o):\n    KEPT.append(o)\n"
    exec(compile(source, "/lib/site-packages/library.py", "exec"), names)
    wanted = 0

    def body() -> None:
        nonlocal wanted
        names["keep"](object())
        wanted = line() - 1

    found = stored_at(body, names["KEPT"])
    assert found is not None and found.line == wanted


def test_a_line_whose_items_go_again_is_not_the_one() -> None:
    wanted = 0

    def body() -> None:
        nonlocal wanted
        KEPT.extend([1] * 5)
        del KEPT[-5:]
        KEPT.append(object())
        wanted = line() - 1

    found = stored_at(body, KEPT)
    assert found is not None and found.line == wanted


def test_without_growth_or_a_length_there_is_no_line() -> None:
    def body() -> None:
        KEPT.append(1)
        KEPT.pop()

    assert stored_at(body, KEPT) is None
    assert stored_at(append, object()) is None


def test_each_container_has_its_own_line() -> None:
    first: list[object] = []
    second: list[object] = []

    def body() -> None:
        first.append(object())
        second.append(object())

    loop = cast(Loop, Repeats(body))
    found = find_stores(loop, [first, second], 3, [], NO_DEADLINE)
    lines = [found.lines[id(first)].line, found.lines[id(second)].line]
    assert lines[1] == lines[0] + 1


def test_the_tracer_of_a_debugger_is_put_back() -> None:
    def tracer(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        stored_at(append, KEPT)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
