"""The shortest path from something that lives on its own to each object asked for.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
import threading
import types
from collections import deque
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from pytest_tfleak.diagnosis.roots import Root
from pytest_tfleak.diagnosis.roots import is_ours
from pytest_tfleak.diagnosis.roots import is_users_module
from pytest_tfleak.diagnosis.roots import modules_now
from pytest_tfleak.diagnosis.roots import namespace_of
from pytest_tfleak.diagnosis.roots import other_roots
from pytest_tfleak.diagnosis.roots import our_roots
from pytest_tfleak.diagnosis.roots import users_roots
from pytest_tfleak.observed import dicts_of_threads

#: Types that hold nothing, and those that are roots of their own.
_LEAVES = (
    *(str, bytes, int, float, bool, complex, type(None), range, slice, bytearray),
    types.CodeType,
)
#: Types that most objects are of, and that hold nothing but what the collector knows.
_PLAIN = (dict, list, tuple, types.FunctionType, types.CellType)
# by id: a metaclass may have its own idea of what is equal
_LEAF_IDS, _PLAIN_IDS = frozenset(map(id, _LEAVES)), frozenset(map(id, _PLAIN))
_DIAGNOSIS = "pytest_tfleak.diagnosis"
_LOOK_AT_CLOCK = 4096  # objects
_LEAST_TIME = 3.0  # seconds: without paths all the rest was in vain
_names = type.__dict__["__dict__"].__get__
_module_of = type.__dict__["__module__"].__get__


class Paths:
    """A search from the roots, breadth first, the user's code before the libraries'.

    Holds objects: let go of it before anything is measured again.
    """

    def __init__(self, handed: Mapping[str, object], until: float) -> None:
        self._handed = handed
        self._until = until
        self._made: frozenset[int] = frozenset()  # ids of what is asked for
        self._parents: dict[int, Any] = {}  # of an object, given by id
        self._ours: set[int] = set()
        #: Whether all there is was seen.
        self.is_complete = True
        self._kept: list[Any] = []  # what was made for the search, so that ids stay
        self._types: list[type] = []  # those met, so that their ids stay
        numpy = sys.modules.get("numpy")
        self._array: type | None = getattr(numpy, "ndarray", None)
        self._base_of: Any = (
            _names(self._array)["base"].__get__ if self._array else None
        )

    def find(self, wanted: Iterable[object]) -> None:
        """Search until all wanted objects are found, or all there is was seen."""
        missing = {id(o) for o in wanted}
        self._made = frozenset(missing)
        self._until = max(self._until, perf_counter() + _LEAST_TIME)
        users_own = users_roots(self._handed, self._made)
        for roots, users in ((users_own, True), (other_roots(), False)):
            if missing and perf_counter() < self._until:
                self._search(list(roots), missing, users)
        if missing and perf_counter() < self._until:
            before = set(self._parents)
            self._search(list(our_roots()), missing, None)
            self._ours = set(self._parents) - before

    def is_array(self, target: object) -> bool:
        """Say whether something is one of NumPy's arrays."""
        return self._array is not None and issubclass(type(target), self._array)

    def is_ours(self, target: object) -> bool:
        """Say whether nobody but pytest and this package holds an object."""
        return id(target) in self._ours

    def path_to(self, target: object) -> list[Any]:
        """Return root and objects down to the target; [] where none was found."""
        if id(target) not in self._parents:
            return []
        chain = [target]
        while type(chain[-1]) is not Root:
            chain.append(self._parents[id(chain[-1])])
        return chain[::-1]

    def parent_of(self, target: object) -> Any:
        """Return what holds an object on its path, None where none was found."""
        return self._parents.get(id(target))

    def all_of_users(self) -> list[Any]:
        """Search all that the user's code holds, and return it."""
        found: list[Any] = []
        self._search(list(users_roots(self._handed)), {0}, True, found)
        return found

    def _search(
        self,
        roots: list[Root],
        missing: set[int],
        users: bool | None,
        seen: list[Any] | None = None,
    ) -> None:
        modules = set(_users_modules()) if users else set()
        closed = {id(namespace_of(m)) for _, m in modules_now(self._made)}
        closed.update(_ids_of_libraries(self._made) if users else ())
        pending: deque[Any] = deque()
        for root in roots:
            if id(root.holds) not in self._parents:
                self._parents[id(root.holds)] = root
                self._kept.append(root)
                pending.append(root.holds)
        parents, count = self._parents, 0
        kinds: dict[int, bool] = {}  # of types, given by id: do their objects matter?
        while pending and missing:
            holder = pending.popleft()
            if seen is not None:
                seen.append(holder)
            count += 1
            if not count % _LOOK_AT_CLOCK and perf_counter() > self._until:
                self.is_complete = False
                return
            for held in self.held_by(holder):
                key = id(held)
                if key in parents or key in closed:
                    continue
                kind = type(held)
                matters = kinds.get(id(kind))
                if matters is None:
                    matters = kinds[id(kind)] = self._matters(kind, users is None)
                if not matters or (kind is types.FunctionType and _is_of_ours(held)):
                    continue
                if users and issubclass(kind, type):
                    name = _module_of(held)
                    if type(name) is not str or name not in modules:
                        continue  # a library's class: its library is a root, later
                parents[key] = holder
                missing.discard(key)
                pending.append(held)

    def held_by(self, holder: Any) -> Iterable[Any]:
        """Return what an object holds, an array or a class, too."""
        kind = type(holder)
        if id(kind) in _PLAIN_IDS:
            return gc.get_referents(holder)
        if issubclass(kind, type):
            return list(_names(holder).values())
        if self.is_array(holder):
            return [self._base_of(holder)]  # the collector skips arrays
        if issubclass(kind, threading.local):
            return dicts_of_threads(holder)
        return gc.get_referents(holder)

    def _matters(self, kind: type, of_ours: bool) -> bool:
        """Say whether objects of a type may lead to what is asked for."""
        self._types.append(kind)
        if id(kind) in _LEAF_IDS:
            return False
        module = _module_of(kind)
        if of_ours:
            return type(module) is not str or not module.startswith(_DIAGNOSIS)
        return not (is_ours(module) or issubclass(kind, Root))


def _is_of_ours(function: types.FunctionType) -> bool:
    """Say whether a function is of this package, put into a library for a while."""
    return is_ours(function.__globals__.get("__name__"))


def _users_modules() -> Iterator[str]:
    for name, module in modules_now():
        if is_users_module(module):
            yield name


def _ids_of_libraries(but: Container[int]) -> Iterator[int]:
    """Yield the ids of what libraries' modules hold, such as TensorFlow's context."""
    for _, module in modules_now(but):
        if module is not sys and not is_users_module(module):
            yield from map(id, list(namespace_of(module).values()))
