"""The objects that more iterations leave are grouped by their holder."""

from __future__ import annotations

import atexit
import functools
import gc
import itertools
import linecache
import os
import threading
import time
import tracemalloc
import weakref
from collections import deque
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from dataclasses import replace
from types import MethodType
from typing import Any
from unittest import mock

import pytest

from pytest_tfleak.diagnosis.survivors.containers import Containers
from pytest_tfleak.diagnosis.survivors.containers import Turnover
from pytest_tfleak.diagnosis.survivors.groups import CHAIN
from pytest_tfleak.diagnosis.survivors.groups import WHOLE
from pytest_tfleak.diagnosis.survivors.groups import Describer
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Place
from pytest_tfleak.diagnosis.survivors.groups import Survivors
from pytest_tfleak.diagnosis.survivors.groups import merge_same_paths
from pytest_tfleak.diagnosis.survivors.watch import Tracing
from pytest_tfleak.diagnosis.survivors.watch import Watch
from pytest_tfleak.diagnosis.survivors.watch import _Early
from pytest_tfleak.diagnosis.survivors.watch import _in_thread
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes.census import Census
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.verdict import Origin
from tests.builders import make_group
from tests.builders import make_part
from tests.builders import path_to

STORE: list[Any] = []
ROW: tuple[Any, ...] = ()


class Kept:
    """The objects that a signal counts in these tests."""

    def close(self) -> None:
        """Do nothing."""


class Model(Kept):
    """A counted object that holds other objects."""

    def __init__(self, held: object) -> None:
        self.held = held


class Wrapper:
    finalizer: object

    def __init__(self, held: object) -> None:
        self.held = held


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    yield
    STORE.clear()


def watch(body: Callable[[], object], **more: Any) -> list[Group]:
    """Return what each of five more iterations leaves."""
    return [group for group in watch_all(body, **more) if group.is_regular]


def watch_all(body: Callable[[], object], **more: Any) -> list[Group]:
    """Return what five more iterations leave, where a signal counts ``Kept``."""
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
        return watched.run(5, NO_DEADLINE, older=lambda _: [], **more).groups


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

    assert group.below[0].passes_through("exception", new=True)
    assert group.below[0].passes_through("builtins.frame", new=True)
    assert edges_of(group.whole.path)[0].startswith(f"{__name__}.STORE (list of ")
    assert group.members[f"{__name__}.Kept"] == 1


def test_texts_pile_up_if_they_are_many_or_long() -> None:
    path = path_to("builtins.str")
    part = make_part(path, "builtins.str", "1 str")
    assert not make_group(path, {WHOLE: part}, size=100.0).is_regular
    assert make_group(path, {WHOLE: part}, size=12_000.0).is_regular


def test_a_sequence_that_is_made_anew_is_described_by_its_new_items() -> None:
    def body() -> None:
        globals()["ROW"] = (*ROW, Wrapper(None))

    try:
        (group,) = watch(body)
    finally:
        globals()["ROW"] = ()

    assert (group.whole.kind, group.whole.per_iteration) == (f"{__name__}.Wrapper", 1)
    (row,) = edges_of(group.path)[:1]
    assert row.startswith(f"{__name__}.ROW (tuple of ")


def test_what_a_finalizer_keeps_belongs_to_its_object() -> None:
    def body() -> None:
        kept = Wrapper(Kept())
        kept.finalizer = weakref.finalize(kept, len, "x" * 100)
        STORE.append(kept)

    [group] = watch(body)
    assert group.whole.kind.endswith("Wrapper")
    assert group.members["weakref.finalize._Info"] == 1.0


def test_a_finalizer_that_keeps_its_own_object_is_what_holds_it() -> None:
    def body() -> None:
        kept = Kept()
        weakref.finalize(kept, len, [kept])

    [group] = watch(body)
    assert group.path.dotted == "weakref.finalize._registry"
    assert "kept" in group.parts


