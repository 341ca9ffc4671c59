"""The census counts living objects by kind."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable
from collections.abc import Iterator

import pytest

from pytest_tfleak.probes import census as census_module
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import thawed


class Thing:
    def __init__(self) -> None:
        self.itself = self  # a cycle, which only the collector frees


class SpecialThing(Thing):
    pass


class Unhashable(type):
    """A metaclass whose classes must not be hashed or compared."""

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("a metaclass' code ran")

    __hash__ = None  # type: ignore[assignment]


THING = (Thing.__module__, "Thing")
SPECIAL = (Thing.__module__, "SpecialThing")


@pytest.fixture
def census() -> Iterator[Census]:
    # what earlier tests left would be counted; and each collection stops tracking one
    # more level of nested tuples
    for _ in range(3):
        gc.collect()
    census = Census()
    census.watch("things", [THING])
    yield census
    census.release()
    census.thaw()


def alive(census: Census) -> int:
    census.take()
    count = census.alive("things")
    census.release()
    return count


def test_counts_older_and_new_objects(census: Census) -> None:
    before = [Thing(), SpecialThing()]
    census.freeze()
    assert alive(census) == 2
    now = [Thing()]
    assert alive(census) == 3
    now.clear()
    assert alive(census) == 2
    assert before


def test_replacing_an_older_object_is_no_growth(census: Census) -> None:
    class Plain:  # freed at once, without the garbage collector
        pass

    census.watch("plain", [(Plain.__module__, Plain.__qualname__)])
    slots = [Plain() for _ in range(5)]
    census.freeze()
    for k in range(5):
        slots[k] = Plain()
        census.take()
        assert census.alive("plain") == 5
        census.release()


def test_frozen_garbage_goes_with_the_next_freeze(census: Census) -> None:
    slots = [Thing() for _ in range(3)]
    census.freeze()
    slots[0] = Thing()
    assert alive(census) == 4  # the old one is a frozen cycle
    census.refreeze()
    assert alive(census) == 3


def test_a_later_census_follows_what_an_earlier_one_did(census: Census) -> None:
    before = [Thing() for _ in range(3)]
    census.freeze()
    measured = [Thing()]
    census.take()
    census.release()
    census.thaw()
    between = [Thing() for _ in range(2)]
    later = Census()
    later.watch("things", [THING])
    collections = gc.get_stats()[2]["collections"]
    later.freeze()
    assert gc.get_stats()[2]["collections"] == collections  # it looks at new ones only
    try:
        assert alive(later) == 6
        del before[:2], between[0]
        measured.append(Thing())
        later.refreeze()
        assert alive(later) == 4
        later.take()
        assert later.made_since_start("things") == measured[1:]
        later.release()
    finally:
        later.thaw()


def test_a_later_census_knows_what_was_made_before_the_last_search(
    census: Census,
) -> None:
    census.freeze()
    kept = [Thing() for _ in range(3)]
    with census.thawed(is_last=True):
        pass
    census.thaw()
    later = Census()
    later.watch("things", [THING])
    later.freeze()
    try:
        later.refreeze()
        later.take()
        assert later.alive("things") == len(kept)
        assert later.made_since_start("things") == []
        later.release()
    finally:
        later.thaw()


def test_a_census_looks_at_all_objects_after_a_full_collection(census: Census) -> None:
    census.freeze()
    census.thaw()
    made = [Thing() for _ in range(4)]
    gc.collect()
    later = Census()
    later.watch("things", [THING])
    later.freeze()
    try:
        assert alive(later) == len(made)
    finally:
        later.thaw()


def test_a_census_looks_at_all_objects_for_other_kinds(census: Census) -> None:
    made = [SpecialThing() for _ in range(4)]
    census.freeze()
    census.thaw()
    later = Census()
    later.watch("things", [SPECIAL])
    later.freeze()
    try:
        assert alive(later) == len(made)
    finally:
        later.thaw()


@pytest.mark.parametrize("hides", [True, False])
@pytest.mark.parametrize(
    ("blocks", "mebibytes", "seconds", "is_collected"),
    [
        (125, 256, 8.0, False),
        (126, 0, 0.0, True),
        (0, 257, 0.0, True),
        (100, 0, 8.1, True),
    ],
)
def test_older_garbage_is_collected_before_long(
    monkeypatch: pytest.MonkeyPatch,
    hides: bool,
    blocks: int,
    mebibytes: int,
    seconds: float,
    is_collected: bool,
) -> None:
    in_use, clock = [100, 0], [0.0]
    monkeypatch.setattr(census_module, "_in_use", lambda: tuple(in_use))
    monkeypatch.setattr(census_module, "_collect", lambda: _collect(0.2))
    monkeypatch.setattr(census_module, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(census_module, "_last_collection", [])
    monkeypatch.setattr(Census, "_recalled", None)
    measure(hides)
    thing = Thing()
    dropped = weakref.ref(thing)
    gc.collect(1)  # moves it to the oldest objects
    del thing
    in_use[:] = blocks, mebibytes * 1024 * 1024
    clock[0] = seconds
    measure(hides)
    assert (dropped() is None) == is_collected


def _collect(seconds: float) -> census_module._Collection:
    gc.collect()
    return census_module._Collection(seconds)


def measure(hides: bool) -> None:
    census = Census()
    census.watch("things", [THING])
    census.hide() if hides else census.freeze()
    census.thaw()


def test_excluded_types_are_not_counted() -> None:
    census = Census()
    census.watch("things", [THING], unless=[SPECIAL])
    things = [Thing(), SpecialThing()]
    census.take()
    assert census.alive("things") == 1
    assert [type(o) for o in census.members("things")] == [Thing]
    census.release()
    assert things


def test_ignored_types_are_not_counted() -> None:
    census = Census(ignore=["*.SpecialThing"])
    census.watch("things", [THING])
    things = [Thing(), SpecialThing()]
    census.take()
    assert census.alive("things") == 1
    census.release()
    assert not [name for name in census.survivors() if name.endswith("SpecialThing")]
    assert things


def test_older_objects_are_distinguished(census: Census) -> None:
    before = Thing()
    census.freeze()
    in_warm_up = Thing()
    census.freeze()
    measured = Thing()
    census.take()
    made = {id(o) for o in census.made_since_start("things")}
    assert made == {id(in_warm_up), id(measured)}
    assert {id(o) for o in census.members("things")} == made | {id(before)}
    census.release()
    census.refreeze()
    census.take()
    assert {id(o) for o in census.made_since_start("things")} == made
    census.release()


def test_holds_nothing_after_release(census: Census) -> None:
    census.freeze()
    thing = Thing()
    census.take()
    census.release()
    gc.unfreeze()
    del thing
    assert alive(census) == 0


@pytest.mark.layout
def test_counts_new_objects_across_a_second_freeze(census: Census) -> None:
    census.freeze()
    kept = [Thing() for _ in range(10)]
    census.take()
    first = census.new_objects
    census.release()
    census.refreeze()
    census.take()
    # counting does not restart; the census itself makes a few objects for each thing
    assert 0 <= census.new_objects - first < 60
    census.release()
    assert kept


def test_replacing_frozen_objects_adds_none(
    census: Census,
) -> None:
    census.freeze()
    kept = [[k] for k in range(100)]
    census.refreeze()
    census.take()
    first = census.new_objects
    census.release()
    kept[:] = [[k] for k in range(100)]
    census.refreeze()
    census.take()
    assert abs(census.new_objects - first) < 10
    census.release()


def test_runs_no_code_of_a_metaclass(census: Census) -> None:
    special = Unhashable("Special", (), {})()
    census.take()
    census.release()
    assert any(name.endswith(".Special") for name in census.survivors())
    assert special is not None


def test_a_module_name_that_is_no_text_is_shown_as_unknown() -> None:
    odd = type("Odd", (), {"__module__": 3})
    assert full_name(odd) == "?.Odd"


def test_forgets_types_that_are_gone(census: Census) -> None:
    for _ in range(20):
        thing = type("Fresh", (), {})()
        census.take()
        census.release()
        del thing
    gc.collect()
    assert not [r for r in census._types._references.values() if r() is None]


def test_thaw_is_harmless_without_a_freeze() -> None:
    frozen = gc.get_freeze_count()
    Census().thaw()
    assert gc.get_freeze_count() == frozen


def test_what_python_froze_at_its_start_stays_thawed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pytest_tfleak.probes.census._FROZEN_AT_START", 10**9)
    gc.freeze()
    try:
        census = Census()
        census.freeze()
        census.thaw()
        assert gc.get_freeze_count() == 0
    finally:
        gc.unfreeze()


def test_a_freeze_before_the_first_import_is_the_users() -> None:
    program = """
        import gc
        gc.freeze()
        from pytest_tfleak import find_leaks
        find_leaks(lambda: None, iterations=6)
        print(gc.get_freeze_count() > 1_000)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "True\n"


