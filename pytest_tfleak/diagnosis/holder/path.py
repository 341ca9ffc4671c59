"""Turn a chain of objects, from a root down, into a retaining path made of values.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import enum
import functools
import threading
import types
from collections import deque
from collections.abc import Container
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from pytest_tfleak.diagnosis.holder.roots import Start
from pytest_tfleak.diagnosis.safe_read import cached_in
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.diagnosis.safe_read import locals_of
from pytest_tfleak.diagnosis.safe_read import names_in
from pytest_tfleak.diagnosis.safe_read import read_attribute
from pytest_tfleak.diagnosis.safe_read import read_text
from pytest_tfleak.diagnosis.safe_read import short_type_name
from pytest_tfleak.diagnosis.what.facts import facts_of
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.reports.held_object import words_of
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import CELL
from pytest_tfleak.retaining_path import CLOSURE
from pytest_tfleak.retaining_path import DEFAULT
from pytest_tfleak.retaining_path import ENTRY
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import EXCEPTION_ARGUMENTS
from pytest_tfleak.retaining_path import INDEX
from pytest_tfleak.retaining_path import ITEM
from pytest_tfleak.retaining_path import KEY
from pytest_tfleak.retaining_path import LOCAL
from pytest_tfleak.retaining_path import MEMBER
from pytest_tfleak.retaining_path import REBOUND
from pytest_tfleak.retaining_path import SUSPENDED
from pytest_tfleak.retaining_path import THROUGH
from pytest_tfleak.retaining_path import TRACEBACK
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import VALUE
from pytest_tfleak.retaining_path import VIEW
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.retaining_path import begins_new
from pytest_tfleak.tf import names

#: The root of objects that no Python object holds.
NATIVE, UNSOUGHT = Root(kind="native"), Root(kind="unsought")
AT_ROOT = 3  # the length of a chain to an object at a root: root, namespace, object

#: Places in which TensorFlow, Keras and Python keep objects that they were given.
STORES = {
    "graph-stack": names.GRAPH_STACK,
    "session-stack": names.SESSION_STACK,
    "gradients": names.GRADIENTS,
    "registry": names.REGISTRIES,
    "conversions": names.CONVERSIONS,
    "py-functions": names.PY_FUNCTIONS,
    "py-function-tapes": names.PY_FUNCTION_TAPES,
    "keras-state": names.GLOBAL_STATE,
    "keras-objects": names.CUSTOM_OBJECTS,
}

_SIZED = (list, dict, set, frozenset, deque, tuple)
_EXCEPTION_NAMES = names_in(BaseException)


@dataclass(frozen=True, slots=True)
class _Link:
    """How an object holds the one that is ``length`` places further down the chain."""

    kind: str
    name: str = ""
    length: int = 1
    function: str = ""
    file: str = ""
    line: int = 0


def describe_path(chain: list[Any], new: Container[int]) -> RetainingPath:
    """Describe a chain from a root to an object by values that keep nothing alive.

    ``new`` holds the ids of objects that each iteration makes. The chain is [] if no
    Python object holds the object.
    """
    if not chain:
        return RetainingPath(root=NATIVE)
    start: Start = chain[0]
    walk = _Walk(chain, new)
    walk.go()
    steps = _without_descriptor_caches(walk.steps)
    known = facts_of(chain[-1])
    path = RetainingPath(
        root=start.root,
        steps=tuple(steps),
        target=words_of(known),
        array=known.array,
    )
    if not steps:
        return path
    first = replace(steps[0], store=_store_of(path))
    return replace(path, steps=(first, *steps[1:]))


def without_holder(held: object, *, is_searched: bool) -> RetainingPath:
    """Return the path of an object of which no Python holder was found.

    If all that may hold it ``is_searched``, only C or C++ code can hold it.
    """
    return RetainingPath(
        root=NATIVE if is_searched else UNSOUGHT,
        steps=(Step(kind=UNKNOWN, types=_types(held), is_new=True),),
    )


class _Walk:
    """Walks down a chain of objects and records a step for each."""

    def __init__(self, chain: list[Any], new: Container[int]) -> None:
        self._chain = chain
        self._new = new
        self._last = len(chain) - 1
        self._start = min(2, self._last)  # the first object after the root's namespace
        self._rebound = -1  # the place of a sequence that a name is rebound to
        self._before: Step | None = None  # the last step that is not THROUGH
        self.steps: list[Step] = []

    def go(self) -> None:
        """Record all steps."""
        if self._last < 2:
            return  # the path is to the namespace of a root itself
        at = self._add(_first_link(self._chain, self._new), self._start - 1)
        while at < self._last:
            at = self._go_on(at)

    def _go_on(self, at: int) -> int:
        """Record how an object holds the next one, and return the next one's place."""
        holder, inner = self._chain[at], at
        if _is_lru_cache(holder) and at + 1 < self._last:
            if type(self._chain[at + 1]) is dict:  # the cache's internal dict
                inner = self._add(_Link(THROUGH), at)
        held = self._chain[inner + 1]
        if _is_traceback(self._chain[inner]) or _is_traceback(held):
            return self._add(_Link(TRACEBACK), inner)
        if self._piles_up(at, held):
            return self._add(_Link(ENTRY), inner)
        return self._add(_link(self._chain, inner), inner)

    def _piles_up(self, at: int, held: object) -> bool:
        """Return whether objects pile up in a container, and record its size if so."""
        holder = self._chain[at]
        if id(held) not in self._new or (
            id(holder) in self._new and at != self._rebound
        ):
            return False
        sized = _container_of(holder)
        if sized is None:
            return False
        place = at - self._start
        container, size = sized
        self.steps[place] = replace(self.steps[place], container=container, size=size)
        return True

    def _add(self, link: _Link, at: int) -> int:
        """Record a link from one place, and return the place to which it leads."""
        end = at + link.length
        for between in range(at + 1, end):
            self.steps.append(self._step(_Link(THROUGH), between))
        step = self._step(link, end)
        self.steps.append(step)
        if link.kind == THROUGH:
            return end
        if link.kind != ENTRY and begins_new(step, self._before):
            if step.type in REBOUND:
                self._rebound = end
        self._before = step
        return end

    def _step(self, link: _Link, at: int) -> Step:
        reached = self._chain[at]
        following = self._chain[at + 1] if at < self._last else None
        return Step(
            kind=link.kind,
            name=link.name,
            function=link.function,
            file=link.file,
            line=link.line,
            types=_types(reached),
            role=_role_of(reached, following),
            is_new=id(reached) in self._new,
        )


