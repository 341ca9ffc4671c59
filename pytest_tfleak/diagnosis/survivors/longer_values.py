"""Find the value in user code or a library that is longer after each iteration.

It is one value in one place, which is rebuilt from the old one or grows in place. So
no objects pile up, and no container gains entries. The value may be an array or a text,
or an object that holds some, such as a DataFrame or a dict of arrays. All of these may
be replaced in each call: what stays is the object that holds the value.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from typing import Any

from pytest_tfleak.diagnosis.holder.parts import part_of
from pytest_tfleak.diagnosis.holder.parts import parts_of
from pytest_tfleak.diagnosis.holder.path import describe_path
from pytest_tfleak.diagnosis.holder.roots import Start
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.origin.stores import Figure
from pytest_tfleak.diagnosis.origin.stores import find_lines
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.diagnosis.safe_read import sized_among
from pytest_tfleak.diagnosis.survivors.groups import LONGER_VALUE
from pytest_tfleak.diagnosis.survivors.groups import WHOLE
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Part
from pytest_tfleak.diagnosis.survivors.weights import Scale
from pytest_tfleak.diagnosis.survivors.weights import Weights
from pytest_tfleak.diagnosis.survivors.weights import weigh_all
from pytest_tfleak.diagnosis.survivors.weights import weigh_below
from pytest_tfleak.diagnosis.survivors.weights import without_collections
from pytest_tfleak.diagnosis.what.facts import facts_of
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.reports.held_object import words_of_longer_value
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.run.own_bytes import measure_of
from pytest_tfleak.verdict import Origin

#: The value must hold this share of all that was added so far, and must then grow by
#: this share of the rate.
_PART = 0.5
#: A part that grows by this share of what its holder grows by stands for all of it.
_ALONE = 0.7
_LEAST_TIME = 3.0  # seconds, which a search of user code alone needs on a busy machine
_MOST_PARTS = 16  # that are looked at in each line
#: How many iterations show the line, in which share of the time that is left.
_SHOWN, _LINES = 4, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search for a longer value has found."""

    group: Group | None = None
    #: Whether all Python objects together were weighed, and do not grow.
    is_excluded: bool = False
    is_complete: bool = True  # whether there was time to find that out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """An object that holds much, and the weights of its parts, by name."""

    holder: Any
    weight: int
    parts: Mapping[Hashable, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The value that grows; release it before measuring again."""

    chain: list[Any]  # from a root to the value
    weight: int
    rate: float
    holder: Any
    names: list[Hashable]  # of the holder's parts that grow


class LongerValue:
    """Searches for the value that grows by ``rate`` bytes or blocks in each iteration.

    ``after`` is called after each iteration, and ``handed`` is what the test receives
    from pytest.
    """

    def __init__(
        self,
        loop: Loop,
        handed: Mapping[str, object],
        rate: float,
        iterations: int,
        after: Sequence[Callable[[], None]],
        deadline: Deadline,
        *,
        in_blocks: bool = False,
    ) -> None:
        self._loop = loop
        self._handed = handed
        self._rate = rate
        self._iterations = iterations
        self._after = after
        self._deadline = deadline.at_least(_LEAST_TIME)
        self._scale = Scale(in_blocks=in_blocks)

    def find(self) -> Searched:
        """Run the body, and find what grows in user code, or else in a library."""
        everything = [self._weigh_everything()]
        group, is_complete = self._find_among(Paths.find_all_of_users)
        if group is not None or not is_complete or not self._deadline.fits(0):
            return Searched(group=group, is_complete=group is not None)
        everything.append(self._weigh_everything())
        if everything[1] - everything[0] < _PART * self._rate * self._iterations:
            return Searched(is_excluded=True)
        group, is_complete = self._find_among(Paths.find_all)
        return Searched(group=group, is_complete=is_complete)

    def _weigh_everything(self) -> int:
        """Return the weight of all objects together, whatever holds them."""
        weights: list[int] = []

        def weigh(objects: list[Any]) -> None:
            weights.append(weigh_all(objects, self._scale))

        self._loop.refreeze(weigh)
        return sum(weights)

    def _find_among(
        self, find: Callable[[Paths], list[Any]]
    ) -> tuple[Group | None, bool]:
        """Search in the objects that ``find`` returns; return if it saw all of them."""
        before = self._loop.trace.rows + self._loop.ran_again
        paths = Paths(self._handed, self._deadline)
        candidates = self._candidates(paths, find, _PART * self._rate * before)
        is_complete = paths.is_complete
        del paths
        if not is_complete:
            return None, False
        self._iterations = self._loop.repeat(
            self._iterations, self._after, self._deadline
        )
        paths = Paths(self._handed, self._deadline)
        found = self._grown(candidates, paths, find)
        del candidates
        if found is None:
            return None, paths.is_complete
        group = _group(found, of_blocks=self._scale.in_blocks)
        read = _reader(found.holder, found.names, self._scale)
        del found, paths  # or they would keep the old value
        return replace(group, stored=self._line(read)), True

    def _candidates(
        self, paths: Paths, find: Callable[[Paths], list[Any]], least: float
    ) -> list[_Candidate]:
        """Return the objects that hold so much, nearest to a root first."""
        with without_collections():
            weights = Weights(paths, find(paths), self._scale)
            return [
                _Candidate(
                    holder=holder,
                    weight=weights.of(holder),
                    parts={name: weights.of(o) for name, o in parts_of(holder).items()},
                )
                for holder in weights.seen
                # no array: one with another reference cannot be resized in place
                if weights.of(holder) >= least and measure_of(type(holder)) is None
            ]

    def _grown(
        self,
        candidates: Sequence[_Candidate],
        paths: Paths,
        find: Callable[[Paths], list[Any]],
    ) -> _Found | None:
        """Return what has grown by enough, as far from a root as possible."""
        with without_collections():
            weights = Weights(paths, find(paths), self._scale)
            for one in reversed(candidates):
                rate = (weights.of(one.holder) - one.weight) / self._iterations
                if rate >= _PART * self._rate and paths.path_to(one.holder):
                    found = _value_in(one, paths, weights, rate * self._iterations)
                    return replace(found, rate=min(rate, self._rate))
        return None

    def _line(self, read: Callable[[], int]) -> Origin | None:
        """Return the line in which a figure grows."""
        iterations = min(self._iterations, _SHOWN)
        deadline = self._deadline.share(_LINES)
        figures = [Figure(read=read)]
        [found], _ = find_lines(self._loop, figures, iterations, self._after, deadline)
        return found.line


def _value_in(one: _Candidate, paths: Paths, weights: Weights, grown: float) -> _Found:
    """Return the part of a holder that grows, or the holder if several parts do."""
    now = parts_of(one.holder)
    by_name = {name: weights.of(o) - one.parts.get(name, 0) for name, o in now.items()}
    names = sorted(by_name, key=lambda name: -by_name[name])
    chain = paths.path_to(one.holder)
    is_root = type(chain[-2]) is Start
    if names and (is_root or by_name[names[0]] >= _ALONE * grown):
        names = names[:1]
        value = now[names[0]]
        if issubclass(type(chain[-2]), type) and type(chain[-1]) is dict:
            chain = chain[:-1]  # the dict of a class, which only the class may change
        return _Found(
            chain=[*chain, value],
            weight=weights.of(value),
            rate=grown,
            holder=one.holder,
            names=names,
        )
    if type(chain[-1]) is dict and chain[-1] is fields_of(chain[-2]):
        chain = chain[:-1]  # an object with several attributes that grow
    return _Found(
        chain=chain,
        weight=weights.of(chain[-1]),
        rate=grown,
        holder=one.holder,
        names=[name for name in names if by_name[name] > 0],
    )


def _group(found: _Found, *, of_blocks: bool) -> Group:
    value = found.chain[-1]
    path = describe_path(found.chain, new=())
    kind = full_name(type(value))
    known = facts_of(value)
    if known.size is None and not of_blocks:
        known = replace(known, size=found.weight)
    return Group(
        path=path,
        growth=LONGER_VALUE,
        objects=1.0,
        bytes=0.0 if of_blocks else found.rate,
        members={kind: 1.0},
        parts={
            WHOLE: Part(
                kind=kind,
                what=words_of_longer_value(known),
                per_iteration=1.0,
                path=path,
                origin=None,
                stack=(),
            )
        },
    )


def _reader(holder: Any, names: Sequence[Hashable], scale: Scale) -> Callable[[], int]:
    """Return what reads, at each line, how much the parts that grow hold."""
    for container, len_ in sized_among([holder]):
        if len(names) > _MOST_PARTS:
            return partial(len_, container)
    held_by = Paths({}, NO_DEADLINE).held_by
    ids: list[int] = []
    below = 0

    def read() -> int:
        nonlocal ids, below
        values = [part_of(holder, name) for name in names[:_MOST_PARTS]] or [holder]
        own = sum(map(scale.weigh, values))
        if ids != list(map(id, values)):  # what a part holds changes only with the part
            ids = list(map(id, values))
            below = weigh_below(values, scale, held_by) - own
        return own + below

    return read
