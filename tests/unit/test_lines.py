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


def test_the_line_whose_call_leaves_memory_is_found() -> None:
    heap = Heap()
    with Lines(heap.read) as lines:
        for _ in range(5):
            grow(heap, 10)
            wanted = line() + 1
            grow(heap, 1_000)
            lines.tick()

    assert lines.line_of(1_000) == (__file__, wanted)
    assert lines.line_of(100) is None


def test_a_call_belongs_to_the_line_that_left_the_users_code() -> None:
    heap = Heap()
    with Lines(heap.read) as lines:
        for _ in range(5):
            wanted = line() + 1
            call_back(lambda: grow(heap, 1_000))
            lines.tick()

    assert lines.line_of(1_000) == (__file__, wanted)


def test_a_call_that_raises_counts_as_well() -> None:
    heap = Heap()
    with Lines(heap.read) as lines:
        wanted = line() + 2
        with pytest.raises(ValueError, match="no"):
            fail(heap)
        lines.tick()

    assert lines.line_of(50) == (__file__, wanted)


def test_what_is_freed_again_does_not_pass_for_growth() -> None:
    heap = Heap()
    with Lines(heap.read) as lines:
        for _ in range(5):
            grow(heap, 5_000)
            heap.size -= 5_000
            wanted = line() + 1
            grow(heap, 600)
            lines.tick()

    assert lines.line_of(600) == (__file__, wanted)


def test_a_profiler_of_the_users_stays() -> None:
    def profile(*_: object) -> None: ...

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        with Lines(Heap().read):
            inside = sys.getprofile()
    finally:
        after = sys.getprofile()
        sys.setprofile(before)

    assert inside is after is profile
