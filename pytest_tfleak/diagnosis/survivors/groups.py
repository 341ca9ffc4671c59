"""Group the survivors that belong together, and describe each group.

An object that another survivor holds belongs to it, and survivors held in the same
place form one group. So each mistake is one group, whatever it keeps alive.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import gc
import types
import weakref
from collections import Counter
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from itertools import islice
from typing import Any
from typing import Protocol
from typing import cast

from pytest_tfleak.diagnosis.holder.path import AT_ROOT
from pytest_tfleak.diagnosis.holder.path import describe_path
from pytest_tfleak.diagnosis.holder.path import without_holder
from pytest_tfleak.diagnosis.holder.roots import is_at_exit
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.safe_read import content_of
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.diagnosis.safe_read import names_in
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.survivors.workers import pools_by_worker
from pytest_tfleak.diagnosis.what.descriptors import RunningThread
from pytest_tfleak.diagnosis.what.descriptors import threads_among
from pytest_tfleak.diagnosis.what.facts import arrays_among
from pytest_tfleak.diagnosis.what.facts import closers_of
from pytest_tfleak.diagnosis.what.facts import facts_of_group
from pytest_tfleak.diagnosis.what.facts import functions_among
from pytest_tfleak.diagnosis.what.sizes import explained_bytes
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.reports.held_object import words_in_places
from pytest_tfleak.reports.held_object import words_of_group
from pytest_tfleak.retaining_path import REBOUND
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin

WHOLE = ""  # the part that is the whole group
#: Ways in which a group grows, other than by more objects in one place: a value gets
#: longer; each object refers to the one before.
LONGER_VALUE, CHAIN = "longer value", "chain"
#: A group grows in each iteration if it gains at least this many objects per iteration.
EVERY = 0.9
#: For how many members of a group the allocation site is looked up.
ASKED_FOR_ORIGIN = 20
_MOST_THREADS = 20  # that are named

#: Two figures for one rate differ by no more than this, or by this share of it.
_MOST_APART, _MOST_APART_OF = 0.5, 0.2
_ONCE = 1.5  # more objects than this in all have come in several iterations
_MANY = 16  # small objects per iteration that are enough for a leak
_MUCH = 1024  # bytes per iteration of texts and numbers that are enough, too
_CONTENT = ("builtins.tuple", "builtins.frozenset", "builtins.list", "builtins.dict")
#: Types that keep no memory alive except their own.
_SMALL = (
    *("builtins.int", "builtins.float", "builtins.bool", "builtins.str"),
    *("weakref.ReferenceType", "weakref.KeyedRef"),
)
_MOST_TOPS = 20  # survivors of one place below which to look for a signal's objects
_STEPS = 4  # most steps between two objects of a chain: closure, cells, cell, object
_LINKS = (dict, tuple, types.CellType)
_MOST_LINKS = 1_000  # of a chain that the iterations examined have made


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The members of a group that one signal counts."""

    kind: str  # full name of their type
    what: str
    per_iteration: float
    path: RetainingPath
    origin: Origin | None
    stack: tuple[Origin, ...]
    #: The tensors, variables and arrays among them, and the names of functions.
    arrays: tuple[Array, ...] = ()
    functions: tuple[str, ...] = ()
    #: Their methods that let go of what they have, such as ``close``.
    closers: tuple[str, ...] = ()
    #: The threads among them.
    threads: tuple[RunningThread, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Survivors held in one place, described by values that keep nothing alive."""

    path: RetainingPath
    objects: float  # per iteration
    bytes: float  # of heap memory per iteration
    members: Mapping[str, float]  # objects per iteration, by full name of the type
    runs: int = 10  # how many iterations made them
    parts: Mapping[str, Part] = field(default_factory=dict)  # by signal
    #: The paths to the objects that signals count, even below other survivors.
    below: tuple[RetainingPath, ...] = ()
    growth: str = ""  # LONGER_VALUE, CHAIN, or "" for more objects
    link: str = ""  # the name by which one object of a chain holds the next
    stored: Origin | None = None  # the line that puts them there
    #: Whether the last iteration made all of it: each call replaces what is there.
    is_replaced: bool = False

    @property
    def whole(self) -> Part:
        """Return the part that describes the whole group: the objects held directly."""
        return self.parts[WHOLE]

    @property
    def lines(self) -> tuple[Origin, ...]:
        """Return the lines that made and stored its objects, and their callers."""
        made = ((part.origin, *part.stack) for part in self.parts.values())
        lines = (self.stored, *(line for lines in made for line in lines))
        return tuple(line for line in lines if line is not None)

    @property
    def kinds(self) -> list[str]:
        """Return the types of its objects, those first that signals count."""
        counted = [part.kind for name, part in self.parts.items() if name != WHOLE]
        return [*counted, self.whole.kind, *self.members]

    @property
    def is_regular(self) -> bool:
        """Return whether each iteration adds to it."""
        return self.is_steady and self.objects >= EVERY

    @property
    def is_plain(self) -> bool:
        """Return whether it consists of data whose size Python knows."""
        return all(name in (*_CONTENT, *_SMALL) for name in self.members)

    @property
    def is_steady(self) -> bool:
        """Return whether several iterations add to it, not just a single one."""
        kind = self.whole.kind
        if self.growth == LONGER_VALUE:
            return True
        rate = max(self.whole.per_iteration, self.members.get(kind, 0.0))
        if kind in _CONTENT and self.path.is_native:
            return rate >= EVERY
        if kind in _CONTENT:  # it may be rebuilt each time, with one item more
            return self.objects >= EVERY
        if kind in _SMALL:
            return rate >= _MANY or self.bytes >= _MUCH
        return rate * self.runs > _ONCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivors:
    """The objects to explain; release them before measuring again."""

    objects: list[Any]
    #: Ids of these objects and of their attribute dicts, which are not their holders.
    ids: frozenset[int]
    #: Ids of the objects that the last iterations made; the others are older.
    recent: frozenset[int]
    #: Ids of the objects that the very last iteration made, if they are known.
    newest: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Survivors held in one place; release them before measuring again."""

    survivors: Survivors
    held: list[Any]  # directly
    all: list[Any]  # and those that they hold in turn
    #: The chain from a root to the first object held, [] if there is none.
    chain: list[Any]


def group_by_place(survivors: Survivors, paths: Paths) -> list[Place]:
    """Group survivors by the place that holds them, largest group first."""
    tops: dict[int, Any] = {}
    pools = pools_by_worker(survivors.objects)
    lost = [
        o for o in survivors.objects if _top(o, survivors, paths, tops, pools) is None
    ]
    places: dict[tuple[int, str], Place] = {}
    for survivor in survivors.objects:
        top = tops.get(id(survivor))
        if top is None:
            continue
        # by the class's name, since each iteration may make the class again
        key = (id(paths.parent_of(top)), full_name(type(top)))
        if key not in places:
            chain = paths.path_to(top)
            places[key] = Place(survivors=survivors, held=[], all=[], chain=chain)
        places[key].all.append(survivor)
        if survivor is top:
            places[key].held.append(survivor)
    held = [place for place in places.values() if place.held]
    if held and not paths.is_complete:
        return _largest_first(held)  # these may hold what was not reached
    return _largest_first([*held, *_without_path(lost, survivors)])


def _top(
    survivor: Any,
    survivors: Survivors,
    paths: Paths,
    tops: dict[int, Any],
    pools: Mapping[int, Any],
) -> Any:
    """Return the survivor nearest to the root on the path to this survivor."""
    way: list[Any] = []
    at = survivor
    while id(at) not in tops:
        holder = pools.get(id(at), _finalized_by(at))
        is_circle = holder is not None and any(holder is passed for passed in way)
        if id(holder) not in survivors.ids or is_circle:
            holder = paths.parent_of(at)
        if holder is None:
            return None
        way.append(at)
        if id(holder) not in survivors.ids:
            tops[id(at)] = at
            break
        at = holder
    top = tops[id(at)]
    for passed in way:
        tops[id(passed)] = top
    return top


def _finalized_by(o: Any) -> Any:
    """Return the object whose finalizer this is, which keeps it in a registry.

    The finalizer goes when the object is freed, so what holds that object is the cause.
    """
    if type(o) is weakref.finalize:
        o = cast(Any, weakref.finalize)._registry.get(o)
    if full_name(type(o)) != "weakref.finalize._Info":
        return None
    reference = read_field(o, "weakref")
    return reference() if type(reference) is weakref.ref else None


def _largest_first(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=lambda place: -len(place.all))


def _without_path(lost: list[Any], survivors: Survivors) -> list[Place]:
    """Group survivors that no path leads to, by the type of the topmost ones."""
    waiting = {id(o): o for o in lost}
    places: dict[int, Place] = {}
    for first in _from_the_top(lost, waiting):
        if id(first) in waiting:
            nowhere = Place(survivors=survivors, held=[], all=[], chain=[])
            place = places.setdefault(id(type(first)), nowhere)
            place.held.append(first)
            place.all.extend(_take_below(waiting, first))
    return list(places.values())


def _from_the_top(lost: list[Any], inside: Mapping[int, Any]) -> list[Any]:
    """Return objects in topological order: holders first, except within a cycle."""
    seen: set[int] = set()
    finished: list[Any] = []
    for start in sorted(lost, key=_is_builtin):  # the first object represents a cycle
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


def _is_builtin(o: object) -> bool:
    return full_name(type(o)).startswith("builtins.")


def _take_below(waiting: dict[int, Any], first: Any) -> list[Any]:
    """Remove from ``waiting`` an object and all that it leads to, and return them."""
    taken = [waiting.pop(id(first))]
    for holder in taken:
        held = gc.get_referents(holder)
        taken.extend(waiting.pop(id(o)) for o in held if id(o) in waiting)
    return taken


def ids_of_attributes(objects: Iterable[Any]) -> Iterator[int]:
    """Yield the ids of the dicts in which objects keep their attributes."""
    for owner in objects:
        for held in gc.get_referents(owner):
            if type(held) is dict:
                yield id(held)


def within_sequence(place: Place) -> Place:
    """Return the new items of a list or tuple that each call makes anew, longer by one.

    Else return the place itself.
    """
    made, recent = place.held[0], place.survivors.recent
    is_one = len(place.held) == 1 and len(place.chain) >= AT_ROOT
    if not is_one or full_name(type(made)) not in REBOUND:
        return place
    items = list({id(item): item for item in content_of(made)}.values())
    new = [item for item in items if id(item) in recent]
    if not new or len(new) == len(items):
        return place
    kind = Counter(type(item) for item in new).most_common(1)[0][0]
    held = [item for item in new if type(item) is kind]
    return replace(place, held=held, chain=[*place.chain, held[0]])


def join_at_roots(places: Iterable[Place]) -> list[Place]:
    """Join places whose objects each call leaves at a new root, such as a thread."""
    joined: dict[tuple[str, ...] | int, Place] = {}
    for place in places:
        first = joined.setdefault(_place_at_root(place) or id(place), place)
        if first is not place:
            first.held.extend(place.held)
            first.all.extend(place.all)
    return _largest_first(joined.values())


def _place_at_root(place: Place) -> tuple[str, ...]:
    """Return the place of an object that a root holds directly, else ()."""
    if len(place.chain) == AT_ROOT:
        with suppress(Exception):  # an object that cannot be read is not joined
            return describe_path(place.chain, place.survivors.ids).place
    return ()


class SizeWhenJudged(Protocol):
    """Returns how long a container was at the last judged reading."""

    def __call__(
        self, container: object, size: int, rate: float, /, *, is_new: bool
    ) -> int:
        """See ``Containers.size_when_judged``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Describer:
    """Describes the groups that the last iterations left."""

    runs: int  # how many iterations made the recent objects
    signal_of: Callable[[type], str | None]  # returns the signal that counts a type
    frames_of: Callable[[object], Sequence[Frame]]  # returns an object's stack
    is_searched: bool = True  # whether the search saw all that may hold others
    #: How often the search for holders itself refers to objects, by id.
    references: Mapping[int, int] = field(default_factory=dict)
    #: Returns the line that puts objects of a type, by its full name, into a container,
    #: None if it is unknown.
    stored_in: Callable[[object, str], Origin | None] = lambda _, __: None
    #: Returns how long a container was at the last judged reading, from its length now
    #: and from how many items each iteration adds.
    size_when_judged: SizeWhenJudged = lambda _, size, __, **___: size
    #: The judged growth per iteration, by signal.
    rates: Mapping[str, float] = field(default_factory=dict)
    gap: int = 1  # how many iterations lie between two rises at most

    def describe(self, place: Place) -> Group:
        """Describe the survivors held in one place by values."""
        path = self._path_to(place)
        recent = [o for o in place.all if id(o) in place.survivors.recent]
        shown, growth = self._shown_as_whole(place)
        parts = {WHOLE: self._part(shown, place, path)}
        below: list[RetainingPath] = []
        for signal, counted in self._by_signal(place).items():
            chain = _chain_to(counted, place)
            path_below = self._described(chain, place)
            parts[signal] = self._part(counted, place, path_below)
            cut = self._until_counted(chain, len(place.chain) - 1)
            below.append(self._described(cut, place))
        types_ = Counter(full_name(type(o)) for o in recent)
        return Group(
            path=path,
            objects=len(recent) / self.runs,
            bytes=explained_bytes(recent, self.runs, self.references),
            runs=self.runs,
            members={name: count / self.runs for name, count in types_.items()},
            parts=parts,
            below=tuple(below),
            growth=growth,
            link=_link_between(*shown[:2]) if growth == CHAIN else "",
            stored=self._stored(place),
            is_replaced=all(id(o) in place.survivors.newest for o in place.all),
        )

    def _stored(self, place: Place) -> Origin | None:
        """Return the line that puts the objects where they are held."""
        if len(place.chain) < AT_ROOT:
            return None
        if is_at_exit(place.chain[0]):
            return self._registered(place)
        outer, holder = place.chain[-3:-1]
        is_cache = issubclass(type(outer), functools._lru_cache_wrapper)
        kind = full_name(type(place.held[0]))
        return self.stored_in(outer if is_cache else holder, kind)

    def _registered(self, place: Place) -> Origin | None:
        """Return the line that made what atexit keeps, if it also registers it."""
        origin, _ = self._made_at(place.held)
        calls = "register(" in origin.text if origin is not None else False
        return origin if calls else None

    def _path_to(self, place: Place) -> RetainingPath:
        if not place.chain:  # without a holder, only the type distinguishes groups
            return without_holder(place.held[0], is_searched=self.is_searched)
        return self._described(place.chain, place)

    def _described(self, chain: list[Any], place: Place) -> RetainingPath:
        """Describe a chain, with the sizes that containers had when judged."""
        path = describe_path(chain, place.survivors.ids)
        added = sum(id(o) in place.survivors.recent for o in place.held) / self.runs
        # a bounded cache keeps its items in a dict of its own
        holders = {id(o) for o in place.chain[-3:-1]}
        steps = list(path.steps)
        for at, (step, held) in enumerate(zip(path.steps, chain[2:], strict=False)):
            if step.size is not None:
                rate = added if id(held) in holders else 0.0
                size = self.size_when_judged(
                    held, step.size, rate, is_new=id(held) in place.survivors.recent
                )
                steps[at] = replace(step, size=size)
        return replace(path, steps=tuple(steps))

    def _shown_as_whole(self, place: Place) -> tuple[list[Any], str]:
        """Return the objects that represent a group, and how it grows."""
        if len(place.held) == 1:
            chain = _chain_below(place.held[0], place.survivors.recent)
            if len(chain) >= self.runs:
                return chain, CHAIN
        return place.held, ""

    def _by_signal(self, place: Place) -> dict[str, list[Any]]:
        """Return the objects that each signal counts."""
        by_signal: dict[str, list[Any]] = {}
        signals: dict[int, str | None] = {}  # by id of the type, of which there are few
        for member in place.all:
            kind = type(member)
            if id(kind) not in signals:
                signals[id(kind)] = self.signal_of(kind)
            signal = signals[id(kind)]
            if signal is not None:
                by_signal.setdefault(signal, []).append(member)
        return by_signal

    def _until_counted(self, chain: list[Any], start: int) -> list[Any]:
        """Cut a chain after the first object that a signal counts."""
        for at in range(max(start, 0), len(chain)):
            if self.signal_of(type(chain[at])) is not None:
                return chain[: at + 1]
        return chain

    def _part(self, shown: list[Any], place: Place, path: RetainingPath) -> Part:
        held = {id(o) for o in place.held}
        directly = [o for o in shown if id(o) in held]
        origin, stack = self._made_at(directly, shown, place.all)
        rate = sum(id(o) in place.survivors.recent for o in shown) / self.runs
        known = facts_of_group(shown)
        return Part(
            kind=full_name(type(shown[0])),
            what=words_of_group(known, self._as_judged(rate, type(shown[0]))),
            per_iteration=rate,
            path=path,
            origin=origin,
            stack=stack,
            arrays=arrays_among(known),
            functions=functions_among(shown),
            closers=closers_of(shown[0]),
            threads=threads_among(shown[:_MOST_THREADS]),
        )

    def _as_judged(self, rate: float, kind: type) -> float:
        """Return the judged rate if this one differs only by what one iteration leaves.

        The objects of the first or the last iteration may count in part only; and of
        growth in every tenth iteration, 17 iterations may show two rises, or one.
        """
        judged = self.rates.get(self.signal_of(kind) or "", 0.0)
        for exact in (judged, float(round(rate)), round(rate * self.gap) / self.gap):
            most = max(_MOST_APART, _MOST_APART_OF * exact)
            if exact and abs(rate - exact) <= min((exact + 1) / self.runs, most):
                return exact
        return rate

    def _made_at(self, *asked: list[Any]) -> tuple[Origin | None, tuple[Origin, ...]]:
        """Return the most frequent allocation site in the first list that has any."""
        for objects in asked:
            made: Counter[Origin] = Counter()
            stacks: dict[Origin, tuple[Origin, ...]] = {}
            known = filter(None, map(self.frames_of, objects))
            for frames in islice(known, ASKED_FOR_ORIGIN):
                origin, stack = origin_of(frames)
                if origin is not None:
                    made[origin] += 1
                    stacks.setdefault(origin, stack)
            if made:
                origin = made.most_common(1)[0][0]
                return origin, stacks[origin]
        return None, ()


def _chain_to(wanted: list[Any], place: Place) -> list[Any]:
    """Return the chain to the nearest wanted object, through the place."""
    ids, inside = {id(o) for o in wanted}, {id(o) for o in place.all}
    if place.chain:
        for top in place.held[:_MOST_TOPS]:
            way = _way_down(top, ids, inside)
            if way:
                return [*place.chain[:-1], *way]
    return place.chain


def _way_down(top: Any, wanted: set[int], inside: set[int]) -> list[Any]:
    """Return the shortest way from an object to a wanted one, [] if there is none."""
    holders: dict[int, Any] = {id(top): None}
    pending = deque([top])
    while pending:
        at = pending.popleft()
        if id(at) in wanted:
            way = [at]
            while holders[id(way[-1])] is not None:
                way.append(holders[id(way[-1])])
            return way[::-1]
        # follow the attributes, since reading an object's __dict__ may create that dict
        for held in _held_by(at):
            if id(held) not in holders and id(held) in inside:
                holders[id(held)] = at
                pending.append(held)
    return []


def _chain_below(first: Any, recent: frozenset[int]) -> list[Any]:
    """Return the chain of recent objects of one type, each of which holds the next.

    Return [] if no older object ends the chain, or none that is near: then each call
    makes all of it again.
    """
    chain, seen = [first], {id(first)}
    while len(chain) <= _MOST_LINKS:
        nearest = _nearest_alike(chain[-1], recent)
        if len(nearest) != 1 or id(nearest[0]) in seen:
            return []
        if id(nearest[0]) not in recent:
            return chain
        chain.append(nearest[0])
        seen.add(id(nearest[0]))
    return []


def _link_between(holder: Any, held: Any = None) -> str:
    """Return the attribute or closure variable by which one object holds another."""
    if type(holder) is types.FunctionType:
        cells = zip(holder.__code__.co_freevars, holder.__closure__ or (), strict=False)
        return next((name for name, cell in cells if _holds(cell, held)), "")
    found = dict.items(fields_of(holder))
    return next((name for name, value in found if value is held), "")


def _holds(cell: types.CellType, held: Any) -> bool:
    return any(one is held for one in gc.get_referents(cell))


def _nearest_alike(start: Any, recent: frozenset[int]) -> list[Any]:
    """Return the objects of the same type that are fewest steps away."""
    seen, level = {id(start)}, [start]
    for _ in range(_STEPS):
        held = [o for at in level for o in _held_by(at)]
        held = list({id(o): o for o in held if id(o) not in seen}.values())
        alike = [o for o in held if type(o) is type(start)]
        if alike:
            return alike
        seen.update(map(id, held))
        # reading may have created a dict, a cell or a tuple of cells in between
        level = [o for o in held if id(o) in recent or is_exactly(o, *_LINKS)]
    return []


def _held_by(holder: Any) -> list[Any]:
    attributes = list(dict.values(fields_of(holder)))
    if issubclass(type(holder), type):  # the collector does not list its attributes
        attributes = list(names_in(holder).values())
    elif type(holder) is types.FunctionType:  # without the globals of its module
        cells = holder.__closure__ or ()
        return [*cells, *gc.get_referents(*cells), holder.__defaults__, *attributes]
    return [*gc.get_referents(holder), *attributes]


def merge_same_paths(groups: Iterable[Group]) -> list[Group]:
    """Join groups whose paths differ only in indexes; return the largest first."""
    by_path: dict[tuple[str, ...], list[Group]] = {}
    for group in _most_bytes_first(groups):
        by_path.setdefault(group.path.place, []).append(group)
    return _most_bytes_first(map(_merge, by_path.values()))


def _most_bytes_first(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (-group.bytes, -group.objects))


def _merge(groups: Sequence[Group]) -> Group:
    """Join groups into one that is described by the first."""
    first = groups[0]
    if len(groups) == 1:
        return first
    members: Counter[str] = Counter()
    parts: dict[str, Part] = {}
    for group in groups:
        members.update(group.members)
        for signal, part in group.parts.items():
            parts[signal] = _add_rate(parts.get(signal), part)
    if len({group.whole.what for group in groups}) == 1:
        what = words_in_places(first.whole.what, len(groups))
        parts[WHOLE] = replace(parts[WHOLE], what=what)
    return replace(
        first,
        objects=sum(group.objects for group in groups),
        bytes=sum(group.bytes for group in groups),
        members=dict(members),
        parts=parts,
        stored=next((group.stored for group in groups if group.stored), None),
        is_replaced=all(group.is_replaced for group in groups),
    )


def _add_rate(first: Part | None, part: Part) -> Part:
    if first is None:
        return part
    return replace(first, per_iteration=first.per_iteration + part.per_iteration)
