"""How much of growth kernels that are made again may explain."""

from __future__ import annotations

import pytest

from pytest_tfleak.diagnosis.experiments import kernels
from pytest_tfleak.diagnosis.experiments.kernels import KeptKernels
from pytest_tfleak.probes.heap import HeapReader


@pytest.fixture
def heap(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    used = [5_000_000]
    reader = HeapReader("", lambda: used[0])
    monkeypatch.setattr(kernels, "find_heap_reader", lambda: reader)
    return used


def test_it_is_a_small_part_of_what_is_freed_in_each_call(heap: list[int]) -> None:
    def clear(_: object) -> None:
        heap[0] -= 1_000_000

    watcher = KeptKernels(acts=False)
    for _ in range(2):
        watcher._noting_clear(clear)(None)
        watcher._after()
    assert watcher.seen == 2
    assert watcher.most == 5_000


def test_nothing_is_explained_where_nothing_is_emptied(heap: list[int]) -> None:
    watcher = KeptKernels(acts=False)
    watcher._after()
    assert (watcher.seen, watcher.most) == (0, 0)


def test_anything_may_be_explained_without_a_figure_of_the_heap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "find_heap_reader", lambda: None)
    watcher = KeptKernels(acts=False)
    watcher._noting_clear(lambda _: None)(None)
    watcher._after()
    assert watcher.most == float("inf")


def test_the_cache_is_not_emptied_while_it_acts() -> None:
    emptied: list[object] = []
    KeptKernels()._noting_clear(emptied.append)("context")
    assert not emptied
