"""Caches with an end: what only fills one of them is no leak.

``functools.lru_cache`` keeps 128 results unless it is told otherwise, and a deque with
``maxlen`` as many items: more than a test of a few iterations puts there.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

_LRU: Any = functools._lru_cache_wrapper


class BoundedCaches:
    """Follows how full the caches with an end are, from one look to the next."""

    def __init__(self) -> None:
        self._noted: list[tuple[weakref.ref[Any], int]] = []
        self._filling: list[weakref.ref[Any]] = []

    def note(self, objects: Iterable[Any]) -> None:
        """Remember the caches among some objects that have room left."""
        self._noted = [
            (weakref.ref(found), entries)
            for found in objects
            if type(found) is _LRU or type(found) is deque
            for entries, most in [_filled(found)]
            if entries < most
        ]

    def find_filling(self, iterations: int, most: int) -> bool:
        """Say whether any grew in so many iterations that ``most`` more can fill."""
        self._filling = []
        for reference, before in self._noted:
            cache = reference()
            if cache is None:
                continue
            entries, end = _filled(cache)
            if entries > before and (
                (end - entries) * iterations <= most * (entries - before)
            ):
                self._filling.append(reference)
        return bool(self._filling)

    def are_full(self) -> bool:
        """Say whether those that were found are full now."""
        living = [cache for find in self._filling if (cache := find()) is not None]
        return all(entries >= end for entries, end in map(_filled, living))


def _filled(cache: Any) -> tuple[int, int]:
    """Return how many entries a cache has, and how many at most; 0 for no end."""
    if type(cache) is deque:
        return len(cache), cache.maxlen or 0
    info = _LRU.cache_info(cache)
    return info.currsize, info.maxsize or 0
