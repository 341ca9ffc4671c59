"""Growth that only fills a bounded cache is not judged."""

from __future__ import annotations

import itertools
from collections import deque
from functools import lru_cache
from unittest import SkipTest

import pytest

from pytest_tfleak.measurement import find_leaks
from pytest_tfleak.run import bounds
from pytest_tfleak.verdict import Status

RECENT: deque[bytearray] = deque(maxlen=5_000)


def test_a_cache_that_takes_long_to_fill_is_no_leak() -> None:
    verdict = find_leaks(lambda: RECENT.append(bytearray(30_000)))
    assert verdict.status is Status.CLEAN, verdict.findings
    cache = f"{__name__}.RECENT (deque, 105 of 5,000)"
    assert verdict.notes == (f"Filling up to its bound, and not judged: {cache}.",)
    assert (verdict.warmup, verdict.iterations) == (105, 50)


def test_a_cache_that_memory_cannot_bear_is_a_note() -> None:
    cached = lru_cache(10**9)(lambda number: bytearray(20_000))
    numbers = itertools.count()
    verdict = find_leaks(lambda: cached(next(numbers)), diagnose="off")
    assert verdict.status is Status.CLEAN, verdict.findings
    assert verdict.notes[0].endswith(": lru_cache (105 of 1,000,000,000).")
    assert "When full, they take 1" in verdict.notes[1]
    assert cached.cache_info().maxsize == 10**9


def test_a_leak_beside_caches_that_fill_is_found_at_its_rate() -> None:
    caches = [deque[bytearray](maxlen=bound) for bound in (140, 9_000, 9_001, 9_002)]
    kept = []

    def body() -> None:
        for cache in caches:
            cache.append(bytearray(10_000))
        kept.append(bytearray(10_000))

    verdict = find_leaks(body, diagnose="off")
    (found,) = verdict.findings
    assert found.per_iteration == pytest.approx(10_000, rel=0.1)
    assert verdict.notes[0].endswith(", deque (105 of 9,001), 1 more.")


def test_smaller_older_entries_make_no_leak() -> None:
    cached = lru_cache(9_000)(lambda size, number: bytearray(size))
    for number in range(300):
        cached(1, number)
    numbers = itertools.count()
    verdict = find_leaks(lambda: cached(20_000, next(numbers)), diagnose="off")
    assert verdict.status is Status.CLEAN, verdict.findings


def test_a_cache_that_has_no_part_in_a_leak_changes_nothing() -> None:
    ids = deque[int](maxlen=10**9)
    kept = []

    def body() -> None:
        ids.append(1)
        kept.append(bytearray(20_000))

    verdict = find_leaks(body, diagnose="off")
    assert verdict.status is Status.LEAK
    assert (verdict.warmup, verdict.iterations, verdict.notes) == (5, 100, ())


def test_a_cache_that_cannot_be_held_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "_place_of_bound", lambda: None)
    cached = lru_cache(10**6)(lambda number: bytearray(20_000))
    numbers = itertools.count()
    verdict = find_leaks(lambda: cached(next(numbers)), diagnose="off")
    assert verdict.status is Status.LEAK
    assert verdict.iterations == 100


def test_an_end_while_a_cache_is_held_lets_it_grow_again() -> None:
    cached = lru_cache(10**6)(lambda number: bytearray(20_000))
    numbers = itertools.count()

    def body() -> None:
        if next(numbers) == 120:
            raise SkipTest("enough")
        cached(next(numbers))

    verdict = find_leaks(body, diagnose="off", iterations=20)
    assert "cut short" in verdict.notes[0]
    assert cached.cache_info().maxsize == 10**6
