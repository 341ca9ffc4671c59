"""End a run before the machine runs out of memory, descriptors or threads.

A body may need much in its first call, so what counts is the growth after that. The run
ends when a resource has grown by half of what was free then; ``memory_limit`` sets
another limit for memory. A warm-up looks like a leak at first, so a few more iterations
run once, as far as they fit into half of the rest: if nothing grows any more, the run
goes on. The search for the cause of a leak gets a share of what is left.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

from pytest_tfleak.judge import FEWEST
from pytest_tfleak.plan import MEMORY_LIMIT
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.base import GuardedProbe
from pytest_tfleak.probes.room import ADDRESSES
from pytest_tfleak.probes.room import MEMORY
from pytest_tfleak.probes.room import Free
from pytest_tfleak.probes.room import Room
from pytest_tfleak.quantities import format_quantity
from pytest_tfleak.trace import Stopped

#: A run may take one part in so many of what is free.
_SHARE = 2
#: How many iterations that search needs, if they fit into its share, and how many if
#: they take no more than so many bytes.
_SEARCH, _EXPERIMENTS, _SMALL = 12, 60, 512 * 2**20
_NONE = -1  # no limit, or no figure
_ENDLESS = 2**31
#: So many bytes, evenly in a few iterations, are no warm-up.
_HUGE = 2**30
#: No run ends for less growth: an ordinary test may need as much after its first call.
_LEAST = {"B": 64 * 2**20}
_LEAST_COUNT = 16
_BASE, _LIMIT, _USED, _FREE, _WENT_ON = range(5)
_FIGURES = 5  # of each resource


class LimitReached(Exception):  # noqa: N818 - not an error: the run has to end
    """A resource is used up as far as a run may; the text says which and how far."""


class Narrowest(NamedTuple):
    """Which resource is the first to run out, and what limits it."""

    resource: str
    limit: str


class Guard:
    """Watches what a loop takes; call ``check`` after each iteration."""

    def __init__(self, probes: Sequence[GuardedProbe], plan: Plan) -> None:
        self._probes = probes
        self._is_off = plan.memory_limit is None
        most = plan.memory_limit
        self._most_memory = most if isinstance(most, int) else None  # None: half
        self._fewest = plan.warmup + FEWEST
        self._workers = _workers()
        self._rooms: tuple[Room, ...] = ()
        # arrays, since new ints in attributes would be memory that stays
        self._figures = array("q")
        self._counts = array("q", [0, _NONE])  # checks; which resource ran out
        self._limits: list[str] = []  # what limits each resource

    def begin(self) -> None:
        """Find the resources to watch; call it again when probes may know more."""
        if self._is_off:
            return
        known = {room.resource for room in self._rooms}
        new = tuple(r for r in self._find_rooms() if r.resource not in known)
        first = len(self._rooms)
        self._rooms += new
        self._figures.extend(array("q", [0, _NONE, 0, 0, False]) * len(new))
        self._limits += [""] * len(new)
        if self._counts[0]:
            self._start(range(first, first + len(new)))

    def check(self) -> None:
        """Note what is in use after an iteration, and whether that is too much.

        The first call notes what is free.
        """
        self._counts[0] += 1
        if self._counts[0] == 1:
            self._start(range(len(self._rooms)))
            return
        self._counts[1] = _NONE
        for place, room in enumerate(self._rooms):
            at = _FIGURES * place
            limit = self._figures[at + _LIMIT]
            used = None if limit == _NONE else room.read()
            if used is None:
                continue
            self._figures[at + _USED] = used
            is_reached = used - self._figures[at + _BASE] >= limit
            if is_reached and not self._goes_on(place):
                self._counts[1] = place

    @property
    def is_reached(self) -> bool:
        """Return whether no further iteration may run."""
        return self._counts[1] != _NONE

    @property
    def stopped(self) -> Stopped:
        """Return what ran out, if ``is_reached``."""
        room, grown = self._reached()
        return Stopped(
            limit=self._name_of_limit(room),
            signals=room.signals,
            per_iteration=grown / max(1, self._counts[0] - 1),
            is_huge=_is_huge(room, grown),
        )

    @property
    def iterations_left(self) -> int:
        """Return how many more iterations fit, if each takes as much as those so far.

        It is a large number if nothing grows.
        """
        return min(map(self._left, range(len(self._rooms))), default=_ENDLESS)

    @property
    def narrowest(self) -> Narrowest:
        """Return the resource of which the fewest iterations are left."""
        room = self._rooms[min(range(len(self._rooms)), key=self._left)]
        return Narrowest(room.resource, self._name_of_limit(room))

    def _left(self, place: int) -> int:
        ran, at = max(1, self._counts[0] - 1), _FIGURES * place
        base, limit, used, *_ = self._figures[at : at + _FIGURES]
        rate = max(0, used - base) // ran
        if limit == _NONE or not rate:
            return _ENDLESS
        return max(0, base + limit - used) // rate

    def allow_more(self) -> None:
        """Allow the search for a cause a part of what is free now.

        It is three quarters at most, and enough for a few iterations or for as much as
        the run itself was allowed. If not even two iterations fit, none may run: one
        may need twice what it leaves.
        """
        ran = max(1, self._counts[0] - 1)
        for place, room in enumerate(self._rooms):
            at, free = _FIGURES * place, room.free()
            base, limit, used, *_ = self._figures[at : at + _FIGURES]
            if limit == _NONE or free is None:
                continue
            self._figures[at + _WENT_ON] = True
            grown = max(0, used - base)
            more = max(limit, _SEARCH * grown // ran)
            if room.unit == "B":  # a slow leak takes many experiments
                more = max(more, min(_EXPERIMENTS * grown // ran, _SMALL))
            share = 3 * free.amount // (4 * self._sharing(room))
            more = min(more, share - grown // ran)
            if more >= grown // ran:
                self._figures[at + _LIMIT] = max(limit, grown + more)
                if self._counts[1] == place:
                    self._counts[1] = _NONE

    def describe(self) -> str:
        """Return which resource ran out and how far, and what allows more."""
        room, grown = self._reached()
        at = _FIGURES * self._counts[1]
        taken = f"{room.resource} grew by {format_quantity(grown, room.unit)}"
        remedy = f"set {MEMORY_LIMIT} to allow more"
        if self._most_memory is not None and room.resource == MEMORY:
            most = format_quantity(self._most_memory, room.unit)
            return f"{taken}; {MEMORY_LIMIT} is {most}"
        was = format_quantity(self._figures[at + _FREE], room.unit)
        limit_of_it = self._limits[self._counts[1]]
        parts = _SHARE * self._sharing(room)
        share = "half" if parts == _SHARE else f"1/{parts}"
        if room.resource not in (MEMORY, ADDRESSES):  # it has no size to set
            remedy = f'{MEMORY_LIMIT}="none" goes on'
        part = f"{share} or more of the {was} that {limit_of_it} had left"
        return f"{taken}, {part}; {remedy}"

    def _reached(self) -> tuple[Room, int]:
        place = self._counts[1]
        base, _, used, *_ = self._figures[_FIGURES * place : _FIGURES * (place + 1)]
        return self._rooms[place], used - base

    def _find_rooms(self) -> Iterator[Room]:
        for probe in self._probes:
            yield from probe.rooms()

    def _start(self, places: range) -> None:
        for place in places:
            room, at = self._rooms[place], _FIGURES * place
            used, free = room.read(), room.free()
            if used is None or free is None or free.amount <= 0:
                continue
            self._limits[place] = free.limit
            self._figures[at + _FREE] = free.amount
            self._figures[at + _BASE] = self._figures[at + _USED] = used
            self._figures[at + _LIMIT] = self._most(room, free)

    def _goes_on(self, place: int) -> bool:
        """Allow a few more iterations, once, and return whether any fit.

        They complete the warm-up and make as many judged ones as a verdict needs. If
        these have run, one more shows whether growth goes on.
        """
        room, at, ran = self._rooms[place], _FIGURES * place, self._counts[0]
        base, _, used, _, went_on = self._figures[at : at + _FIGURES]
        if went_on:
            return False
        self._figures[at + _WENT_ON] = True
        free, each = room.free(), max(1, (used - base) // (ran - 1))
        if free is None:
            return False
        fitting = self._share_of(room, free) // each
        if not fitting and (self._sharing(room) + 1) * each <= free.amount:
            fitting = 1
        more = min(fitting, max(self._fewest - ran, 1))
        if more > 0:  # the last one may take a little less
            self._figures[at + _LIMIT] = used - base + more * each - each // 2
        return more > 0

    def _most(self, room: Room, free: Free) -> int:
        least = _LEAST.get(room.unit, _LEAST_COUNT)
        half = max(least, self._share_of(room, free))
        if self._most_memory is not None:
            if room.resource == MEMORY:
                return self._most_memory
            if room.resource == ADDRESSES:  # a higher limit must have an effect
                return max(half, self._most_memory)
        return half

    def _share_of(self, room: Room, free: Free) -> int:
        return max(0, free.amount // (_SHARE * self._sharing(room)))

    def _sharing(self, room: Room) -> int:
        return self._workers if room.is_shared else 1

    def _name_of_limit(self, room: Room) -> str:
        if room.unit == "B":
            return MEMORY_LIMIT
        return self._limits[self._rooms.index(room)]


def _is_huge(room: Room, grown: int) -> bool:
    return room.unit == "B" and grown >= _HUGE


def _workers() -> int:
    """Return how many workers of xdist share the machine."""
    text = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "")
    return max(1, int(text)) if text.isdigit() else 1