def test_objects_frozen_before_are_not_new_when_they_thaw(census: Census) -> None:
    things = [Thing() for _ in range(3)]
    gc.freeze()
    try:
        census.freeze()
        assert alive(census) == len(things)
        census.refreeze()
        assert alive(census) == len(things)
        census.take()
        assert census.made_since_start("things") == []
        census.release()
    finally:
        gc.unfreeze()


def test_what_the_user_froze_is_frozen_afterwards() -> None:
    gc.freeze()
    try:
        census = Census()
        census.freeze()
        census.thaw()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_search_sees_what_is_frozen_and_leaves_it_frozen(census: Census) -> None:
    before = Thing()
    census.freeze()
    kept = Thing()
    hidden = [o for o in gc.get_objects() if o is before]
    with census.thawed():
        seen = [o for o in gc.get_objects() if o is before]
    assert (len(hidden), len(seen)) == (0, 1)
    assert not [o for o in gc.get_objects() if o is before]
    assert alive(census) == 2
    assert kept


def test_a_search_before_the_first_freeze_leaves_what_the_user_froze() -> None:
    gc.freeze()
    try:
        with thawed():
            assert gc.get_freeze_count() == 0
        with Census().thawed():
            assert gc.get_freeze_count() == 0
        assert gc.get_freeze_count() > 1_000
    finally:
        gc.unfreeze()
    with thawed():
        pass
    assert gc.get_freeze_count() == 0