def _first_link(chain: list[Any], new: Container[int]) -> _Link:
    """Return how a root holds the first object below its namespace."""
    start: Start = chain[0]
    if start.root.kind == "threads":
        # a thread that each iteration makes is one of many, so its name says little
        name = "" if id(chain[2]) in new else read_text(chain[2], "_name")
        return _Link(VALUE, name)
    if start.root.kind not in ("module", "local"):
        return _Link(VALUE)
    for name, value in items_of(start.holds):
        if value is chain[2]:
            is_local = start.root.kind == "local"
            return _Link(LOCAL if is_local else ATTRIBUTE, name)
    return _Link(UNKNOWN)


def _types(o: object) -> tuple[str, ...]:
    return tuple(full_name(base) for base in mro_of(type(o)) if base is not object)


def _role_of(o: Any, held: object) -> str:
    if _is_traceback(o):
        return EXCEPTION
    if issubclass(type(o), BaseException):
        traceback = _EXCEPTION_NAMES["__traceback__"].__get__(o)
        has_frames = traceback is not None and held is not _arguments_of(o)
        return EXCEPTION if has_frames else EXCEPTION_ARGUMENTS
    if full_name(type(o)) == "numpy.ndarray" and held is None:
        return VIEW if read_attribute(o, "base") is not None else ""
    return ""


def _arguments_of(error: BaseException) -> object:
    return _EXCEPTION_NAMES["args"].__get__(error)


def _is_traceback(o: object) -> bool:
    return type(o) is types.TracebackType


def _is_lru_cache(o: object) -> bool:
    return issubclass(type(o), functools._lru_cache_wrapper)


def _container_of(o: Any) -> tuple[str, int] | None:
    """Return the kind and the size of a container, None for other objects."""
    if _is_lru_cache(o):
        return "lru_cache", cached_in(o)
    for plain in _SIZED:
        if issubclass(type(o), plain):
            size = plain.__len__(o)  # not len(), which may run code of a subclass
            return plain.__name__, size
    return None


