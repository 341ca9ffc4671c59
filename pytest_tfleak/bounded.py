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
from math import ceil
from typing import Any

_LRU: Any = functools._lru_cache_wrapper


class BoundedCaches:
    """Follows how full the caches with an end are, from one look to the next."""

    def __init__(self) -> None:
        self._noted: list[tuple[weakref.ref[Any], int]] = []

    def note(self, objects: Iterable[Any]) -> None:
        """Remember the caches among some objects that have room left."""
        self._noted = [
            (weakref.ref(found), entries)
            for found in objects
            if type(found) is _LRU or type(found) is deque
            for entries, most in [_filled(found)]
            if entries < most
        ]

    def iterations_left(self, iterations: int, limit: float) -> int | None:
        """Return how many more iterations fill those that grew in so many of them.

        Those that take more than ``limit`` are not waited for; None where none is left.
        """
        left = []
        for reference, before in self._noted:
            cache = reference()
            if cache is None:
                continue
            entries, most = _filled(cache)
            if entries > before:
                left.append(ceil((most - entries) * iterations / (entries - before)))
        return max((number for number in left if number <= limit), default=None)


def _filled(cache: Any) -> tuple[int, int]:
    """Return how many entries a cache has, and how many at most; 0 for no end."""
    if type(cache) is deque:
        return len(cache), cache.maxlen or 0
    info = _LRU.cache_info(cache)
    return info.currsize, info.maxsize or 0
