"""The search for holders leaves large containers for last, and stops in time."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_tfleak.diagnosis.holder import search
from pytest_tfleak.diagnosis.holder.roots import Start
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Deadline


class Thing:
    """Something to look for."""


def large(*more: Any) -> list[Any]:
    return [*([number] for number in range(search._LARGE)), *more]


def search_in(held: list[Any], wanted: list[Any], deadline: Deadline) -> Paths:
    paths = Paths({}, deadline)
    start = Start(Root(kind="fixture", name="rows"), held)
    paths.find_from([start], {id(thing) for thing in wanted})
    return paths


def test_large_containers_are_searched_after_all_others() -> None:
    inside, below, beside = Thing(), Thing(), Thing()
    rows, other = large(inside, {"below": below}), {"a": {"b": {"c": beside}}}

    paths = search_in([rows, other], [inside, beside], NO_DEADLINE)
    assert paths.parent_of(inside) is rows
    assert paths.parent_of(beside) is other["a"]["b"]
    assert paths.parent_of(rows[0]) is None

    paths = search_in([rows, other], [below], NO_DEADLINE)
    assert paths.path_to(below)[2:] == [rows, rows[-1], below]
    assert paths.is_complete


def test_a_search_stops_in_a_large_container_when_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_LOOK_AT_CLOCK", search._LARGE // 2)
    below = Thing()
    paths = search_in([large([below])], [below], Deadline(at=0.0))
    assert paths.parent_of(below) is None
    assert not paths.is_complete
