"""The line that puts objects into a container that grows is found."""

from __future__ import annotations

import functools
import heapq
import itertools
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import ClassVar
from typing import cast

import pytest

from pytest_tfleak.diagnosis.origin.stores import count_renewals
from pytest_tfleak.diagnosis.origin.stores import find_lines
from pytest_tfleak.diagnosis.origin.stores import find_stores
from pytest_tfleak.probes.census import full_name
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
    lines = [found.line_of(first), found.line_of(second)]
    assert lines[0] is not None and lines[1] is not None
    assert lines[1].line == lines[0].line + 1


class Label:
    """An object of another type."""


class Held:
    """The objects that pile up."""


Bodies = list[tuple[Callable[[], object], Any]]


def bodies() -> Bodies:
    """Return bodies in which several lines add; ``# keeps`` marks what stays."""
    kept: list[Any] = []
    table: dict[Any, Any] = {}
    queue: deque[Any] = deque()
    heap: list[Any] = []
    few: set[Any] = set()
    turn = itertools.count()

    def temporary_first() -> None:
        temporary = Held()
        kept.append(temporary)
        kept.append(Held())  # keeps
        kept.remove(temporary)

    def temporary_last() -> None:
        kept.append(Held())  # keeps
        kept.append(Held())
        kept.pop()

    def pruned_by_the_next_call() -> None:
        kept[:] = kept[:-1]
        kept.append(Held())  # keeps
        kept.append(Held())

    def another_kind_stays_too() -> None:
        kept.append(Label())
        kept.append(Held())  # keeps

    def in_front() -> None:
        kept.append(Held())
        kept.insert(0, Held())  # keeps
        kept.pop()

    def reserved() -> None:
        kept.append(None)
        kept[-1] = Held()  # keeps

    def reserved_key() -> None:
        key = next(turn)
        table[key] = None
        table[key] = Held()  # keeps

    def both_ends() -> None:
        queue.append(Held())  # keeps
        queue.appendleft(Held())
        queue.popleft()

    def in_a_heap() -> None:
        heapq.heappush(heap, (0, next(turn), []))
        heapq.heappush(heap, (1, next(turn), []))  # keeps
        heapq.heappop(heap)

    def in_a_set() -> None:
        temporary = Held()
        few.add(temporary)
        few.add(Held())  # keeps
        few.discard(temporary)

    return [
        (temporary_first, kept),
        (temporary_last, kept),
        (pruned_by_the_next_call, kept),
        (another_kind_stays_too, kept),
        (in_front, kept),
        (reserved, kept),
        (reserved_key, table),
        (both_ends, queue),
        (in_a_heap, heap),
        (in_a_set, few),
    ]


@pytest.mark.parametrize("place", range(len(bodies())))
def test_of_two_lines_the_one_whose_items_stay(place: int) -> None:
    body, container = bodies()[place]
    loop = cast(Loop, Repeats(body))
    found = find_stores(loop, [container], 4, [], NO_DEADLINE)
    kind = "builtins.tuple" if body.__name__ == "in_a_heap" else full_name(Held)
    line = found.line_of(container, kind)
    assert line is not None and line.text.endswith("# keeps"), line


def test_each_kind_has_its_own_line() -> None:
    kept: list[object] = []

    def body() -> None:
        kept.append(Label())
        kept.append(Held())

    found = find_stores(cast(Loop, Repeats(body)), [kept], 3, [], NO_DEADLINE)
    label = found.line_of(kept, full_name(Label))
    held = found.line_of(kept, full_name(Held))
    assert label is not None and label.text == "kept.append(Label())"
    assert held is not None and held.text == "kept.append(Held())"


def test_items_of_a_list_that_is_built_anew_are_told_apart() -> None:
    class Owner:
        items: ClassVar[list[object]] = []

    def body() -> None:
        temporary = Held()
        Owner.items = [*Owner.items, temporary]
        Owner.items = [*Owner.items, Held()]  # keeps
        Owner.items = [item for item in Owner.items if item is not temporary]

    loop = cast(Loop, Repeats(body))
    figures = [count_renewals(Owner, "items")]
    [found], _ = find_lines(loop, figures, 3, [], NO_DEADLINE)
    line = found.of(["builtins.list", full_name(Held)])
    assert line is not None and line.text.endswith("# keeps")


def test_in_a_container_of_too_many_items_the_growth_tells() -> None:
    many: list[object] = [None] * 10_000

    def body() -> None:
        many.append(Held())

    found = find_stores(cast(Loop, Repeats(body)), [many], 3, [], NO_DEADLINE)
    line = found.line_of(many, full_name(Held))
    assert line is not None and line.text == "many.append(Held())"


def test_noting_items_keeps_none_of_them() -> None:
    queue: deque[Any] = deque([Held()], maxlen=1)
    gone: list[weakref.ref[Held]] = []

    def body() -> None:
        held = Held()
        gone.append(weakref.ref(held))
        queue.append(held)

    class Looks(Repeats):
        def repeat(self, *arguments: Any) -> int:
            done = super().repeat(*arguments)
            assert [one() is None for one in gone] == [True, True, False]
            return done

    assert find_stores(cast(Loop, Looks(body)), [queue, gone], 3, [], NO_DEADLINE).lines


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