def _store_of(path: RetainingPath) -> str:
    for store, name in STORES.items():
        if any(map(path.starts_with, name.dotted)):
            return store
    return ""


def _without_descriptor_caches(steps: list[Step]) -> list[Step]:
    """Hide the caches in which a tf.function keeps its copies for each instance."""
    hidden: list[int] = []
    pending: list[int] = []
    for place, (before, step) in enumerate(pairwise([None, *steps])):
        assert step is not None
        if step.kind == ATTRIBUTE and step.name == names.BOUND_FUNCTIONS:
            pending = [place]
        elif pending and step.kind == ATTRIBUTE and step.name == "data":
            pending.append(place)
        elif pending and step.kind in (ITEM, KEY):
            hidden += [*pending, place]
            pending = []
        elif step.kind != THROUGH:
            pending = []
        if step.size is not None or begins_new(step, before):
            pending = []  # the expression ends here
    return [replace(s, is_shown=k not in hidden) for k, s in enumerate(steps)]


_LONGEST_KEY = 32
_TRIES = 5
_MEMBER = type(types.FunctionType.__closure__)  # the type of descriptors for slots


def _link(chain: list[Any], at: int) -> _Link:
    """Return how ``chain[at]`` holds what comes after it.

    The link skips inner objects such as the dict of attributes or a closure's cells.
    """
    holder, held = chain[at], chain[at + 1]
    for kinds, look in _LOOKS:
        if issubclass(type(holder), kinds):
            found: _Link | None = look(chain, at)
            if found is not None:
                return found
    found = _in_instance(chain, at)
    if found is not None:
        return found
    if full_name(type(holder)) == "numpy.ndarray":
        return _Link(ATTRIBUTE, "base")
    if issubclass(type(held), dict) and at + 2 < len(chain):
        if held is fields_of(holder):
            return _Link(ATTRIBUTE, _key_of(held, chain[at + 2]), length=2)
    return _Link(UNKNOWN)


def attributes(holder: object) -> Iterator[tuple[str, object]]:
    """Yield an instance's attributes, also those in slots, without running its code."""
    for name, value in items_of(fields_of(holder)):
        if type(name) is str:
            yield name, value
    for cls in mro_of(type(holder)):
        for name, member in list(names_in(cls).items()):
            if type(member) is _MEMBER and name != "__dict__":
                with suppress(AttributeError):
                    yield name, member.__get__(holder)


