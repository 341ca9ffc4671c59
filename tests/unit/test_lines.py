from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from pytest_tfleak.diagnosis.lines import Lines


class Heap:
    """A heap that a library's calls make grow."""

    size = 0

    def read(self) -> int:
        return self.size


def as_library(source: str) -> Callable[..., None]:
    """Return ``f`` of some code that lies in a library."""
    names: dict[str, Callable[..., None]] = {}
    exec(compile(source, "/lib/site-packages/library.py", "exec"), names)
    return names["f"]


grow = as_library("def f(heap, size): heap.size += size")
call_back = as_library("def f(call): call()")
fail = as_library("def f(heap): heap.size += 50; raise ValueError('no')")


def line() -> int:
    return sys._getframe(1).f_lineno


def run(heap: Heap, body: Callable[[], object], times: int = 5) -> Lines:
    with Lines(heap.read) as lines:
        for _ in range(times):
            body()
            lines.tick()
    return lines


def test_the_line_that_leaves_memory_is_found() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        grow(heap, 10)
        wanted = line() + 1
        grow(heap, 1_000)

    lines = run(heap, body)

    assert lines.line_of(1_000) == (__file__, wanted)
    assert lines.line_of(100) is None


def test_a_line_without_a_call_that_python_sees() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        wanted = line() + 1
        heap.size += 1_000

    assert run(heap, body).line_of(1_000) == (__file__, wanted)


def test_what_takes_the_place_of_something_shorter_counts_what_it_adds() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        wanted = line() + 1
        grow(heap, 50_000), grow(heap, -49_000)

    assert run(heap, body).line_of(1_000) == (__file__, wanted)


def test_what_a_callback_leaves_belongs_to_its_own_line() -> None:
    heap, wanted = Heap(), 0

    def callback() -> None:
        nonlocal wanted
        wanted = line() + 1
        grow(heap, 1_000)

    def body() -> None:
        call_back(callback)
        grow(heap, 10)

    assert run(heap, body).line_of(1_000) == (__file__, wanted)


def test_a_call_that_raises_counts_as_well() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        wanted = line() + 2
        with pytest.raises(ValueError, match="no"):
            fail(heap)

    assert run(heap, body).line_of(50) == (__file__, wanted)


def test_what_is_freed_again_does_not_pass_for_growth() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        grow(heap, 5_000)
        heap.size -= 5_000
        wanted = line() + 1
        grow(heap, 600)

    assert run(heap, body).line_of(600) == (__file__, wanted)


def test_it_ends_when_its_time_is_up() -> None:
    heap = Heap()

    def body() -> None:
        grow(heap, 600)

    with Lines(heap.read, until=0) as lines:
        body()
        lines.tick()

    assert lines.line_of(600) is None


def test_a_tracer_of_the_users_comes_back() -> None:
    def trace(*_: object) -> None: ...

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with Lines(Heap().read):
            pass
        after = sys.gettrace()
    finally:
        sys.settrace(before)

    assert after is trace
