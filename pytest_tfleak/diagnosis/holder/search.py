"""Search for the shortest path from a GC root to each wanted object.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
import threading
import types
import weakref
from collections import Counter
from collections import deque
from collections.abc import Collection
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from itertools import compress
from typing import Any

from pytest_tfleak.diagnosis.holder.roots import Start
from pytest_tfleak.diagnosis.holder.roots import is_ours
from pytest_tfleak.diagnosis.holder.roots import is_users_module
from pytest_tfleak.diagnosis.holder.roots import modules_now
from pytest_tfleak.diagnosis.holder.roots import namespace_of
from pytest_tfleak.diagnosis.holder.roots import other_roots
from pytest_tfleak.diagnosis.holder.roots import our_roots
from pytest_tfleak.diagnosis.holder.roots import users_roots
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.diagnosis.safe_read import module_of
from pytest_tfleak.diagnosis.safe_read import names_in
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.tf.access import dicts_of_threads

#: Types that hold no other objects of interest.
LEAVES = (
    *(str, bytes, int, float, bool, complex, type(None), range, slice, bytearray),
    types.CodeType,
)
#: The most common types; for these, the collector lists all that an object holds.
_PLAIN = (dict, list, tuple, types.FunctionType, types.CellType)
# by id, since a metaclass may define its own equality
_LEAF_IDS, _PLAIN_IDS = frozenset(map(id, LEAVES)), frozenset(map(id, _PLAIN))
_WEAK_IDS = frozenset({id(weakref.WeakKeyDictionary)})
_DIAGNOSIS = "pytest_tfleak.diagnosis"
_LOOK_AT_CLOCK = 32_768  # references
#: A container of so many objects is searched last, except for wanted ones directly in
#: it: otherwise it would take all of the time, whatever else there is.
_LARGE = 20_000
_LEAST_TIME = 1.5  # seconds: without any path, the whole diagnosis would be useless


class Paths:
    """A breadth-first search from the roots, in user code first, then in libraries.

    It holds objects, so release it before measuring again.
    """

    def __init__(self, handed: Mapping[str, object], deadline: Deadline) -> None:
        self._handed = handed
        self._deadline = deadline
        self._new: frozenset[int] = frozenset()  # ids of the wanted objects
        self._newest: Container[int] = frozenset()
        self._parents: dict[int, Any] = {}  # the holder of each object, by its id
        self._ours: set[int] = set()
        #: Whether the search has seen all objects.
        self.is_complete = True
        self._weak: list[Any] = []  # dictionaries with weak keys
        self._kept: list[Any] = []  # our own objects, kept so that no id is reused
        numpy = sys.modules.get("numpy")
        self._array: type | None = getattr(numpy, "ndarray", None)
        self._base_of: Any = (
            names_in(self._array)["base"].__get__ if self._array else None
        )

    def find(
        self, wanted: Iterable[object], newest: Container[int] = frozenset()
    ) -> None:
        """Search until all wanted objects are found, or all objects were seen.

        ``newest`` has the ids of the objects that the last iteration made. They are
        searched after all others: they may hold older objects, but only until the next
        call replaces them.
        """
        missing = {id(o) for o in wanted}
        self._newest = newest
        self._new = frozenset(missing)
        self._deadline = self._deadline.at_least(_LEAST_TIME)
        if self._goes_on(missing):
            self.find_from(users_roots(self._handed, self._new), missing)
        if self._goes_on(missing):
            self._search(other_roots(), missing, _Scope(self._new))
        if self._goes_on(missing):
            before = set(self._parents)
            self._search(our_roots(), missing, _OursToo(self._new))
            self._ours = set(self._parents) - before
        self._prefer_keys()

    def find_from(self, starts: Iterable[Start], missing: set[int]) -> list[Any]:
        """Search all that these roots in user code hold, and return the objects seen.

        Remove the ids of the objects found from ``missing``.
        """
        return self._search(starts, missing, _OfUsers(self._new))

    def is_array(self, target: object) -> bool:
        """Return whether an object is a NumPy array."""
        return self._array is not None and issubclass(type(target), self._array)

    def is_ours(self, target: object) -> bool:
        """Return whether only pytest and this package hold an object."""
        return id(target) in self._ours

    def path_to(self, target: object) -> list[Any]:
        """Return the chain from a start down to the target, [] if none was found."""
        if id(target) not in self._parents:
            return []
        chain = [target]
        while type(chain[-1]) is not Start:
            chain.append(self._parents[id(chain[-1])])
        return chain[::-1]

    def parent_of(self, target: object) -> Any:
        """Return the holder of an object on its path, None if none was found."""
        return self._parents.get(id(target))

    def find_all_of_users(self) -> list[Any]:
        """Return all objects that user code holds, but no text and numbers.

        Those nearest to a root come first.
        """
        unknown = {0}  # so the search ends only when it has seen all
        if not self._goes_on(unknown):
            return []
        return self.find_from(users_roots(self._handed), unknown)

    def find_all(self) -> list[Any]:
        """Return all objects that user code and libraries hold, as above."""
        unknown = {0}
        seen = self.find_all_of_users()
        if self._goes_on(unknown):
            seen += self._search(other_roots(), unknown, _Scope(self._new))
        return seen

    def references(self) -> Counter[int]:
        """Return how often this search itself refers to objects, by id."""
        return Counter(map(id, self._parents.values()))

    def held_by(self, holder: Any) -> Iterable[Any]:
        """Return the objects that an object holds, even if it is an array or a class.

        Return nothing if the object cannot be read.
        """
        kind = type(holder)
        if id(kind) in _PLAIN_IDS:
            return gc.get_referents(holder)
        try:
            if issubclass(kind, type):
                # its dict comes last, so that the path leads through an attribute
                found = gc.get_referents(holder)
                own = [o for o in found if type(o) is dict]
                bases = [o for o in found if type(o) is tuple]  # and the MRO
                return [*names_in(holder).values(), *own, *bases]
            if self.is_array(holder):
                return [self._base_of(holder)]  # the collector does not support arrays
            if issubclass(kind, threading.local):
                return dicts_of_threads(holder)
        except Exception:
            return ()
        return gc.get_referents(holder)

    def _prefer_keys(self) -> None:
        """Name the key as holder of a new value in a ``WeakKeyDictionary``.

        The entry lives only as long as the key, so what keeps the key keeps the value.
        """
        for held in [o for key, o in self._weakly_kept() if key in self._new]:
            entries = self._parents[id(held)]
            for reference, value in list(dict.items(entries)):
                key = reference() if type(reference) is weakref.ref else None
                if (
                    value is held
                    and key is not None
                    and self._leads_to(key, not_by=held)
                ):
                    self._parents[id(held)] = key

    def _weakly_kept(self) -> Iterator[tuple[int, Any]]:
        """Yield the values that were found in weak dictionaries, with their ids."""
        for owner in self._weak:
            entries = dict.get(fields_of(owner), "data")
            if type(entries) is dict:
                for value in list(dict.values(entries)):
                    if self._parents.get(id(value)) is entries:
                        yield id(value), value

    def _leads_to(self, target: Any, *, not_by: Any) -> bool:
        """Return whether a path was found that does not lead through an object."""
        at = target
        while type(at) is not Start:
            if at is not_by or id(at) not in self._parents:
                return False
            at = self._parents[id(at)]
        return True

    def _goes_on(self, missing: Collection[int]) -> bool:
        if missing and not self._deadline.fits(0):
            self.is_complete = False
        return bool(missing) and self.is_complete

    def _search(
        self, starts: Iterable[Start], missing: set[int], scope: _Scope
    ) -> list[Any]:
        """Visit one object after another, nearest first, and return those seen."""
        pending = self._enter(starts)
        self._kept.append(scope)
        seen: list[Any] = []
        large: deque[Any] = deque()
        parents, closed, steps = self._parents, scope.closed, 0
        refused, weak, newest = scope.refused, _WEAK_IDS, self._newest
        later: deque[Any] = deque()
        while missing and (pending or later or large):
            if not pending:
                pending, later = later, pending
            if pending:
                holder = pending.popleft()
                seen.append(holder)
                found = self.held_by(holder)
                if _is_large(found):
                    large.append(holder)
                    found = _among(found, missing)
            else:
                holder = large.popleft()
                found = self.held_by(holder)
            for held in found:  # millions of times, most of them in vain
                key = id(held)
                if key in parents or id(type(held)) in refused:
                    continue
                steps += 1
                if not steps % _LOOK_AT_CLOCK and not self._deadline.fits(0):
                    self.is_complete = False
                    return seen
                if key in closed or not scope.admits(held):
                    continue
                parents[key] = holder
                missing.discard(key)
                (later if key in newest else pending).append(held)
                if id(type(held)) in weak:
                    self._weak.append(held)
        return seen

    def _enter(self, starts: Iterable[Start]) -> deque[Any]:
        """Add the roots at which no earlier search started."""
        pending: deque[Any] = deque()
        for start in list(starts):
            if id(start.holds) not in self._parents:
                self._parents[id(start.holds)] = start
                self._kept.append(start)
                pending.append(start.holds)
        return pending


def _is_large(found: Iterable[Any]) -> bool:
    return type(found) is list and len(found) > _LARGE


def _among(found: Iterable[Any], wanted: Container[int]) -> list[Any]:
    """Return the wanted objects, by passes in C."""
    found = list(found)
    return list(compress(found, map(wanted.__contains__, map(id, found))))


class _Scope:
    """Decides which objects a search enters: all except pytest's and this package's."""

    def __init__(self, new: Container[int]) -> None:
        #: Ids of objects that no path may lead through: the namespaces of modules.
        self.closed = {id(namespace_of(module)) for _, module in modules_now(new)}
        #: Ids of types whose objects do not matter, and of those whose objects do.
        self.refused = set(_LEAF_IDS)
        self._matter: set[int] = set()
        self._types: list[type] = []  # kept alive, so that no id is reused

    def admits(self, held: Any) -> bool:
        """Return whether an object may lead to a wanted one."""
        kind = type(held)
        if id(kind) in self.refused:
            return False
        if id(kind) not in self._matter:
            self._types.append(kind)
            if not self._matters(kind):
                self.refused.add(id(kind))
                return False
            self._matter.add(id(kind))
        # a library may contain a function of this package, as a patch
        return not (kind is types.FunctionType and _is_of_ours(held))

    def _matters(self, kind: type) -> bool:
        return not is_ours(module_of(kind))


class _OfUsers(_Scope):
    """Does not enter objects of libraries, which are roots of a later search."""

    def __init__(self, new: Container[int]) -> None:
        super().__init__(new)
        self.closed.update(_ids_in_libraries(new))
        self._libraries = dict(_libraries())

    def admits(self, held: Any) -> bool:
        """Return whether to enter an object, which must not be a class of a library."""
        if not super().admits(held):
            return False
        return not (issubclass(type(held), type) and self._is_in_library(held))

    def _is_in_library(self, cls: type) -> bool:
        """Return whether a class can be found in a library's module.

        A class that a library makes at run time, such as that of a mock, is in none.
        """
        module, name = type_name_of(cls)
        names: Any = self._libraries.get(module, {})
        for part in name.split("."):
            found = names.get(part)
            if found is cls:
                return True
            if not issubclass(type(found), type):
                return False
            names = names_in(found)
        return False


class _OursToo(_Scope):
    """Enters objects of pytest and this package, except those of the search itself."""

    def _matters(self, kind: type) -> bool:
        return not module_of(kind).startswith(_DIAGNOSIS)


def _is_of_ours(function: types.FunctionType) -> bool:
    return is_ours(dict.get(function.__globals__, "__name__"))


def _libraries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the namespaces of all modules of libraries, with their names."""
    for name, module in modules_now():
        if not is_users_module(module):
            yield name, namespace_of(module)


def _ids_in_libraries(excluded: Container[int]) -> Iterator[int]:
    """Yield the ids of objects in library modules, such as TensorFlow's context."""
    for _, module in modules_now(excluded):
        if module is not sys and not is_users_module(module):
            yield from map(id, list(namespace_of(module).values()))
