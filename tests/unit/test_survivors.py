"""What more iterations leave behind, in groups: who holds it, through what."""

from __future__ import annotations

import atexit
import functools
import gc
import itertools
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest

from pytest_tfleak.census import Census
from pytest_tfleak.diagnosis.containers import Containers
from pytest_tfleak.diagnosis.fields import last_of
from pytest_tfleak.diagnosis.group import CHAIN
from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.paths import Paths
from pytest_tfleak.diagnosis.places import Members
from pytest_tfleak.diagnosis.places import grouped
from pytest_tfleak.diagnosis.survivors import Watch
from pytest_tfleak.diagnosis.survivors import _run_in_thread
from pytest_tfleak.loop import Loop
from pytest_tfleak.plan import make_plan

STORE: list[Any] = []
ROW: tuple[Any, ...] = ()


class Kept:
    """What a signal counts in these tests."""

    def close(self) -> None:
        """Do nothing."""


class Model(Kept):
    """Something counted that holds other things."""

    def __init__(self, held: object) -> None:
        self.held = held


class Wrapper:
    def __init__(self, held: object) -> None:
        self.held = held


class Liar(list[Any]):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("ran")


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    yield
    STORE.clear()


def watch(body: Callable[[], object], **more: Any) -> list[Group]:
    """Return what five more iterations leave, of which ``Kept`` is counted."""
    loop = Loop(body, make_plan(iterations=5), [], Census())
    containers = Containers(loop)
    watched = Watch(
        loop,
        {},
        lambda cls: "kept" if issubclass(cls, Kept) else None,
        lambda _: (),
        containers,
    )
    with loop:
        containers.remember()
        groups = watched.run(5, perf_counter() + 30, older=list, **more)
    return [group for group in groups if group.is_regular]


def lost(*objects: Any) -> list[Members]:
    """Return the groups of objects to which no path leads."""
    paths = Paths({}, perf_counter() + 30)
    return grouped(list(objects), {id(o) for o in objects}, paths)


def test_an_exception_in_a_tuple_is_a_clue() -> None:
    def body() -> None:
        def fail() -> None:
            batch = Kept()
            raise ValueError(id(batch))

        try:
            fail()
        except ValueError as error:
            STORE.append((len(STORE), error))

    group = watch(body)[0]

    assert {"exception", "frame"} <= group.clues
    assert group.whole.edges[0].startswith(f"{__name__}.STORE (list of ")
    assert group.members[f"{__name__}.Kept"] == 1


def test_a_generator_in_a_dict_is_a_clue() -> None:
    def read() -> Generator[None, None, None]:
        batch = Kept()
        yield
        del batch

    def body() -> None:
        reader = read()
        next(reader)
        STORE.append({"reader": reader})

    assert "generator" in watch(body)[0].clues


def test_what_a_counted_object_holds_is_no_clue() -> None:
    def body() -> None:
        inner = Kept()
        STORE.append([Model(lambda: inner)])

    group = watch(body)[0]

    assert group.parts["kept"].per_iteration == 2
    assert f"{__name__}.Model" in group.clues
    assert "closure" not in group.clues


def test_a_longer_tuple_that_takes_the_place_of_the_last() -> None:
    def body() -> None:
        global ROW  # noqa: PLW0603
        ROW = (*ROW, Kept())

    group = watch(body)[0]

    assert group.parts["kept"].edges == (
        f"{__name__}.ROW (tuple of {len(ROW)})",
        f"{__name__}.Kept",
    )


def ring() -> Callable[[], object]:
    slots: list[object] = [None] * 20
    turn = itertools.count()

    def body() -> None:
        slots[next(turn) % 20] = Kept()

    return body


def window() -> Callable[[], object]:
    last = deque([Kept()] * 20, maxlen=20)
    return lambda: last.append(Kept())


def made_anew() -> Callable[[], object]:
    rows = {"last": [Kept()] * 8}

    def body() -> None:
        rows["last"] = [*rows["last"][1:], Kept()]

    return body


def full_cache() -> Callable[[], object]:
    turn = itertools.count()

    @functools.lru_cache(maxsize=20)
    def make(_: int) -> Kept:
        return Kept()

    def body() -> None:
        make(next(turn))

    for _ in range(20):
        body()
    return body


@pytest.mark.parametrize("make", [ring, window, made_anew, full_cache])
def test_what_lets_go_of_as_much_as_it_gets_is_no_holder(
    make: Callable[[], Callable[[], object]],
) -> None:
    replace = make()

    def body() -> None:
        replace()
        STORE.append(Kept())

    groups = [group for group in watch(body) if "kept" in group.parts]

    (held,) = (group.whole.edges[0] for group in groups)
    assert held.startswith(f"{__name__}.STORE (list of ")


def test_a_chain_that_hangs_in_one_place_is_held() -> None:
    STORE.append(None)

    def body() -> None:
        STORE[0] = Model(STORE[0])

    (group,) = watch(body)

    assert group.parts["kept"].edges[0] == f"{__name__}.STORE (list of 1)"


