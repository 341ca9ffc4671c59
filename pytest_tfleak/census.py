"""Who is alive that was not before: counts by kind, cheap enough for every iteration.

What exists is frozen (``gc.freeze``), so a collection and a scan cost only what was
made since. Frozen objects of the watched kinds are followed by weak references, so a
count is absolute: an old tensor that a new one replaces is no growth. Kinds are told by
the names in a type's ``__mro__``; no code of the objects runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import weakref
from array import array
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import compress
from typing import Any

_mro = type.__dict__["__mro__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__

TypeName = tuple[str, str]  # module, qualified name
#: Python 3.12 starts with 375 objects frozen, which nobody asked for; gc.freeze() in an
#: interpreter that has imported nothing freezes 4,000.
_FROZEN_AT_START = 1_000


class Census:
    """Counts objects of the watched kinds, and all objects made since the freeze."""

    def __init__(self, ignore: Sequence[str] = ()) -> None:
        self._ignore = tuple(ignore)
        self._kinds: dict[str, int] = {}
        self._includes: list[frozenset[TypeName]] = []
        self._excludes: list[frozenset[TypeName]] = []
        self._frozen = array("q")  # alive frozen objects, by kind
        self._fresh = array("q")  # objects made since the freeze, by kind
        self._followed: list[list[weakref.ref[Any]]] = []
        self._since_start: list[list[weakref.ref[Any]]] = []
        self._held: list[list[Any]] = []
        self._types: dict[int, tuple[weakref.ref[type], tuple[int, ...]]] = {}
        self._freezes = 0
        self._frozen_before = False
        self._total = 0  # objects at the last freeze
        self._carried = 0  # made since then, and frozen since
        self.new_objects = 0
        #: How often the body has run.
        self.iterations = 0

    def watch(
        self, kind: str, types: Iterable[TypeName], unless: Iterable[TypeName] = ()
    ) -> None:
        """Count objects with one of ``types`` in their MRO, and none of ``unless``."""
        self._kinds[kind] = len(self._kinds)
        self._includes.append(frozenset(types))
        self._excludes.append(frozenset(unless))
        self._frozen.append(0)
        self._fresh.append(0)
        self._followed.append([])
        self._since_start.append([])
        self._held.append([])

    def freeze(self) -> None:
        """Collect, follow what is alive and hide it from the collector.

        The first freeze draws the line between what was there and what the run makes.
        """
        is_first = self._freezes == 0
        if is_first:
            self._frozen_before = gc.get_freeze_count() > _FROZEN_AT_START
            gc.unfreeze()  # what is hidden now would come to light in the run
        gc.collect()
        objects = gc.get_objects()
        for index, members in self._members(objects):
            for member in members:
                self._follow(index, member, is_known=is_first)
        del objects
        self._freezes += 1
        gc.freeze()
        self._total = gc.get_freeze_count()
        self._carried = 0

    def refreeze(self, look: Callable[[list[Any]], None] | None = None) -> None:
        """Collect what became garbage after it was frozen, and freeze again.

        A frozen cycle is out of the collector's reach: a model that fell out of a cache
        would look as if it were kept. ``look`` is shown all objects, and must not keep
        them.
        """
        gc.unfreeze()
        gc.collect()
        objects = gc.get_objects()
        if look is not None:
            look(objects)
        known = {id(r()) for followed in self._followed for r in followed}
        for index, followed in enumerate(self._followed):
            followed.clear()  # before the counts: a burial must not count twice
            self._frozen[index] = 0
        for index, members in self._members(objects):
            for member in members:
                self._follow(index, member, is_known=id(member) in known)
        del objects
        gc.freeze()
        # what was frozen, and has been replaced by something new, is no more
        self._carried = gc.get_freeze_count() - self._total

    def thaw(self) -> None:
        """Undo ``freeze``; where the user had frozen objects, freeze all there are."""
        if self._freezes == 0:
            return
        self._freezes = 0
        gc.unfreeze()
        if self._frozen_before:
            gc.freeze()

    def take(self) -> None:
        """Collect and count. Holds the members it found until ``release``."""
        gc.collect()
        objects = gc.get_objects()
        self.new_objects = self._carried + len(objects)
        for index in range(len(self._fresh)):
            self._fresh[index] = 0
        for index, members in self._members(objects):
            self._fresh[index] = len(members)
            self._held[index] = members

    def release(self) -> None:
        """Let go of the members that ``take`` found."""
        for members in self._held:
            members.clear()

    def alive(self, kind: str) -> int:
        """Return how many objects of a kind were alive when ``take`` was called."""
        index = self._kinds[kind]
        return self._frozen[index] + self._fresh[index]

    def members(self, kind: str) -> list[Any]:
        """Return the living objects of a kind, between ``take`` and ``release``."""
        index = self._kinds[kind]
        living = [reference() for reference in self._followed[index]]
        return [o for o in living if o is not None] + self._held[index]

    def made_since_start(self, kind: str) -> list[Any]:
        """Return the living objects of a kind that were made after the first freeze."""
        index = self._kinds[kind]
        living = [reference() for reference in self._since_start[index]]
        return [o for o in living if o is not None] + self._held[index]

    def survivors(self) -> dict[str, int]:
        """Count the living objects made since the last freeze, by full type name."""
        gc.collect()
        objects = gc.get_objects()
        examples = dict(zip(map(id, map(type, objects)), objects, strict=True))
        counts = Counter(map(id, map(type, objects)))
        del objects
        by_name: dict[str, int] = {}
        for key, count in counts.items():
            name = full_name(type(examples[key]))
            if not self._is_ignored(name):
                by_name[name] = by_name.get(name, 0) + count
        return by_name

    def kind_of(self, name: str) -> str | None:
        """Return the kind that has a type of this full name, where one was seen."""
        for reference, indexes in self._types.values():
            cls = reference()
            if cls is not None and indexes and full_name(cls) == name:
                return list(self._kinds)[indexes[0]]
        return None

    def _members(self, objects: list[Any]) -> list[tuple[int, list[Any]]]:
        """Return the members of each kind that has some, from passes in C."""
        # 100 ns an object less than one pass in Python for each kind, and most of the
        # time there is nothing to look for after the first pass
        present = set(map(id, map(type, objects)))
        self._learn(objects, present.difference(self._types))
        wanted = {key: indexes for key in present if (indexes := self._types[key][1])}
        if not wanted:
            return []
        members: dict[int, list[Any]] = {}
        is_wanted = map(wanted.__contains__, map(id, map(type, objects)))
        for found in compress(objects, is_wanted):
            for index in wanted[id(type(found))]:
                members.setdefault(index, []).append(found)
        return list(members.items())

    def _learn(self, objects: list[Any], unknown: set[int]) -> None:
        """Remember of each unknown type, given by id, which kinds it belongs to."""
        if not unknown:
            return
        is_unknown = map(unknown.__contains__, map(id, map(type, objects)))
        for found in compress(objects, is_unknown):
            cls = type(found)
            unknown.discard(id(cls))
            # keyed by id: hashing a class may run the code of its metaclass, and a
            # strong key would pin the classes that each SavedModel load makes. The
            # entry goes before the id can be taken by another class.
            forget = partial(_forget, weakref.ref(self), id(cls))
            self._types[id(cls)] = (weakref.ref(cls, forget), self._indexes(cls))

    def _indexes(self, cls: type) -> tuple[int, ...]:
        names = [_type_name(base) for base in _mro(cls)]
        if self._is_ignored(".".join(names[0])):
            return ()
        present = frozenset(names)
        return tuple(
            index
            for index, include in enumerate(self._includes)
            if include & present and not self._excludes[index] & present
        )

    def _is_ignored(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._ignore)

    def _follow(self, index: int, member: Any, *, is_known: bool) -> None:
        self._frozen[index] += 1
        try:
            reference = weakref.ref(member, partial(_bury, self._frozen, index))
        except TypeError:
            return  # counted for good: it cannot be followed
        self._followed[index].append(reference)
        if not is_known:
            self._since_start[index].append(weakref.ref(member))


def full_name(cls: type) -> str:
    """Return ``module.QualName`` of a type without running its code."""
    return ".".join(_type_name(cls))


def _type_name(cls: type) -> TypeName:
    module, name = _module(cls), _qualname(cls)
    return (module if type(module) is str else "?", name if type(name) is str else "?")


def _bury(frozen: array[int], index: int, _: object) -> None:
    frozen[index] -= 1


def _forget(census: weakref.ref[Census], key: int, reference: object) -> None:
    living = census()
    if living is not None and living._types.get(key, (None,))[0] is reference:
        del living._types[key]
