"""Find bounded caches that fill up: their growth is no leak.

``functools.lru_cache`` keeps 128 results by default, and a deque as many items as its
``maxlen``: more than a test of a few iterations puts there. A cache that is soon full
is filled. A cache that would take too long is kept at its size: then any growth that is
left is elsewhere.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from pytest_tfleak.quantities import format_bytes
from pytest_tfleak.run.bounds import Fill
from pytest_tfleak.run.bounds import Held
from pytest_tfleak.run.bounds import bounded_among
from pytest_tfleak.run.bounds import can_hold
from pytest_tfleak.run.bounds import fill_of
from pytest_tfleak.run.bounds import name_kind

#: More bytes than most machines can spare for one cache.
_MUCH = 2**30
_MOST_NAMED = 3
#: A function that returns a name for each container, or None.
Namer = Callable[[Sequence[Any]], Sequence[str | None]]


@dataclass(frozen=True, slots=True)
class Growing:
    """A cache that grew and has not reached its bound."""

    reference: weakref.ref[Any]
    before: int  # its size when it was noted
    fill: Fill
    iterations: int  # how many iterations have run since then

    @property
    def each(self) -> float:
        """Return how much it grew per iteration."""
        return (self.fill.size - self.before) / self.iterations

    @property
    def iterations_to_fill(self) -> int:
        """Return how many more iterations it takes until it is full."""
        return ceil((self.fill.bound - self.fill.size) / self.each)

    def iterations_to_turn_over(self, ran: int) -> int:
        """Return how many more iterations it takes until it has only new entries.

        ``ran`` is how many iterations have run so far.
        """
        return max(0, ceil(self.fill.size / self.each) - ran)


class BoundedCaches:
    """The bounded caches that exist at one moment, and how full each one is."""

    def __init__(self) -> None:
        self._noted: list[tuple[weakref.ref[Any], int]] = []

    def note(self, objects: Iterable[Any]) -> None:
        """Remember the caches among these objects that have room left."""
        self._noted = [
            (weakref.ref(found), fill.size) for found, fill in bounded_among(objects)
        ]

    def growing(self, iterations: int) -> list[Growing]:
        """Return the caches that have grown since, in this many iterations."""
        growing = []
        for reference, before in self._noted:
            fill = _fill_behind(reference)
            if fill is not None and before < fill.size:
                growing.append(Growing(reference, before, fill, max(1, iterations)))
        return growing


def are_full(caches: Iterable[Growing]) -> bool:
    """Return whether all caches that still exist are full now."""
    fills = (_fill_behind(cache.reference) for cache in caches)
    return not any(fill.has_room for fill in fills if fill is not None)


class HeldCaches:
    """Caches that are kept at their size while the body runs."""

    def __init__(self, caches: Iterable[Growing]) -> None:
        self._caches = list(caches)
        self._held: list[Held] = []

    def hold(self) -> bool:
        """Keep them at their size; return whether that is possible."""
        living = [(one, one.reference()) for one in self._caches]
        living = [(one, cache) for one, cache in living if cache is not None]
        if not living or not all(can_hold(cache) for _, cache in living):
            return False
        for one, cache in living:
            self._held.append(Held(cache, one.before))
        return True

    def trim(self) -> None:
        """Free what exceeds their size; call it after each iteration."""
        for held in self._held:
            held.trim()

    def release(self) -> None:
        """Let them grow again."""
        while self._held:
            self._held.pop().release()

    def turnover(self, ran: int, most: int) -> int:
        """Return how many more iterations it takes until they have only new entries.

        ``ran`` is how many iterations have run so far. Ignore caches that take more
        than ``most``.
        """
        takes = [one.iterations_to_turn_over(ran) for one in self._caches]
        return max((few for few in takes if few <= most), default=0)

    def describe(self, names: Namer, bytes_per_iteration: float) -> list[str]:
        """Return notes on the caches that were not judged, and on those too large.

        ``bytes_per_iteration`` is how many bytes went into the caches while they were
        filling.
        """
        living = [(one, one.reference()) for one in self._caches]
        found = [(one, cache) for one, cache in living if cache is not None]
        named = names([cache for _, cache in found])
        texts = [
            _describe(cache, name, one.fill)
            for (one, cache), name in zip(found, named, strict=True)
        ]
        if len(texts) > _MOST_NAMED:
            texts[_MOST_NAMED:] = [f"{len(texts) - _MOST_NAMED} more"]
        bounds = "its bound" if len(found) == 1 else "their bounds"
        notes = [f"Filling up to {bounds}, and not judged: {', '.join(texts)}."]
        longest = max((one.fill.bound / one.each for one, _ in found), default=0.0)
        full = longest * bytes_per_iteration
        if full > _MUCH:
            notes.append(
                f"When full, they take {format_bytes(full)}: set a smaller bound, "
                "unless there is enough memory."
            )
        return notes


def without_names(caches: Sequence[Any]) -> list[None]:
    """Find no names."""
    return [None] * len(caches)


def _fill_behind(reference: weakref.ref[Any]) -> Fill | None:
    cache = reference()
    return None if cache is None else fill_of(cache)


def _describe(cache: Any, name: str | None, fill: Fill) -> str:
    kind, size = name_kind(cache), f"{fill.size:,} of {fill.bound:,}"
    return f"{name} ({kind}, {size})" if name else f"{kind} ({size})"