@pytest.mark.parametrize(
    "add",
    [Model, lambda old: [*(old or []), Kept()]],
    ids=["chains", "lists made anew"],
)
def test_what_piles_up_below_each_of_many_keys_is_held(
    add: Callable[[object], object],
) -> None:
    STORE.append(dict.fromkeys(range(12)))

    def body() -> None:
        for key, old in STORE[0].items():
            STORE[0][key] = add(old)

    groups = [group for group in watch(body) if "kept" in group.parts]

    assert groups
    assert groups[0].whole.edges[0].startswith(f"{__name__}.STORE[0] (dict of 12)")


@pytest.mark.layout
def test_a_tree_that_is_made_anew_each_time_is_no_chain() -> None:
    def grow(depth: int) -> Model:
        return Model([grow(depth - 1), grow(depth - 1)] if depth else None)

    STORE.append(Wrapper(None))

    def body() -> None:
        STORE[0].held = grow(4)

    assert [group for group in watch(body) if "kept" in group.parts] == []


def test_a_function_that_refers_to_the_one_before_is_a_chain() -> None:
    STORE.append(lambda: None)

    def body() -> None:
        previous = STORE[0]
        STORE[0] = lambda: previous

    (group,) = watch(body)

    assert CHAIN in group.clues
    assert group.whole.per_iteration >= 1


def test_functions_that_are_registered_with_atexit() -> None:
    def body() -> None:
        atexit.register(Kept().close)

    try:
        group = watch(body)[0]
    finally:
        count = atexit._ncallbacks()
        for made in gc.get_objects():
            if type(made) is Kept:
                atexit.unregister(made.close)

    assert group.whole.edges[0] == f"atexit ({count} functions)"
    assert group.parts["kept"].per_iteration == 1
    assert "atexit" in group.clues
    assert "native" not in group.clues


def test_what_threads_of_each_call_hold_is_one_group() -> None:
    done = threading.Event()
    threads: list[threading.Thread] = []

    def work(ready: threading.Event) -> None:
        batch, *rest = Kept(), [1], [2], [3], [4]
        one, two, three, four = rest
        ready.set()
        done.wait()
        del batch, one, two, three, four

    def body() -> None:
        ready = threading.Event()
        threads.append(threading.Thread(target=work, args=(ready,)))
        threads[-1].start()
        ready.wait()

    try:
        groups = watch(body)
    finally:
        done.set()
        for thread in threads:
            thread.join()

    (kept,) = (group for group in groups if "kept" in group.parts)
    assert kept.parts["kept"].per_iteration == 1
    assert "local variable batch of work() in thread " in kept.whole.edges[0]


@pytest.mark.layout
def test_what_hangs_below_lost_objects_belongs_to_them() -> None:
    ours, other = Kept(), Kept()
    first, second = Wrapper([ours]), [other]

    groups = lost(first, first.held, ours, second, other)

    assert {id(group.held[0]): len(group.all) for group in groups} == {
        id(first): 3,
        id(second): 2,
    }


@pytest.mark.layout
def test_a_lost_cycle_beside_something_else_is_not_forgotten() -> None:
    inner = [Kept()]
    one, two = Wrapper(None), Wrapper(inner)
    one.held = two
    two.back = one  # type: ignore[attr-defined]

    groups = lost(inner, inner[0], one, two, other := [1])

    assert [(group.held, len(group.all)) for group in groups] == [
        ([one], 4),
        ([other], 1),
    ]


def test_the_end_of_a_list_that_lies_about_its_class() -> None:
    assert last_of(Liar([1, 2]), 1) == [2]


@pytest.mark.parametrize(("size", "last"), [(4, {b"7", b"4"}), (None, {b"6", b"7"})])
def test_the_end_of_an_lru_cache(size: int | None, last: set[bytes]) -> None:
    cached = functools.lru_cache(size)(lambda number: b"%d" % number)
    for number in (*range(8), 4):
        cached(number)
    (entries,) = (o for o in gc.get_referents(cached) if type(o) is dict and 7 in o)
    found = [last_of(cached, 2), last_of(entries, 2)]
    assert [set(results) for results in found if results] == [last]


def test_an_error_in_the_thread_is_the_caller_s() -> None:
    def fail() -> None:
        raise ValueError(threading.get_ident())

    with pytest.raises(ValueError, match=r"\d+") as caught:
        _run_in_thread(fail)

    assert caught.value.args != (threading.get_ident(),)


def test_a_path_that_cannot_be_told_loses_its_group_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tell = Watch._group

    def group(self: Watch, members: Members, *more: Any) -> Group:
        if type(members.held[0]) is Wrapper:
            raise RuntimeError("dictionary changed size during iteration")
        return tell(self, members, *more)

    monkeypatch.setattr(Watch, "_group", group)

    def body() -> None:
        STORE.append(Wrapper(None))
        STORE.append(Kept())

    assert [g.whole.kind for g in watch(body)] == [f"{__name__}.Kept"]