#: The original functions, as a library has them if it imported them by name.
FREEZE, UNFREEZE = gc.freeze, gc.unfreeze


def freeze_by_attribute() -> None:
    gc.freeze()


def thaw_by_attribute() -> None:
    gc.freeze()
    gc.unfreeze()


@pytest.mark.parametrize(
    "disturb",
    [
        freeze_by_attribute,
        thaw_by_attribute,
        FREEZE,
        UNFREEZE,
        lambda: (FREEZE(), UNFREEZE()),
        lambda: (UNFREEZE(), FREEZE()),
    ],
    ids=["gc.freeze", "gc.unfreeze", "freeze", "unfreeze", "both", "reversed"],
)
def test_counts_are_right_whatever_a_body_freezes_or_thaws(
    census: Census, disturb: Callable[[], object]
) -> None:
    before = [Thing() for _ in range(3)]
    census.freeze()
    kept = []
    for round_ in range(1, 5):
        kept.append(Thing())
        disturb()
        assert alive(census) == len(before) + round_
    census.take()
    assert {id(o) for o in census.made_since_start("things")} == set(map(id, kept))
    census.release()
    census.refreeze()
    assert alive(census) == len(before) + len(kept)


@pytest.mark.parametrize("freeze", [freeze_by_attribute, FREEZE])
@pytest.mark.parametrize("thaw", [thaw_by_attribute, UNFREEZE])
def test_what_a_body_froze_or_thawed_last_is_so_afterwards(
    freeze: Callable[[], object], thaw: Callable[[], object]
) -> None:
    try:
        for last, is_frozen in ((freeze, True), (thaw, False)):
            census = Census()
            census.freeze()
            last()
            census.take()
            census.release()
            census.thaw()
            assert (gc.get_freeze_count() > 1_000) is is_frozen
    finally:
        UNFREEZE()


def test_a_body_sees_what_it_would_see_without_us() -> None:
    census = Census()
    census.freeze()
    try:
        assert gc.get_freeze_count() == 0
        gc.freeze()
        assert gc.get_freeze_count() > 1_000
        gc.unfreeze()
        assert gc.get_freeze_count() == 0
    finally:
        census.thaw()
    assert (gc.freeze, gc.unfreeze) == (FREEZE, UNFREEZE)


def test_after_the_last_look_all_objects_are_frozen_at_once() -> None:
    census = Census()
    census.freeze()
    try:
        made = Thing()
        with census.thawed(is_last=True):
            assert any(found is made for found in gc.get_objects())
        assert not any(found is made for found in gc.get_objects())
    finally:
        census.thaw()
    assert any(found is made for found in gc.get_objects())


def test_what_the_last_iteration_made_is_told_from_what_was_there() -> None:
    class Made:
        """An object with a weak reference, so that its end can be seen."""

        itself: object = None

    census = Census()
    kept: list[object] = []
    census.freeze()
    try:
        older, gone = Made(), Made()
        gone.itself = gone
        ended = weakref.ref(gone)
        kept.append(older)
        apart = census.set_apart(lambda look: look())
        assert {id(older), id(gone)} <= apart
        del gone  # garbage now, but frozen
        made = Made()
        objects, newest = census.recall(apart, lambda look: look())
        assert ended() is None
        alive = [o for o in objects if type(o) is Made]
        assert {id(o) for o in alive} == {id(older), id(made)}
        assert id(made) in newest and id(older) not in newest
        del objects, alive
        assert not any(found is made for found in gc.get_objects())
    finally:
        census.thaw()
