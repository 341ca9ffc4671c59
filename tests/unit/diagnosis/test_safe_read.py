"""Containers are read without running code of a subclass."""

from __future__ import annotations

import functools
import gc
from typing import Any

import pytest

from pytest_tfleak.diagnosis.safe_read import last_of
from pytest_tfleak.diagnosis.safe_read import sizes_of


class Liar(list[Any]):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("ran")


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


class Longer(dict[str, int]):
    def __len__(self) -> int:
        raise RuntimeError("ran")


def test_sizes_are_those_of_the_containers_themselves() -> None:
    plain, longer, lies = {"a": 1, "b": 2}, Longer(a=1), Liar([1, 2, 3])
    containers, sizes = sizes_of([plain, (1, 2), longer, "text", lies])
    found = {id(one): size for one, size in zip(containers, sizes, strict=True)}
    assert found == {id(plain): 2, id(longer): 1, id(lies): 3}
