"""Count living objects by kind, at a cost that every iteration can afford.

Existing objects are frozen (``gc.freeze``), so a collection and a scan only take time
for objects made since then. Weak references follow the frozen objects of the watched
kinds, so counts are absolute: a new tensor that replaces an old one is no growth. The
names in a type's ``__mro__`` tell its kind; no code of the objects runs.

The first census of a process looks at all objects, and so does one after a full
collection by other code. The next ones know what the last one followed, and look only
at what was made since then.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
import weakref
from array import array
from collections import Counter
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import compress
from itertools import takewhile
from operator import is_not
from time import perf_counter
from typing import Any
from typing import ClassVar

from pytest_tfleak.signals import TypeName
from pytest_tfleak.tf.patch import Patches

_mro = type.__dict__["__mro__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__

# the original functions, which a census replaces
_freeze, _unfreeze, _count_frozen = gc.freeze, gc.unfreeze, gc.get_freeze_count
#: More frozen objects than this mean that someone has called gc.freeze(). Python 3.12
#: starts with 375; a call freezes 4,000 even in an interpreter without more imports.
_FROZEN_AT_START = 1_000


#: Garbage may wait until the blocks in use have grown by a factor, or until so many
#: bytes were added.
_MOST_ADDED, _MOST_GROWTH = 1.25, 256 * 1024 * 1024
#: It may also wait for so many times as long as a collection takes.
_RARELY = 40


#: Calls a function that looks at many objects, and returns what it returns.
Scan = Callable[[Callable[[], Any]], Any]


class _FrozenMark:
    """Becomes visible to the collector when other code thaws frozen objects."""


class _NewMark:
    """Becomes invisible to the collector when other code freezes new objects."""


class _ThawMark:
    """Stands in the collector's list between what was thawed and what is newer."""


class _Collection:
    """The last collection of all garbage, or the moment from which garbage is counted.

    Garbage may hold more than memory, such as descriptors, so it never waits for long.
    """

    def __init__(self, took: float = 0.0) -> None:
        self._ended, self._took = perf_counter(), took
        self._blocks, self._resident = _in_use()

    @property
    def is_long_ago(self) -> bool:
        """Return whether it is time for the next one.

        Either much was added since, or another one takes only a small part of the time.
        """
        blocks, resident = _in_use()
        if (
            blocks > _MOST_ADDED * self._blocks
            or resident - self._resident > _MOST_GROWTH
            or perf_counter() - self._ended > _RARELY * self._took
        ):
            return True
        self._blocks = min(self._blocks, blocks)
        self._resident = min(self._resident, resident)
        return False


def _collect() -> _Collection:
    """Collect all garbage."""
    started = perf_counter()
    gc.collect()
    return _Collection(perf_counter() - started)


