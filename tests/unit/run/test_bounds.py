"""Bounded containers: how full they are, and keeping them from filling up."""

from __future__ import annotations

from collections import deque
from functools import cache
from functools import lru_cache
from typing import Any

import pytest

from pytest_tfleak.run import bounds
from pytest_tfleak.run.bounds import Held
from pytest_tfleak.run.bounds import bounded_among
from pytest_tfleak.run.bounds import can_hold
from pytest_tfleak.run.bounds import fill_of
from pytest_tfleak.run.bounds import name_kind


class Sized(dict[Any, Any]):
    """A cache like those of cachetools, which drops its oldest entry."""

    def __init__(self, bound: float) -> None:
        self.__bound_maxsize = "no bound"
        self.__maxsize = bound
        self.__currsize = 0

    @property
    def maxsize(self) -> float:
        return self.__maxsize

    @property
    def currsize(self) -> int:
        return self.__currsize

    def add(self, key: object) -> None:
        while len(self) >= self.__maxsize:
            del self[next(iter(self))]
        self[key] = key
        self.__currsize = len(self)


class Plain:
    """A cache without properties."""

    def __init__(self) -> None:
        self.maxsize, self.currsize = 9, 4


class OnlyNames:
    maxsize = currsize = property(lambda self: 1 / 0)


class Silent:
    __slots__ = ("currsize", "maxsize")


class Recent(deque[int]):
    def __len__(self) -> int:
        raise AssertionError("user code ran")


def filled(bound: int | None, size: int) -> Any:
    cached = lru_cache(bound)(lambda number: [number])
    for number in range(size):
        cached(number)
    return cached


@pytest.mark.parametrize(
    ("container", "fill"),
    [
        (filled(7, 2), (2, 7)),
        (deque([1, 2], maxlen=5), (2, 5)),
        (Recent([1], maxlen=5), (1, 5)),
        (Sized(3), (0, 3)),
        (Plain(), (4, 9)),
    ],
    ids=["lru_cache", "deque", "subclass", "sized", "plain"],
)
def test_a_container_that_fills_up_is_found(container: Any, fill: object) -> None:
    found = list(bounded_among([object(), container, [], Sized, 1]))
    assert found == [(container, fill)]


@pytest.mark.parametrize(
    "container",
    [
        cache(str),
        filled(2, 5),
        deque([1, 2]),
        deque([1, 2], maxlen=2),
        Sized(float("inf")),
        OnlyNames(),
        Silent(),
        lru_cache.__code__,
    ],
    ids=["cache", "full", "deque", "full deque", "endless", "names", "silent", "code"],
)
def test_a_container_that_is_unbounded_or_full_does_not_fill_up(container: Any) -> None:
    assert list(bounded_among([container])) == []


def test_an_lru_cache_that_is_held_drops_its_oldest_entries() -> None:
    cached = filled(1_000, 20)
    held = Held(cached, 10)
    for number in range(20, 50):
        cached(number)
        held.trim()
    assert cached.cache_info()[2:] == (20, 20)
    assert cached(49) is cached(49)
    held.release()
    for number in range(100, 200):
        cached(number)
    assert cached.cache_info()[2:] == (1_000, 120)


def test_without_knowing_where_its_bound_is_no_lru_cache_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "_place_of_bound", lambda: None)
    assert not can_hold(filled(9, 2))
    assert can_hold(deque(maxlen=9))


@pytest.mark.parametrize("each", [1, 3])
def test_a_deque_that_is_held_keeps_its_older_items(each: int) -> None:
    items = deque([-1, -2, 1, 2, 3, 4], maxlen=1_000)
    held = Held(items, 2)
    for number in range(5, 5 + 4 * each):
        items.append(number)
        if number % each == 0:
            held.trim()
    held.trim()
    last = 4 + 4 * each
    freed = [1] * (4 * each)  # the first that the body added stands for them
    assert list(items) == [-1, -2, *freed, *range(last - 3, last + 1)]
    held.release()
    assert items.maxlen == 1_000


def test_a_deque_is_held_at_its_other_end_too() -> None:
    items = deque([4, 3, 2, 1, -1, -2], maxlen=1_000)
    held = Held(items, 2)
    for number in range(5, 15):
        items.appendleft(number)
        held.trim()
    assert list(items) == [14, 13, 12, 11, *[1] * 10, -1, -2]


def test_a_deque_that_fills_up_while_it_is_held_drops_its_oldest_items() -> None:
    items = deque([-1, 1, 2], maxlen=5)
    held = Held(items, 1)
    for number in range(3, 9):
        items.append(number)
        held.trim()
    assert list(items) == [1, 1, 6, 7, 8]  # -1 went, so three are new


def test_a_deque_that_was_emptied_meanwhile_is_left_alone() -> None:
    items = deque([1, 2], maxlen=9)
    held = Held(items, 1)
    items.clear()
    held.trim()
    items.append(3)
    held.trim()
    assert list(items) == [3]


def test_a_cache_with_a_maxsize_is_held() -> None:
    cache = Sized(1_000)
    for number in range(10):
        cache.add(number)
    held = Held(cache, 5)
    for number in range(10, 30):
        cache.add(number)
        held.trim()
    assert (cache.maxsize, list(cache)) == (10, list(range(20, 30)))
    held.release()
    assert cache.maxsize == 1_000


def test_a_bound_that_other_code_has_set_meanwhile_stays() -> None:
    cache = Plain()
    held = Held(cache, 1)
    cache.maxsize = 77
    held.release()
    assert cache.maxsize == 77


def test_a_container_that_is_gone_needs_no_release() -> None:
    held = Held(filled(9, 2), 1)
    held.trim()
    held.release()


def test_a_kind_has_the_name_that_its_user_knows() -> None:
    found = [filled(9, 1), deque(maxlen=1), Plain()]
    assert list(map(name_kind, found)) == ["lru_cache", "deque", "Plain"]
    assert fill_of([]) is None
