"""Find the lists, dicts, sets and deques that grow, and what is added to them.

The collector lists new objects, but not strings, numbers and arrays. So look at the
lengths of containers: one that is longer after the first part of the iterations, and
longer again after the second, piles up. One that receives new objects but keeps its
length has dropped as many.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import types
import weakref
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress
from operator import sub
from typing import Any

from pytest_tfleak.diagnosis.holder.path import AT_ROOT
from pytest_tfleak.diagnosis.safe_read import content_of
from pytest_tfleak.diagnosis.safe_read import last_of
from pytest_tfleak.diagnosis.safe_read import sized_among
from pytest_tfleak.diagnosis.safe_read import sizes_of
from pytest_tfleak.diagnosis.safe_read import with_plain_dicts
from pytest_tfleak.diagnosis.survivors.groups import Place
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop

#: A list that is rebuilt each time is a window if it has less than this share of all
#: items that the iterations added.
_MOST_LOST = 0.8
#: The first look and the search for holders take about so many times a refreeze. The
#: second look takes as long as the first, or a little longer.
_LOOKS, _MORE = 8, 1.5
#: Types of which any object has many, so that they show no chain of their own.
_PLAIN = (
    *(dict, list, tuple, set, frozenset, type, types.FunctionType, types.MethodType),
    *(types.CellType, types.BuiltinFunctionType, weakref.ReferenceType),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer:
    """A container that grew, and the items added to it last."""

    container: Any
    added: list[Any]


class Containers:
    """Compares the lengths of all containers before, amid and after some iterations.

    It holds those that grew from ``find_longer`` until ``forget``. ``plain=False``
    leaves out dicts that the collector does not list: finding them takes a second. If
    there is no time to look at all objects, it finds and knows none.
    """

    def __init__(self, loop: Loop, *, plain: bool = True) -> None:
        self._loop = loop
        self._plain = plain
        self._since = 0
        self._seconds = 0.0  # that ``remember`` took
        self._sizes: dict[int, int] = {}
        self._noted: dict[int, int] = {}  # the sizes that ``remember`` noted
        self._noted_after = 0  # calls of the body
        self._longer_once: list[tuple[Any, int]] = []
        #: Containers that grew twice.
        self.longer: list[Longer] = []

    def remember(self, deadline: Deadline = NO_DEADLINE) -> None:
        """Note the length of each container. This collects garbage, by a refreeze."""
        self._since = self._loop.ran_again
        if deadline.fits(_LOOKS * self._loop.refreeze_seconds):
            self._noted_after = self._loop.calls
            self._loop.refreeze(self._remember)
            self._seconds = self._loop.refreeze_seconds

    @property
    def iterations(self) -> int:
        """Return how many iterations have run since ``remember``."""
        return self._loop.ran_again - self._since

    def find_longer(self, deadline: Deadline = NO_DEADLINE) -> None:
        """Find the containers that have grown since ``remember``; refreeze, too."""
        if self._sizes and deadline.fits(_MORE * self._seconds):
            self._loop.refreeze(self._find_longer)
        else:
            self._sizes = {}
            self._loop.freeze()

    @property
    def candidates(self) -> list[Any]:
        """Return the containers that have grown once."""
        return [container for container, _ in self._longer_once]

    def begin_again(self) -> None:
        """Compare with now, instead of when they had grown; freeze what is there."""
        containers = [container for container, _ in self._longer_once]
        self._longer_once = [(c, len_(c)) for c, len_ in sized_among(containers)]
        self._sizes.update((id(c), size) for c, size in self._longer_once)
        self._loop.freeze()

    def find_longer_again(self) -> None:
        """Find those of them that have grown again, and what was added to them."""
        candidates, self._longer_once = self._longer_once, []
        for container, size in candidates:
            with suppress(Exception):  # a thread may change it meanwhile
                for _, len_ in sized_among([container]):
                    more = len_(container) - size
                    added = last_of(container, more) if more > 1 else []
                    if added:
                        self.longer.append(Longer(container=container, added=added))

    def size_when_judged(
        self, container: object, size: int, rate: float, *, is_new: bool = False
    ) -> int:
        """Return how long a container was at the last judged reading.

        ``size`` is its length now, to which each iteration adds ``rate``. Those since
        then have made it longer, which readers could not reconcile with the readings.
        One that ``is_new`` has replaced the one that was there.
        """
        noted = None if is_new else self._noted.get(id(container))
        if noted is None or noted > size:  # unknown, or another one with the same id
            later = self._loop.calls - self._loop.calls_judged
            judged = size - round(rate * later)
            return judged if judged > 0 else size  # else it was emptied since then
        since = self._loop.calls - self._noted_after
        rate = (size - noted) / max(1, since)
        return noted + round(rate * (self._loop.calls_judged - self._noted_after))

    def is_known(self, container: object) -> bool:
        """Return whether a container existed before, so that its length is known."""
        return id(container) in self._sizes

    def is_as_long(self, container: object) -> bool:
        """Return whether a container existed before and has not grown."""
        size = self._sizes.get(id(container))
        return size is not None and any(
            len_(container) <= size for _, len_ in sized_among([container])
        )

    def forget(self) -> None:
        """Release the containers that were found."""
        self._sizes, self._noted = {}, {}
        self._longer_once, self.longer = [], []

    def _remember(self, objects: list[Any]) -> None:
        containers, sizes = self._sized(objects)
        self._sizes = dict(zip(map(id, containers), sizes, strict=True))
        self._noted = dict(self._sizes)

    def _find_longer(self, objects: list[Any]) -> None:
        before = self._sizes
        containers, sizes = self._sized(objects)
        self._sizes = dict(zip(map(id, containers), sizes, strict=True))
        # if a new container has reused the id, the second comparison finds out
        grown = map(sub, sizes, map(before.get, map(id, containers), sizes))
        is_longer = map((1).__lt__, grown)
        found = zip(containers, sizes, strict=True)
        self._longer_once.extend(compress(found, is_longer))

    def _sized(self, objects: list[Any]) -> tuple[list[Any], list[int]]:
        return sizes_of(with_plain_dicts(objects) if self._plain else objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """Tells full caches, sliding windows and state from objects that pile up."""

    containers: Containers
    runs: int  # how many iterations made the recent objects
    every: int  # how many iterations ran in all

    def is_replaced(self, place: Place) -> bool:
        """Return whether as much was dropped as added, as in a cache or a window."""
        held, recent = place.held, place.survivors.recent
        if not place.chain or any(id(o) not in recent for o in held):
            return False
        if len(held) == 1 < self.runs:
            return self._is_window(held[0], recent) or self._is_state(place)
        if len(held) < self.runs or self._has_more_below(place):
            return False
        if any(
            _has_older(made, recent) and not self._is_window(made, recent)
            for made in held
        ):
            return False
        return self.containers.is_as_long(place.chain[-2])

    def _has_more_below(self, place: Place) -> bool:
        """Return whether more objects of the same types hang below those held here."""
        types, held = {id(type(o)) for o in place.held}, {id(o) for o in place.held}
        return any(id(type(o)) in types and id(o) not in held for o in place.all)

    def _is_state(self, place: Place) -> bool:
        """Return whether each call replaces all of it and keeps nothing older."""
        newest = place.survivors.newest
        if newest and id(place.held[0]) not in newest:
            return False  # the last call has left it where it was
        holder = place.chain[-2]
        if not self.containers.is_known(holder):
            if len(place.chain) == AT_ROOT:
                return False  # a variable of one thread, but there may be many threads
        elif not self.containers.is_as_long(holder):
            return False
        chained = self._may_form_chains(place)
        return not any(
            id(type(o)) in chained and id(o) not in place.survivors.recent
            for o in gc.get_referents(*place.all)
        )

    def _may_form_chains(self, place: Place) -> set[int]:
        """Return the types, by id, of which each call may have added one to a chain.

        Any large object has tuples and functions that refer to older ones.
        """
        number = Counter(map(id, map(type, place.all)))
        own = id(type(place.held[0]))
        plain = {id(t) for t in _PLAIN} - {own}
        return {t for t, n in number.items() if n >= self.runs and t not in plain}

    def _is_window(self, made: Any, recent: frozenset[int]) -> bool:
        """Return whether a rebuilt list is too short to hold all that was added."""
        items = content_of(made)
        added = sum(id(item) in recent for item in items)
        brought = added / self.runs * self.every
        return added < len(items) < _MOST_LOST * brought


def _has_older(made: Any, recent: frozenset[int]) -> bool:
    """Return whether a rebuilt list contains an item that existed before."""
    items = content_of(made)
    return any(gc.is_tracked(o) and id(o) not in recent for o in items)
