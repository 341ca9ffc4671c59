"""Survivors put together by the place in which they are held.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import types
from collections import deque
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.fields import fields_of
from pytest_tfleak.diagnosis.paths import Paths

_MOST_TOPS = 20
_STEPS = 4  # from one object of a chain to the next: closure, cells, cell, object
_LINKS = (dict, tuple, types.CellType)
_names = type.__dict__["__dict__"].__get__


@dataclass(slots=True)
class Members:
    """The objects of one group, for as long as they are looked at."""

    held: list[Any]  # directly
    all: list[Any]
    chain: list[Any]


def grouped(found: list[Any], new: set[int], paths: Paths) -> list[Members]:
    """Put survivors together that are held in one place, those below them included."""
    tops: dict[int, Any] = {}
    lost = []
    for survivor in found:
        top = _top(survivor, new, paths, tops)
        if top is None:
            lost.append(survivor)
    groups: dict[tuple[int, str], Members] = {}
    for survivor in found:
        top = tops.get(id(survivor))
        if top is not None:
            holder = paths.parent_of(top)
            key = (id(holder), full_name(type(top)))  # a class may be made anew
            if key not in groups:
                groups[key] = Members([], [], paths.path_to(top))
            groups[key].all.append(survivor)
            if survivor is top:
                groups[key].held.append(survivor)
    made = [group for group in groups.values() if group.held] + _held_by_nobody(lost)
    return sorted(made, key=lambda group: -len(group.all))


def _top(survivor: Any, new: set[int], paths: Paths, tops: dict[int, Any]) -> Any:
    """Return the survivor nearest to the root on the path to this one."""
    way, at = [], survivor
    while id(at) not in tops:
        holder = paths.parent_of(at)
        if holder is None:
            return None
        way.append(at)
        if id(holder) not in new:
            tops[id(at)] = at
            break
        at = holder
    top = tops[id(at)]
    for passed in way:
        tops[id(passed)] = top
    return top


def _held_by_nobody(lost: list[Any]) -> list[Members]:
    """Group what no path leads to by the type of what stands first."""
    waiting = {id(o): o for o in lost}
    groups: dict[int, Members] = {}
    for first in _from_the_top(lost, waiting):
        if id(first) in waiting:
            members = groups.setdefault(id(type(first)), Members([], [], []))
            members.held.append(first)
            members.all += _taken_from(waiting, first)
    return list(groups.values())


def _from_the_top(lost: list[Any], inside: Mapping[int, Any]) -> list[Any]:
    """Return objects, each before what it leads to where that is no cycle."""
    seen: set[int] = set()
    finished: list[Any] = []
    for start in sorted(lost, key=_is_builtin):  # of a cycle the first stands for it
        if id(start) in seen:
            continue
        seen.add(id(start))
        way = [(start, iter(gc.get_referents(start)))]
        while way:
            holder, rest = way[-1]
            for held in rest:
                if id(held) in inside and id(held) not in seen:
                    seen.add(id(held))
                    way.append((held, iter(gc.get_referents(held))))
                    break
            else:
                finished.append(holder)
                way.pop()
    return finished[::-1]


def _taken_from(waiting: dict[int, Any], first: Any) -> list[Any]:
    """Return an object and what it leads to, which waits no more."""
    taken = [waiting.pop(id(first))]
    for holder in taken:
        below = gc.get_referents(holder)
        taken.extend(waiting.pop(id(o)) for o in below if id(o) in waiting)
    return taken


def _is_builtin(o: object) -> bool:
    return full_name(type(o)).startswith("builtins.")


def below(members: Members, wanted: list[Any]) -> list[Any]:
    """Return the path to the nearest that is wanted: that to the group, and on."""
    ids, inside = {id(o) for o in wanted}, {id(o) for o in members.all}
    if members.chain:
        for top in members.held[:_MOST_TOPS]:
            way = _way_down(top, ids, inside)
            if way:
                return [*members.chain[:-1], *way]
    return members.chain


def _way_down(top: Any, wanted: set[int], inside: set[int]) -> list[Any]:
    """Return the shortest way from an object to one that is wanted, [] without one."""
    holders: dict[int, Any] = {id(top): None}
    pending = deque([top])
    while pending:
        at = pending.popleft()
        if id(at) in wanted:
            way = [at]
            while holders[id(way[-1])] is not None:
                way.append(holders[id(way[-1])])
            return way[::-1]
        # its dict may have been made since, by whoever looked at it
        for held in _held_by(at):
            if id(held) not in holders and id(held) in inside:
                holders[id(held)] = at
                pending.append(held)
    return []


def chain_below(first: Any, fresh: set[int]) -> list[Any]:
    """Return the fresh objects of one type that hang below one another, the first too.

    [] where they do not end in an older one: then all of them are made anew each time.
    """
    chain = [first]
    while True:
        nearest = _nearest_alike(chain[-1], fresh)
        if len(nearest) != 1 or any(nearest[0] is before for before in chain):
            return []
        if id(nearest[0]) not in fresh:
            return chain
        chain.append(nearest[0])


def _nearest_alike(start: Any, fresh: set[int]) -> list[Any]:
    """Return the objects of the same type that are the fewest steps away."""
    seen, level = {id(start)}, [start]
    for _ in range(_STEPS):
        held = [o for at in level for o in _held_by(at)]
        held = list({id(o): o for o in held if id(o) not in seen}.values())
        alike = [o for o in held if type(o) is type(start)]
        if alike:
            return alike
        seen.update(map(id, held))
        # a dict, a cell or a tuple of cells may have been made since
        level = [o for o in held if id(o) in fresh or type(o) in _LINKS]
    return []


def _held_by(holder: Any) -> list[Any]:
    attributes = list(dict.values(fields_of(holder)))
    if issubclass(type(holder), type):  # the collector shows no class's names
        attributes = list(_names(holder).values())
    elif type(holder) is types.FunctionType:  # not the globals of its module
        cells = holder.__closure__ or ()
        return [*cells, *gc.get_referents(*cells), holder.__defaults__, *attributes]
    return [*gc.get_referents(holder), *attributes]


def ids_of_attributes(objects: list[Any]) -> Iterator[int]:
    """Yield the ids of the dictionaries in which objects keep their attributes."""
    for owner in objects:
        for held in gc.get_referents(owner):
            if type(held) is dict:
                yield id(held)
