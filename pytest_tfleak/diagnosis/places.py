"""Survivors put together by the place in which they are held.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass
from typing import Any

from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.paths import Paths


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
    ids = {id(o) for o in lost}
    below = {id(held) for o in lost for held in gc.get_referents(o)} & ids
    groups: dict[int, Members] = {}
    for survivor in lost:
        if id(survivor) not in below or below == ids:
            members = groups.setdefault(id(type(survivor)), Members([], [], []))
            members.held.append(survivor)
            members.all.append(survivor)
    if len(groups) == 1:  # what hangs below can only belong to it
        only = next(iter(groups.values()))
        only.all = lost
    return list(groups.values())


def below(members: Members, member: Any) -> list[Any]:
    """Return the path to a member: that to the group, and on to it."""
    if not members.chain or members.chain[-1] is member:
        return members.chain
    parents: dict[int, Any] = {}
    inside = {id(o) for o in members.all}
    pending = deque([members.chain[-1]])
    while pending:
        holder = pending.popleft()
        for held in gc.get_referents(holder):
            if id(held) not in parents and id(held) in inside:
                parents[id(held)] = holder
                pending.append(held)
    way = [member]
    while id(way[-1]) in parents and way[-1] is not members.chain[-1]:
        way.append(parents[id(way[-1])])
    if way[-1] is not members.chain[-1]:
        return members.chain
    return [*members.chain[:-1], *reversed(way)]