def items_of(held: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Return a copy of a dict's items.

    Not ``dict.copy``, which calls the ``keys()`` of a subclass with its own iteration.
    """
    for _ in range(_TRIES):
        with suppress(RuntimeError):  # a thread has changed it meanwhile
            return list(dict.items(held))
    return []


def key_text(key: object) -> str:
    """Return a key of a dict as source code if it is of a simple type."""
    if is_exactly(key, str, int, bytes, bool, type(None), float):
        text = repr(key)
        return text if len(text) <= _LONGEST_KEY else text[: _LONGEST_KEY - 3] + "..."
    if issubclass(type(key), enum.Enum):
        name = dict.get(fields_of(key), "_name_")
        return f"{short_type_name(key)}.{name}" if type(name) is str else "..."
    return "..."


def _in_dict(chain: list[Any], at: int) -> _Link:
    holder, held = chain[at], chain[at + 1]
    for key, value in items_of(holder):
        if value is held:
            return _Link(ITEM, key_text(key))
    return _in_instance(chain, at) or _Link(KEY)


def _key_of(holder: Any, held: object) -> str:
    for key, value in items_of(holder):
        if value is held:
            return str(key) if type(key) is str else "..."
    return "..."


def _in_sequence(chain: list[Any], at: int) -> _Link:
    holder, held = chain[at], chain[at + 1]
    fields = names_in(type(holder)).get("_fields")
    # not iter(), which may run code of a subclass
    plain = list if issubclass(type(holder), list) else tuple
    for place, item in enumerate(plain.__iter__(holder)):
        if item is held:
            if type(fields) is tuple and place < len(fields):
                return _Link(ATTRIBUTE, str(fields[place]))
            return _Link(INDEX, str(place))
    return _in_instance(chain, at) or _Link(MEMBER)


def _in_set(chain: list[Any], at: int) -> _Link:
    return _Link(MEMBER)


def _in_instance(chain: list[Any], at: int) -> _Link | None:
    holder, held = chain[at], chain[at + 1]
    for name, value in attributes(holder):
        if value is held:
            return _Link(ATTRIBUTE, name)
    return None


def _in_type(chain: list[Any], at: int) -> _Link | None:
    for name, value in list(names_in(chain[at]).items()):
        if value is chain[at + 1]:
            return _Link(ATTRIBUTE, name)
    return None


def _in_function(chain: list[Any], at: int) -> _Link:
    function, held = chain[at], chain[at + 1]
    following = chain[at + 2] if at + 2 < len(chain) else None
    if following is None:
        return _Link(UNKNOWN)
    if held is function.__closure__:
        name = "..."
        for place, cell in enumerate(held):
            if cell is following:
                name = function.__code__.co_freevars[place]
        return _Link(CLOSURE, name, length=3 if at + 3 < len(chain) else 2)
    if held is function.__defaults__:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        for place, value in enumerate(reversed(held)):
            if value is following:
                return _Link(DEFAULT, names[-1 - place], length=2)
    if held is function.__kwdefaults__:
        return _Link(DEFAULT, _key_of(held, following), length=2)
    if type(held) is dict:
        return _Link(ATTRIBUTE, _key_of(held, following), length=2)
    return _Link(UNKNOWN)


def _in_method(chain: list[Any], at: int) -> _Link:
    if chain[at + 1] is chain[at].__self__:
        return _Link(ATTRIBUTE, "__self__")
    return _Link(UNKNOWN)


def _in_cell(chain: list[Any], at: int) -> _Link:
    return _Link(CELL)


def _in_frame(chain: list[Any], at: int) -> _Link:
    frame, held = chain[at], chain[at + 1]
    code = frame.f_code
    found = [name for name, value in locals_of(frame).items() if value is held]
    return _Link(
        LOCAL,
        found[0] if found else "",
        function=code.co_name,
        file=PurePath(code.co_filename).name,
        line=frame.f_lineno,
    )


def _in_generator(chain: list[Any], at: int) -> _Link:
    holder, held, length = chain[at], chain[at + 1], 1
    code = getattr(holder, "gi_code", None) or getattr(holder, "cr_code", None)
    frame = getattr(holder, "gi_frame", None) or getattr(holder, "cr_frame", None)
    if held is frame and at + 2 < len(chain):  # until 3.10, the frame is a link, too
        held, length = chain[at + 2], 2
    names = locals_of(frame) if frame is not None else {}
    found = next((name for name, value in names.items() if value is held), "...")
    called = code.co_name if code is not None else "?"
    return _Link(SUSPENDED, found, length=length, function=called)


def _in_exception(chain: list[Any], at: int) -> _Link | None:
    holder, held = chain[at], chain[at + 1]
    if held is _arguments_of(holder):
        return _Link(ATTRIBUTE, "args")
    for name in ("__context__", "__cause__"):
        if held is _EXCEPTION_NAMES[name].__get__(holder):
            return _Link(ATTRIBUTE, name)
    return None


def _in_partial(chain: list[Any], at: int) -> _Link:
    for name in ("func", "args", "keywords"):
        if names_in(functools.partial)[name].__get__(chain[at]) is chain[at + 1]:
            return _Link(ATTRIBUTE, name)
    return _Link(UNKNOWN)


def _in_local(chain: list[Any], at: int) -> _Link:
    if at + 2 < len(chain):
        name = _key_of(chain[at + 1], chain[at + 2])
        return _Link(ATTRIBUTE, name, length=2)
    return _Link(UNKNOWN)


_LOOKS: tuple[tuple[Any, Any], ...] = (
    (type, _in_type),
    (types.FunctionType, _in_function),
    (types.MethodType, _in_method),
    (types.CellType, _in_cell),
    (types.FrameType, _in_frame),
    ((types.GeneratorType, types.CoroutineType), _in_generator),
    (BaseException, _in_exception),
    (functools.partial, _in_partial),
    (threading.local, _in_local),
    (dict, _in_dict),
    ((list, tuple), _in_sequence),
    ((set, frozenset), _in_set),
)
