"""Survivors that belong together form one group, even without a holder."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_tfleak.diagnosis.causes.advise import Explained
from pytest_tfleak.diagnosis.causes.advise import advise
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.survivors.groups import CHAIN
from pytest_tfleak.diagnosis.survivors.groups import WHOLE
from pytest_tfleak.diagnosis.survivors.groups import Describer
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Place
from pytest_tfleak.diagnosis.survivors.groups import Survivors
from pytest_tfleak.diagnosis.survivors.groups import group_by_place
from pytest_tfleak.diagnosis.survivors.groups import merge_same_paths
from pytest_tfleak.reports.held_by import ROOTS
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.run.budget import NO_DEADLINE
from tests.builders import make_finding
from tests.builders import make_group
from tests.builders import make_part
from tests.builders import path_to


class Kept:
    pass


class Wrapper:
    def __init__(self, held: object) -> None:
        self.held = held


def lost(*objects: Any) -> list[Place]:
    """Return the groups of objects to which no path leads."""
    paths = Paths({}, NO_DEADLINE)
    ids = frozenset(map(id, objects))
    survivors = Survivors(objects=list(objects), ids=ids, recent=ids)
    return group_by_place(survivors, paths)


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


def test_what_was_not_reached_is_not_said_to_have_no_holder() -> None:
    shelf: list[Any] = [Kept()]
    paths = Paths({"fixture:shelf": shelf}, NO_DEADLINE)
    paths.find([shelf[0]])
    objects = [shelf[0], [Kept()]]
    ids = frozenset(map(id, objects))
    survivors = Survivors(objects=objects, ids=ids, recent=ids)
    assert len(group_by_place(survivors, paths)) == 2
    paths.is_complete = False
    [place] = group_by_place(survivors, paths)
    assert place.held == [shelf[0]]


def test_what_was_not_searched_to_the_end_has_no_cause() -> None:
    describer = Describer(
        runs=1, signal_of=lambda _: None, frames_of=lambda _: (), is_searched=False
    )
    group = describer.describe(lost(Kept())[0])
    assert edges_of(group.path) == (ROOTS["unsought"],)
    told = Explained(make_finding("python.objects", path=group.path), group)
    [finding] = advise([told], [group])
    assert (finding.cause, finding.advice) == (None, None)


@pytest.mark.parametrize(("rises", "runs"), [(1, 17), (2, 17), (2, 20), (1, 13)])
def test_the_rate_agrees_with_the_gap_between_two_rises(rises: int, runs: int) -> None:
    """Fewer iterations than planned may have run, as on a busy machine."""
    describer = Describer(
        runs=runs, signal_of=lambda _: None, frames_of=lambda _: (), gap=10
    )
    held: list[Any] = [Kept() for _ in range(rises)]
    ids = frozenset(map(id, held))
    survivors = Survivors(objects=held, ids=ids, recent=ids)
    group = describer.describe(
        Place(survivors=survivors, held=held, all=held, chain=[])
    )
    assert group.whole.what.startswith("0.1 ")


def test_one_long_structure_is_no_chain() -> None:
    """Each call of a chain adds a link or a few, not thousands."""
    structure: list[Any] = [0]
    for _ in range(5_000):
        structure = [structure]
    recent = [structure]
    while type(recent[-1][0]) is list:
        recent.append(recent[-1][0])
    older = recent.pop()  # so that the chain would end at an older object
    ids = frozenset(map(id, recent))
    survivors = Survivors(objects=recent, ids=ids, recent=ids)
    place = Place(survivors=survivors, held=recent[:1], all=recent, chain=[])
    describer = Describer(runs=2, signal_of=lambda _: None, frames_of=lambda _: ())
    assert describer.describe(place).growth == ""
    assert older == [0]


class Link:
    def __init__(self, previous: Any) -> None:
        self.previous = previous


def hook(previous: Any) -> Any:
    return lambda: previous


@pytest.mark.parametrize("make", [Link, hook])
def test_a_chain_has_the_name_of_its_link(make: Any) -> None:
    links = [make(None)]
    for _ in range(3):
        links.append(make(links[-1]))
    recent = links[:0:-1]
    ids = frozenset(map(id, recent))
    survivors = Survivors(objects=recent, ids=ids, recent=ids)
    place = Place(survivors=survivors, held=recent[:1], all=recent, chain=[])
    describer = Describer(runs=2, signal_of=lambda _: None, frames_of=lambda _: ())
    group = describer.describe(place)
    assert (group.growth, group.link) == (CHAIN, "previous")


def keep(path: RetainingPath, what: str, size: float, **rates: float) -> Group:
    parts = {
        signal: make_part(path, "app.Thing", what, rate)
        for signal, rate in {WHOLE: 1.0, **rates}.items()
    }
    return make_group(path, parts, size)


def test_places_that_differ_in_an_index_are_one_group() -> None:
    places = [path_to(at=f"app.SLOTS{n}", size=5) for n in range(3)]
    groups = [
        keep(path, "1 Thing", size, tensors=rate)
        for path, size, rate in zip(places, (10, 30, 20), (1, 2, 4), strict=True)
    ]

    (merged,) = merge_same_paths(groups)

    assert merged.path == places[1]  # the path of the largest group
    assert (merged.objects, merged.bytes) == (3, 60)
    assert merged.members == {"Thing": 3}
    assert merged.parts["tensors"].per_iteration == 7
    assert merged.whole.what == "1 Thing in each of 3 places"


def test_groups_that_are_not_alike_keep_the_words_of_the_largest() -> None:
    small = keep(path_to(at="app.SLOTS1", size=5), "1 Thing", 10)
    large = keep(path_to(at="app.SLOTS2", size=5), "2 Thing", 30)
    other = keep(path_to(at="app.OTHER", size=5), "1 Thing", 20)

    merged = merge_same_paths([small, other, large])

    assert [group.whole.what for group in merged] == ["2 Thing", "1 Thing"]
    assert [group.bytes for group in merged] == [40, 20]