class _Types:
    """The kinds of each type that was seen, as indexes.

    Keyed by id, because hashing a class may run code of its metaclass, and a strong key
    would keep the classes alive that each load of a SavedModel makes.
    """

    def __init__(self) -> None:
        self.indexes: dict[int, tuple[int, ...]] = {}
        self._references: dict[int, weakref.ref[type]] = {}

    def learn(self, cls: type, indexes: tuple[int, ...]) -> None:
        """Remember the kinds of a type until it is gone."""
        # the entry is removed before another class can get the same id
        forget = partial(_forget, weakref.ref(self), id(cls))
        self._references[id(cls)] = weakref.ref(cls, forget)
        self.indexes[id(cls)] = indexes

    def forget(self, key: int, reference: object) -> None:
        """Drop the entry of a type that is gone."""
        if self._references.get(key) is reference:
            del self._references[key], self.indexes[key]

    def known(self) -> Iterator[tuple[type, tuple[int, ...]]]:
        """Yield each living type with its kinds."""
        for key, reference in list(self._references.items()):
            cls = reference()
            if cls is not None:
                yield cls, self.indexes[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recalled:
    """What a census followed when it thawed all objects."""

    watched: tuple[object, ...]
    types: _Types
    followed: list[list[weakref.ref[Any]]]
    unfollowed: array[int]
    mark: _ThawMark
    collections: int  # how many full ones had run
    collection: _Collection

    def find_newer(self, watched: tuple[object, ...]) -> tuple[list[Any], int] | None:
        """Return the objects made since then, and how many others there are.

        The collector appends what is newer to its lists, so it follows the mark. Return
        None if other things are watched now, if a full collection or other code has
        changed the order, or if it is time to collect all garbage.
        """
        if self.watched != watched or self.collections != _full_collections():
            return None
        if self.collection.is_long_ago or _has_user_frozen():
            return None
        older = gc.get_objects(2)
        newer = list(takewhile(partial(is_not, self.mark), reversed(older)))
        count = len(older) - len(newer)
        del older  # a young object itself, which the collector would look through
        if not count:
            return None
        return [*gc.get_objects(0), *gc.get_objects(1), *newer], count


#: Whether the collector has the three generations whose order ``_Recalled`` relies on.
_IS_ORDERED = sys.implementation.name == "cpython" and sys.version_info < (3, 14)


class Census:
    """Counts objects of the watched kinds, and all objects made since the freeze.

    From the first freeze until ``thaw``, it replaces ``gc.freeze``, ``gc.unfreeze`` and
    ``gc.get_freeze_count``: it notes calls by other code and carries them out at the
    end. If other code calls an original function, the census notices and counts again.
    """

    _recalled: ClassVar[_Recalled | None] = None  # by the last census

    def __init__(self, ignore: Sequence[str] = ()) -> None:
        self._ignore = tuple(ignore)
        self._kinds: dict[str, int] = {}
        self._includes: list[frozenset[TypeName]] = []
        self._excludes: list[frozenset[TypeName]] = []
        self._frozen = array("q")  # how many frozen objects are alive, by kind
        self._unfrozen = array("q")  # how many were made since the freeze, by kind
        self._unfollowed = array("q")  # how many of the frozen have no weak references
        self._followed: list[list[weakref.ref[Any]]] = []
        self._since_start: list[list[weakref.ref[Any]]] = []
        self._held: list[list[Any]] = []
        self._types = _Types()
        self._freezes = 0
        self._is_users_frozen = False  # whether other code has frozen objects
        self._standing_in = Patches()
        self._marks: tuple[object, ...] = ()
        self._total = 0  # objects at the first freeze
        self._carried = 0  # objects made since then that are frozen
        self._is_hiding = False
        self._collection = _Collection()
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
        self._unfrozen.append(0)
        self._unfollowed.append(0)
        self._followed.append([])
        self._since_start.append([])
        self._held.append([])

    def watches(self, kind: str) -> bool:
        """Return whether objects of a kind are counted."""
        return kind in self._kinds

    def freeze(self) -> None:
        """Collect garbage, follow the living objects, and hide them from the collector.

        Objects that exist at the first freeze count as older than the run.
        """
        self._freezes += 1
        if self._freezes == 1:
            self._begin()
            return
        gc.collect()
        objects = gc.get_objects()
        self._follow_all(objects, is_known=False)
        self._carried += len(objects)
        del objects
        self._freeze_all()

    def _begin(self) -> None:
        """Follow what is older than the run, and hide it from the collector."""
        recalled, Census._recalled = Census._recalled, None
        self._is_users_frozen = _has_user_frozen()
        self._stand_in()
        newer = None if recalled is None else recalled.find_newer(self._watched())
        if recalled is not None and newer is not None:
            self._adopt(recalled)
            objects, older = newer
            self._follow_all(objects, is_known=True)
            self._total = older + len(objects)
            del objects, newer
            self._freeze_all()
            return
        if recalled is not None and recalled.watched == self._watched():
            self._types = recalled.types
        del recalled, newer  # what it holds must not be counted as older
        _unfreeze()  # or objects hidden now would look new when they reappear
        self._collection = _collect()
        self._follow_all(gc.get_objects(), is_known=True)
        self._freeze_all()
        self._total = _count_frozen()

    def hide(self) -> None:
        """Hide all objects from the collector, without looking at any, until ``thaw``.

        Garbage among them is not collected meanwhile; now and then, ``thaw`` collects
        it, since hiding resets the collector's own counts.
        """
        self._freezes = 1
        self._is_hiding = True
        Census._recalled = None  # this changes the order that it relies on
        self._is_users_frozen = _has_user_frozen()
        if not _last_collection:
            _last_collection.append(_Collection(_TYPICAL))
        self._stand_in()
        self._freeze_all()

    def _watched(self) -> tuple[object, ...]:
        """Return what is counted, to compare with that of another census."""
        return (
            tuple(self._kinds),
            tuple(self._includes),
            tuple(self._excludes),
            self._ignore,
        )

    def _adopt(self, recalled: _Recalled) -> None:
        """Follow what an earlier census followed, if it is still alive."""
        self._types, self._collection = recalled.types, recalled.collection
        for index, followed in enumerate(recalled.followed):
            self._frozen[index] = recalled.unfollowed[index]
            self._unfollowed[index] = recalled.unfollowed[index]
            for reference in followed:
                member = reference()
                if member is not None:
                    self._follow(index, member, is_known=True)

    def _follow_all(self, objects: list[Any], *, is_known: bool) -> None:
        for index, members in self._members(objects, _types_of(objects)):
            for member in members:
                self._follow(index, member, is_known=is_known)

    def refreeze(self, look: Callable[[list[Any]], None] | None = None) -> None:
        """Collect the objects that became garbage while frozen, and freeze again.

        The collector cannot free a frozen cycle: a model dropped from a cache would
        look as if it were kept. ``look`` is called with all objects; it must not keep
        them.
        """
        _unfreeze()
        gc.collect()
        objects = gc.get_objects()
        if look is not None:
            look(objects)
        known = {id(r()) for followed in self._followed for r in followed}
        for index, followed in enumerate(self._followed):
            followed.clear()  # first, so that no callback changes the new counts
            self._frozen[index] = self._unfollowed[index] = 0
        for index, members in self._members(objects, _types_of(objects)):
            for member in members:
                self._follow(index, member, is_known=id(member) in known)
        del objects
        self._freeze_all()
        # older objects that were freed since then compensate for new ones
        self._carried = _count_frozen() - self._total

    def set_apart(self, scan: Scan) -> frozenset[int]:
        """Freeze what was made since the last freeze, and return the ids of it.

        ``scan`` calls what looks at each object.
        """
        gc.collect()
        objects = gc.get_objects()

        def look() -> frozenset[int]:
            self._follow_all(objects, is_known=False)
            return frozenset(map(id, objects))

        apart: frozenset[int] = scan(look)
        self._carried += len(objects)
        objects.clear()
        self._freeze_all()
        return apart

    def recall(
        self, apart: frozenset[int], scan: Scan
    ) -> tuple[list[Any], frozenset[int]]:
        """Return what is alive of all since the freeze before ``set_apart``.

        Also return the ids of what was made after it. What was set apart is frozen, so
        an id is that of something newer only if a newer object has it now.
        """
        gc.collect()
        newer = gc.get_objects()

        def follow() -> frozenset[int]:
            self._follow_all(newer, is_known=False)
            return frozenset(map(id, newer))

        newest: frozenset[int] = scan(follow)
        wanted = newest | apart
        newer.clear()
        _unfreeze()
        gc.collect()  # what has become garbage while it was frozen
        everything = gc.get_objects()
        objects: list[Any] = scan(lambda: [o for o in everything if id(o) in wanted])
        everything.clear()
        self._freeze_all()
        return objects, newest

    def thaw(self) -> None:
        """Undo ``freeze``; if other code has frozen objects, freeze all of them."""
        if self._freezes == 0:
            return
        self._freezes = 0
        self._standing_in.undo()
        self._marks = ()
        if self._is_users_frozen:
            _freeze()
            return
        with suppress(Exception):  # for lack of memory: then the next one looks at all
            if _IS_ORDERED and self._kinds:
                self._remember()
        _unfreeze()
        if self._is_hiding:
            self._is_hiding = False
            _collect_if_due()

    def _remember(self) -> None:
        """Thaw all objects so that a later census can tell which ones are newer."""
        gc.collect()
        self._follow_all(gc.get_objects(), is_known=True)
        _freeze()  # what was made since the last freeze follows what was frozen then
        _unfreeze()
        mark = _ThawMark()
        gc.collect(1)  # moves the mark to the others, and follows them
        Census._recalled = _Recalled(
            watched=self._watched(),
            types=self._types,
            followed=self._followed,
            unfollowed=self._unfollowed,
            mark=mark,
            collections=_full_collections(),
            collection=self._collection,
        )

    @contextmanager
    def thawed(self, *, is_last: bool = False) -> Generator[None, None, None]:
        """Make frozen objects visible to a search, and freeze them again after it.

        Freezing takes no time if it ``is_last``, with no reading to follow: then what
        was made since the freeze before is not counted any more.
        """
        if self._freezes == 0:
            with thawed():
                yield
            return
        if is_last:  # a later census must know what was made until now
            self._follow_all(gc.get_objects(), is_known=False)
        _unfreeze()
        try:
            yield
        finally:
            if is_last:
                self._freeze_all()
            else:
                self.refreeze()

    def take(self) -> None:
        """Collect garbage and count; keep the counted objects until ``release``."""
        gc.collect()
        objects = gc.get_objects()
        present = _types_of(objects)
        if self._freezes and self._is_disturbed(present):
            del objects
            self.refreeze()
            objects = gc.get_objects()
            present = _types_of(objects)
        self.new_objects = self._carried + len(objects)
        for index in range(len(self._unfrozen)):
            self._unfrozen[index] = 0
        for index, members in self._members(objects, present):
            self._unfrozen[index] = len(members)
            self._held[index] = members

    def release(self) -> None:
        """Release the objects that ``take`` counted."""
        for members in self._held:
            members.clear()

    def alive(self, kind: str) -> int:
        """Return how many objects of a kind were alive when ``take`` was called."""
        index = self._kinds[kind]
        return self._frozen[index] + self._unfrozen[index]

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
        """Return the kind of a type by its full name, None if no kind is known."""
        for cls, indexes in self._types.known():
            if indexes and full_name(cls) == name:
                return list(self._kinds)[indexes[0]]
        return None

    def _stand_in(self) -> None:
        def freeze() -> None:
            self._is_users_frozen = True

        def unfreeze() -> None:
            self._is_users_frozen = False

        def get_freeze_count() -> int:
            return _count_frozen() if self._is_users_frozen else 0

        for ours in (freeze, unfreeze, get_freeze_count):
            self._standing_in.set(gc, ours.__name__, partial(_instead, ours))

    def _freeze_all(self) -> None:
        frozen = _FrozenMark()
        _freeze()
        self._marks = (frozen, _NewMark())

    def _is_disturbed(self, present: set[int]) -> bool:
        """Return whether other code froze or thawed objects; remember which it did.

        ``present`` holds the ids of the types of all objects that are not frozen.
        """
        # asking gc.get_freeze_count() would take 20 ms
        if id(_FrozenMark) in present:
            self._is_users_frozen = False
        elif id(_NewMark) not in present:
            self._is_users_frozen = True
        else:
            return False
        return True

    def _members(
        self, objects: list[Any], present: set[int]
    ) -> list[tuple[int, list[Any]]]:
        """Return the members of each kind that has any.

        ``present`` holds the ids of the types of all ``objects``.
        """
        # passes in C save 100 ns per object over one in Python for each kind, and
        # mostly there is no watched type
        kinds = self._types.indexes
        self._learn(objects, present.difference(kinds))
        wanted = {key: indexes for key in present if (indexes := kinds[key])}
        if not wanted:
            return []
        members: dict[int, list[Any]] = {}
        is_wanted = map(wanted.__contains__, map(id, map(type, objects)))
        for found in compress(objects, is_wanted):
            for index in wanted[id(type(found))]:
                members.setdefault(index, []).append(found)
        return list(members.items())

    def _learn(self, objects: list[Any], unknown: set[int]) -> None:
        """Remember the kinds of each unknown type; ``unknown`` holds their ids."""
        if not unknown:
            return
        is_unknown = map(unknown.__contains__, map(id, map(type, objects)))
        for found in compress(objects, is_unknown):
            cls = type(found)
            unknown.discard(id(cls))
            self._types.learn(cls, self._indexes(cls))

    def _indexes(self, cls: type) -> tuple[int, ...]:
        names = [type_name_of(base) for base in mro_of(cls)]
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
            self._unfollowed[index] += 1
            return  # without weak references, it counts as alive forever
        self._followed[index].append(reference)
        if not is_known:
            self._since_start[index].append(weakref.ref(member))


def _types_of(objects: list[Any]) -> set[int]:
    """Return the ids of the types of objects."""
    return set(map(id, map(type, objects)))


def _instead(ours: Callable[[], Any], _: object) -> Callable[[], Any]:
    return ours


@contextmanager
def thawed() -> Generator[None, None, None]:
    """Let the collector list even frozen objects, outside of a measurement.

    If any were frozen before, all objects are frozen afterwards: the collector does not
    tell which ones were.
    """
    is_frozen = _has_user_frozen()
    _unfreeze()
    try:
        yield
    finally:
        if is_frozen:
            _freeze()


def _has_user_frozen() -> bool:
    return _count_frozen() > _FROZEN_AT_START


def full_name(cls: type) -> str:
    """Return ``module.QualName`` of a type without running its code."""
    return ".".join(type_name_of(cls))


def mro_of(cls: type) -> tuple[type, ...]:
    """Return a type and its bases; only the type if C code never made it ready."""
    return _mro(cls) or (cls,)


def is_exactly(o: object, *kinds: type) -> bool:
    """Return whether an object is of one of these types, and of no subclass.

    ``type(o) in kinds`` would run the code of a metaclass that defines equality.
    """
    cls = type(o)
    return any(cls is kind for kind in kinds)


def type_name_of(cls: type) -> TypeName:
    """Return the module and the qualified name of a type without running its code."""
    try:
        module = _module(cls)
    except AttributeError:  # the attribute was deleted
        module = None
    name = _qualname(cls)
    return (module if type(module) is str else "?", name if type(name) is str else "?")


def _bury(frozen: array[int], index: int, _: object) -> None:
    frozen[index] -= 1


def _forget(types: weakref.ref[_Types], key: int, reference: object) -> None:
    living = types()
    if living is not None:
        living.forget(key, reference)


#: The last collection of hidden garbage.
_last_collection: list[_Collection] = []
#: How long one may take, in seconds, before it is known.
_TYPICAL = 0.2


def _collect_if_due() -> None:
    """Collect all garbage, hidden until now, if the last time is long ago."""
    if _last_collection[0].is_long_ago:
        _last_collection[:] = [_collect()]


def _in_use() -> tuple[int, int]:
    """Return the blocks that Python has allocated, and the resident bytes."""
    return sys.getallocatedblocks(), _resident()


def _resident() -> int:
    """Return the bytes of resident memory."""
    import psutil

    resident: int = psutil.Process().memory_info().rss
    return resident


def _full_collections() -> int:
    collections: int = gc.get_stats()[2]["collections"]
    return collections
