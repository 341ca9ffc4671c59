"""The line in which a figure grows is found, in any thread."""

from __future__ import annotations

import _thread
import sys
import threading
import types
from collections.abc import Callable

import pytest

from pytest_tfleak.diagnosis.origin.line_tracer import LineTracer


class Heap:
    """A heap that calls of a library make grow."""

    size = 0

    def read(self) -> int:
        return self.size


def as_library(source: str) -> Callable[..., None]:
    """Return the function ``f`` of some code, as if it were in a library."""
    names: dict[str, Callable[..., None]] = {}
    exec(compile(source, "/lib/site-packages/library.py", "exec"), names)
    return names["f"]


grow = as_library("def f(heap, size): heap.size += size")
call_back = as_library("def f(call): call()")
fail = as_library("def f(heap): heap.size += 50; raise ValueError('no')")


def line() -> int:
    return sys._getframe(1).f_lineno


def run(heap: Heap, body: Callable[[], object], times: int = 5) -> LineTracer:
    with LineTracer(heap.read) as lines:
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

    assert lines.stack_of(1_000)[0] == (__file__, wanted)
    assert lines.stack_of(100) == []


def test_a_line_without_a_call_that_python_sees() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        wanted = line() + 1
        heap.size += 1_000

    assert run(heap, body).stack_of(1_000)[0] == (__file__, wanted)


def test_the_lines_that_led_there_follow() -> None:
    heap, wanted = Heap(), 0

    def inner() -> None:
        heap.size += 1_000

    def body() -> None:
        nonlocal wanted
        wanted = line() + 1
        call_back(inner)

    stack = run(heap, body).stack_of(1_000)
    assert [number for _, number in stack[:2]] == [
        inner.__code__.co_firstlineno + 1,
        wanted,
    ]


def test_what_takes_the_place_of_something_shorter_counts_what_it_adds() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        wanted = line() + 1
        grow(heap, 50_000), grow(heap, -49_000)

    assert run(heap, body).stack_of(1_000)[0] == (__file__, wanted)


def test_what_a_callback_leaves_belongs_to_its_own_line() -> None:
    heap, wanted = Heap(), 0

    def callback() -> None:
        nonlocal wanted
        wanted = line() + 1
        grow(heap, 1_000)

    def body() -> None:
        call_back(callback)
        grow(heap, 10)

    assert run(heap, body).stack_of(1_000)[0] == (__file__, wanted)


def test_a_line_in_a_thread_of_the_users_is_found() -> None:
    heap, wanted = Heap(), 0

    def work() -> None:
        nonlocal wanted
        grow(heap, 10)
        wanted = line() + 1
        grow(heap, 1_000)

    def body() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert run(heap, body).stack_of(1_000)[0] == (__file__, wanted)


def test_threads_that_take_turns_have_lines_of_their_own() -> None:
    heap, wanted = Heap(), 0
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(60)

    def body() -> None:
        nonlocal wanted
        started.clear()
        go_on.clear()
        thread = threading.Thread(target=work)
        thread.start()
        started.wait(60)
        wanted = line() + 1
        heap.size += 1_000
        go_on.set()
        thread.join()

    assert run(heap, body).stack_of(1_000)[0] == (__file__, wanted)


def test_a_line_that_tensorflow_calls_in_a_thread_of_its_own_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heap, wanted = Heap(), 0

    class Table:
        def __call__(self, function: Callable[[], None]) -> None:
            function()

    module = types.ModuleType("script_ops")
    module._py_funcs = table = Table()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow.python.ops.script_ops", module)

    def function() -> None:
        nonlocal wanted
        wanted = line() + 1
        grow(heap, 1_000)

    def body() -> None:
        done = _thread.allocate_lock()
        done.acquire()

        def run_in_c() -> None:
            table(function)
            done.release()

        _thread.start_new_thread(run_in_c, ())
        done.acquire()

    call = Table.__call__
    assert run(heap, body).stack_of(1_000)[0] == (__file__, wanted)
    assert Table.__call__ is call


def test_a_thread_that_goes_on_is_traced_no_more() -> None:
    heap, go_on, tracers = Heap(), threading.Event(), []
    before = threading.gettrace()

    def work() -> None:
        go_on.wait(60)
        tracers.append(sys.gettrace())

    with LineTracer(heap.read):
        thread = threading.Thread(target=work)
        thread.start()
    go_on.set()
    thread.join()

    assert tracers == [None]
    assert threading.gettrace() is before


def test_a_call_that_raises_counts_as_well() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        wanted = line() + 2
        with pytest.raises(ValueError, match="no"):
            fail(heap)

    assert run(heap, body).stack_of(50)[0] == (__file__, wanted)


def test_what_is_freed_again_does_not_pass_for_growth() -> None:
    heap, wanted = Heap(), 0

    def body() -> None:
        nonlocal wanted
        grow(heap, 5_000)
        heap.size -= 5_000
        wanted = line() + 1
        grow(heap, 600)

    assert run(heap, body).stack_of(600)[0] == (__file__, wanted)


def test_it_ends_when_its_time_is_up() -> None:
    heap = Heap()

    def body() -> None:
        grow(heap, 600)

    with LineTracer(heap.read, until=0) as lines:
        body()
        lines.tick()

    assert lines.stack_of(600) == []


def test_a_tracer_of_the_users_comes_back() -> None:
    def trace(*_: object) -> None: ...

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with LineTracer(Heap().read):
            pass
        after = sys.gettrace()
    finally:
        sys.settrace(before)

    assert after is trace
