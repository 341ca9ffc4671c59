"""Who is alive that was not before."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from pytest_tfleak.census import Census
from pytest_tfleak.census import full_name


class Thing:
    def __init__(self) -> None:
        self.itself = self  # only the collector frees it


class SpecialThing(Thing):
    pass


class Unhashable(type):
    """A metaclass that must not be asked for a hash, nor compared."""

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("a metaclass' code ran")

    __hash__ = None  # type: ignore[assignment]


THING = (Thing.__module__, "Thing")
SPECIAL = (Thing.__module__, "SpecialThing")


@pytest.fixture
def census() -> Iterator[Census]:
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


def test_counts_objects_of_before_and_of_now(census: Census) -> None:
    before = [Thing(), SpecialThing()]
    census.freeze()
    assert alive(census) == 2
    now = [Thing()]
    assert alive(census) == 3
    now.clear()
    assert alive(census) == 2
    assert before


def test_replacing_an_object_of_before_is_no_growth(census: Census) -> None:
    class Plain:  # freed at once, without the collector
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


def test_what_was_there_before_the_start_is_told_apart(census: Census) -> None:
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
    # not from zero again; each thing is followed by a few objects of the census's own
    assert 0 <= census.new_objects - first < 60
    census.release()
    assert kept


def test_what_takes_the_place_of_something_frozen_adds_no_objects(
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
    assert not [r for r, _ in census._types.values() if r() is None]


def test_thaw_is_harmless_without_a_freeze() -> None:
    frozen = gc.get_freeze_count()
    Census().thaw()
    assert gc.get_freeze_count() == frozen


def test_what_python_froze_at_its_start_stays_thawed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pytest_tfleak.census._FROZEN_AT_START", 10**9)
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


def test_what_was_frozen_before_is_no_news_when_it_thaws(census: Census) -> None:
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