class Numbered(Kept):
    """Objects whose set has the oldest first."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number


def test_a_set_with_objects_that_are_held_elsewhere_is_no_second_place() -> None:
    registry: set[Numbered] = {Numbered(n) for n in range(20)}

    def body() -> None:
        made = Numbered(len(registry))
        registry.add(made)
        STORE.append(made)

    assert [group.whole.kind for group in watch(body)] == [f"{__name__}.Numbered"]


def test_a_generator_in_a_dict_is_a_clue() -> None:
    def read() -> Generator[None, None, None]:
        batch = Kept()
        yield
        del batch

    def body() -> None:
        reader = read()
        next(reader)
        STORE.append({"reader": reader})

    below = watch(body)[0].below[0]
    assert below.passes_through("builtins.generator", new=True)


def test_what_a_counted_object_holds_is_no_clue() -> None:
    def body() -> None:
        inner = Kept()
        STORE.append([Model(lambda: inner)])

    group = watch(body)[0]

    assert group.parts["kept"].per_iteration == 2
    assert group.below[0].passes_through(f"{__name__}.Model", new=True)
    for path in (group.path, *group.below):
        assert not path.passes_through("builtins.cell", new=True)


def test_a_class_that_a_library_makes_at_run_time_belongs_to_its_instance() -> None:
    def body() -> None:
        STORE.append(mock.MagicMock())

    group, *others = watch(body)

    assert edges_of(group.whole.path)[0].startswith(f"{__name__}.STORE (list of ")
    assert group.members["builtins.type"] == 1
    assert not any(other.bytes for other in others)


def test_a_longer_tuple_that_takes_the_place_of_the_last() -> None:
    def body() -> None:
        global ROW  # noqa: PLW0603
        ROW = (*ROW, Kept())

    group = watch(body)[0]

    row, kept = edges_of(group.parts["kept"].path)
    assert row.startswith(f"{__name__}.ROW (tuple of ")
    assert kept == f"{__name__}.Kept"
    assert group.stored is not None
    assert group.stored.text == "ROW = (*ROW, Kept())"


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
def test_a_container_that_drops_as_much_as_it_gains_is_no_holder(
    make: Callable[[], Callable[[], object]],
) -> None:
    renew = make()

    def body() -> None:
        renew()
        STORE.append(Kept())

    groups = [group for group in watch(body) if "kept" in group.parts]

    (held,) = (edges_of(group.whole.path)[0] for group in groups)
    assert held.startswith(f"{__name__}.STORE (list of ")


class Scope:
    """What a library keeps for one call, such as the global state of Keras."""

    def __init__(self) -> None:
        self.names = [Kept() for _ in range(5)]


def test_state_that_each_call_makes_anew_is_no_holder() -> None:
    """Two variables of one type, in one place, are no two objects that pile up."""
    STORE.extend(({}, []))

    def body() -> None:
        STORE[0].update(state=Scope(), settings=Scope())
        STORE[1].append(Kept())

    groups = [group for group in watch_all(body) if "kept" in group.parts]

    (held,) = (edges_of(group.whole.path)[0] for group in groups)
    assert held.startswith(f"{__name__}.STORE[1] (list of ")


def test_what_piles_up_is_not_held_by_what_the_next_call_replaces() -> None:
    """The shortest path leads through a copy that each call makes."""
    STORE.extend(({}, Wrapper(Wrapper({"rows": []}))))

    def body() -> None:
        rows = STORE[1].held.held["rows"]
        rows.append(Kept())
        STORE[0]["latest"] = tuple(rows)

    groups = [group for group in watch(body) if "kept" in group.parts]

    (held,) = (edges_of(group.whole.path)[0] for group in groups)
    assert held.startswith(f"{__name__}.STORE[1].held.held['rows'] (list of ")


def test_the_tuples_of_a_class_belong_to_it() -> None:
    """Its bases and its MRO, to which only the class refers."""

    def body() -> None:
        STORE.append(type("Made", (Kept,), {}))

    groups = [group for group in watch(body) if group.path.is_native]

    assert groups == []


def test_a_chain_that_hangs_in_one_place_is_held() -> None:
    STORE.append(None)

    def body() -> None:
        STORE[0] = Model(STORE[0])

    (group,) = watch(body)

    assert edges_of(group.parts["kept"].path)[0] == f"{__name__}.STORE (list of 1)"


@pytest.mark.parametrize(
    "add",
    [Model, lambda old: [*(old or []), Kept()]],
    ids=["chains", "new lists"],
)
def test_what_piles_up_below_each_of_many_keys_is_held(
    add: Callable[[object], object],
) -> None:
    STORE.append(dict.fromkeys(range(12)))

    def body() -> None:
        for key, old in STORE[0].items():
            STORE[0][key] = add(old)

    groups = [group for group in watch(body) if "kept" in group.parts]

    held = edges_of(groups[0].whole.path)
    assert held[0].startswith(f"{__name__}.STORE[0] (dict of 12)")


@pytest.mark.layout
def test_a_tree_that_is_rebuilt_each_time_is_no_chain() -> None:
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

    assert group.growth == CHAIN
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

    assert edges_of(group.whole.path)[0] == f"atexit ({count} functions)"
    assert group.parts["kept"].per_iteration == 1
    assert group.path.root.kind == "atexit"
    assert not group.path.is_native
    assert group.stored is not None
    assert group.stored.text == "atexit.register(Kept().close)"


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no forks here")
def test_functions_that_are_registered_for_forks() -> None:
    def body() -> None:
        os.register_at_fork(after_in_child=Kept().close)

    try:
        group = watch(body)[0]
    finally:
        for made in gc.get_objects():
            if type(made) is list and made and type(made[-1]) is MethodType:
                made[:] = [
                    f for f in made if type(getattr(f, "__self__", 0)) is not Kept
                ]

    assert group.path.root.kind == "loose"
    assert "only the interpreter or C code" in edges_of(group.whole.path)[0]
    assert group.parts["kept"].per_iteration == 1
    assert not group.path.is_native
    assert group.stored is not None
    assert group.stored.text == "os.register_at_fork(after_in_child=Kept().close)"


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
    assert "local variable batch of work() in thread " in edges_of(kept.whole.path)[0]


def test_an_error_in_the_thread_is_the_caller_s() -> None:
    def fail() -> None:
        raise ValueError(threading.get_ident())

    with pytest.raises(ValueError, match=r"\d+") as caught:
        _in_thread(fail)

    assert caught.value.args != (threading.get_ident(),)


def test_a_path_that_cannot_be_described_only_loses_its_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    describe = Describer.describe

    def fail_for_some(self: Describer, place: Place) -> Group:
        if type(place.held[0]) is Wrapper:
            raise RuntimeError("dictionary changed size during iteration")
        return describe(self, place)

    monkeypatch.setattr(Describer, "describe", fail_for_some)

    def body() -> None:
        STORE.append(Wrapper(None))
        STORE.append(Kept())

    assert [g.whole.kind for g in watch(body)] == [f"{__name__}.Kept"]


def test_a_place_that_cannot_be_compared_counts_as_a_leak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> bool:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(Turnover, "is_replaced", fail)

    assert [g.whole.kind for g in watch(lambda: STORE.append(Kept()))] == [
        f"{__name__}.Kept"
    ]


def test_the_line_that_stores_is_that_of_the_container() -> None:
    def body() -> None:
        made = Kept()
        STORE.append(made)

    [group] = [group for group in watch(body) if "kept" in group.parts]
    first = body.__code__.co_firstlineno
    assert group.stored is not None and group.stored.line == first + 2
    assert group.whole.origin is not None and group.whole.origin.line == first + 1
    assert group.whole.per_iteration == 1


def test_of_groups_with_one_path_any_line_that_is_known_is_shown() -> None:
    path = path_to("app.Thing")
    line = Origin(file="app.py", line=3, function="put", text="KEPT.append(x)")
    part = make_part(path, "app.Thing", "1 Thing", 1.0)
    groups = [make_group(path, {WHOLE: part}, size) for size in (9.0, 1.0)]
    [merged] = merge_same_paths([groups[0], replace(groups[1], stored=line)])
    assert merged.stored == line


@pytest.mark.timeout(60)
def test_what_was_traced_until_time_was_up_is_noted_in_an_iteration() -> None:
    """The notes, and what the iteration drops later, are no objects of the body."""

    class Made:
        """No earlier test has made one."""

    early = _Early()
    with Tracing(0.2, before_stop=early.note) as tracing:
        kept = Made()
        dropped = [Made() for _ in range(10)]
        growing = tuple(_slowly(tracing))
        del dropped
    file, line = early.frames[id(kept)][0]
    assert (file, linecache.getline(file, line).strip()) == (__file__, "kept = Made()")
    early.release()
    gc.collect()
    seen = early.without_notes(gc.get_objects())
    assert sum(type(o) is Made for o in seen) == 1
    assert not any(o is early.frames for o in seen)
    assert len(growing) > 1


def _slowly(tracing: Tracing) -> Iterator[object]:
    """Yield objects until tracing has ended: a tuple is being made meanwhile."""
    while tracemalloc.is_tracing():
        time.sleep(0.01)
        yield [tracing]
    yield None


def test_a_trace_is_on_inside_and_off_outside() -> None:
    with Tracing(60):
        assert tracemalloc.is_tracing()
    assert not tracemalloc.is_tracing()


@pytest.mark.timeout(60)
def test_a_trace_ends_when_its_time_is_up() -> None:
    with Tracing(0.01):
        while tracemalloc.is_tracing():
            time.sleep(0.01)


def test_what_was_traced_stays_when_the_clock_is_stopped() -> None:
    with Tracing(0.2) as tracing:
        made = bytearray(100)
        tracing.stop_the_clock()
        time.sleep(0.3)
        assert tracemalloc.get_object_traceback(made) is not None
    assert not tracemalloc.is_tracing()


def test_tracing_that_was_already_on_stays_on() -> None:
    tracemalloc.start(1)
    with Tracing(0):
        time.sleep(0.01)
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


class State(Kept):
    """What each call replaces: it refers to an older object of a type that it has."""

    def __init__(self) -> None:
        self.parts = [Wrapper(lambda: None) for _ in range(9)]
        self.own, self.shared = [Kept(), Kept()], SHARED


SHARED = Kept()


def test_what_each_call_replaces_is_no_holder_whatever_it_refers_to() -> None:
    current: dict[str, Any] = {}

    def body() -> None:
        current.clear()
        current["only"] = State()
        STORE.append(Model(None))

    groups = [group for group in watch_all(body) if "kept" in group.parts]

    (held,) = (edges_of(group.path)[0] for group in groups)
    assert held.startswith(f"{__name__}.STORE (list of ")


@pytest.mark.parametrize(
    ("judged", "shown"), [(1.0, "1 "), (3.0, "1 "), (0.75, "0.75 ")]
)
def test_the_objects_described_agree_with_the_judged_rate(
    judged: float, shown: str
) -> None:
    held = [Kept() for _ in range(4)]
    ids = frozenset(map(id, held))
    survivors = Survivors(objects=list(held), ids=ids, recent=ids)
    place = Place(survivors=survivors, held=held, all=held, chain=[])
    describer = Describer(
        runs=5,
        signal_of=lambda _: "kept",
        frames_of=lambda _: (),
        rates={"kept": judged},
    )
    assert describer.describe(place).whole.what.startswith(shown)
