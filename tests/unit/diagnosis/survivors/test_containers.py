"""A container that grows again and again piles up, whatever it contains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_tfleak.diagnosis.survivors.containers import Containers
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes.census import Census
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop

NAMES: list[str] = []
COUNTS: dict[str, int] = {}


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    yield
    NAMES.clear()
    COUNTS.clear()


def look(*steps: Any) -> Containers:
    """Return the containers found to grow, while steps change some of them."""
    loop = Loop(lambda: None, make_plan(iterations=2), [], Census())
    containers = Containers(loop)
    first, second = steps
    with loop:
        containers.remember()
        first()
        containers.find_longer()
        second()
        with loop.thawed():
            containers.find_longer_again()
    return containers


def add(*names: str) -> None:
    NAMES.extend(names)
    COUNTS.update(dict.fromkeys(names, len(COUNTS)))


def test_what_was_added_to_a_container_that_got_longer_twice() -> None:
    containers = look(lambda: add("a", "b", "c"), lambda: add("d", "e"))

    added = {id(one.container): set(one.added) for one in containers.longer}
    assert added[id(NAMES)] == {"d", "e"}
    assert added[id(COUNTS)] == {3}
    containers.forget()
    assert containers.longer == []


def test_without_time_no_container_is_known() -> None:
    loop = Loop(lambda: None, make_plan(iterations=2), [], Census())
    containers = Containers(loop)
    over = Deadline(at=0.0)
    with loop:
        loop.refreeze()
        containers.remember(over)
        assert not containers.is_known(NAMES)
        containers.remember()
        assert containers.is_known(NAMES)
        add("a", "b", "c")
        containers.find_longer(over)
        assert not containers.is_known(NAMES)
        add("d", "e")
        containers.find_longer_again()
    assert containers.longer == []


def test_a_container_that_got_longer_once_does_not_pile_up() -> None:
    containers = look(lambda: add("a", "b", "c"), lambda: NAMES.__setitem__(0, "z"))

    assert id(NAMES) not in {id(one.container) for one in containers.longer}
    assert containers.is_known(NAMES)
    assert containers.is_as_long(NAMES)
    NAMES.append("d")
    assert not containers.is_as_long(NAMES)
    assert not containers.is_as_long(object())


def test_the_comparison_can_begin_again() -> None:
    """What other iterations add in between is not what the examined ones add."""
    loop = Loop(lambda: None, make_plan(iterations=2), [], Census())
    containers = Containers(loop)
    with loop:
        containers.remember()
        add("a", "b", "c")
        containers.find_longer()
        assert any(one is NAMES for one in containers.candidates)
        add("d", "e")
        containers.begin_again()
        assert containers.is_as_long(NAMES)
        add("f", "g")
        with loop.thawed():
            containers.find_longer_again()
    added = {id(one.container): set(one.added) for one in containers.longer}
    assert added[id(NAMES)] == {"f", "g"}


def test_the_size_of_a_container_is_that_at_the_last_judged_reading() -> None:
    loop = Loop(lambda: add("x"), make_plan(iterations=2), [], Census())
    containers = Containers(loop)
    with loop:
        add("before")
        loop.repeat(4, ())
        loop.calls_judged = loop.calls
        containers.remember()
        loop.repeat(6, ())
        assert containers.size_when_judged(NAMES, len(NAMES), 1.0) == 5
        loop.calls_judged += 3  # another judged run, after the sizes were noted
        assert containers.size_when_judged(NAMES, len(NAMES), 1.0) == 8
        # one that has replaced another may have its id
        assert containers.size_when_judged(NAMES, 100, 2.0, is_new=True) == 94
        containers.forget()  # as if there had been no time to note them
        assert containers.size_when_judged(NAMES, len(NAMES), 1.0) == 8
        assert containers.size_when_judged(NAMES, len(NAMES), 0.0) == 11
        assert containers.size_when_judged(NAMES, 2, 1.0) == 2  # emptied meanwhile
