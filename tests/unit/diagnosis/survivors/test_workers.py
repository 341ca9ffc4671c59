"""A thread or a process belongs to the pool that it works for."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.survivors.groups import Place
from pytest_tfleak.diagnosis.survivors.groups import Survivors
from pytest_tfleak.diagnosis.survivors.groups import group_by_place
from pytest_tfleak.diagnosis.survivors.workers import pools_by_worker
from pytest_tfleak.run.budget import NO_DEADLINE

FORK = multiprocessing.get_context("fork")


class Loaders(ThreadPoolExecutor):
    """A pool of the user's own type."""


def executor(kind: Any, *context: Any) -> Any:
    made = kind(1, *context)
    made.submit(int).result()
    return made


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "threads", "processes"),
    [
        (lambda: executor(ThreadPoolExecutor), 1, 0),
        (lambda: executor(Loaders), 1, 0),
        (lambda: executor(ProcessPoolExecutor, FORK), 2, 1),
        (lambda: FORK.Pool(1), 3, 1),
        (lambda: multiprocessing.pool.ThreadPool(1), 4, 0),
    ],
    ids=["threads", "subclass", "processes", "Pool", "ThreadPool"],
)
def test_workers_are_held_by_what_holds_their_pool(
    make: Callable[[], Any], threads: int, processes: int
) -> None:
    before = {*threading.enumerate(), *multiprocessing.active_children()}
    with make() as pool:
        now = [*threading.enumerate(), *multiprocessing.active_children()]
        workers = [one for one in now if one not in before]
        places = places_of([pool, *workers], kept=[pool])
    assert len(workers) == threads + processes
    assert [(place.held, len(place.all)) for place in places] == [
        ([pool], 1 + threads + processes)
    ]


def places_of(survivors: list[Any], kept: list[Any]) -> list[Place]:
    paths = Paths({"fixture:kept": kept}, NO_DEADLINE)
    paths.find(survivors)
    ids = frozenset(map(id, survivors))
    return group_by_place(Survivors(objects=survivors, ids=ids, recent=ids), paths)


def test_an_object_with_names_like_those_of_a_pool_has_no_workers() -> None:
    named_alike = SimpleNamespace(_threads={1}, _pool=[1])
    assert pools_by_worker([named_alike, object(), ThreadPoolExecutor]) == {}
