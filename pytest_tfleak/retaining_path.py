"""What keeps an object alive: the retaining path from a GC root to it, as values.

A path consists of names, types and numbers; ``reports/held_by.py`` turns it into text.
In every run, paths through the same code to the same type have the same ``place``.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

# The kinds of a step: how an object holds the next one.
ATTRIBUTE = "attribute"
ITEM = "item"  # the value of a key
INDEX = "index"
KEY = "key"  # the key itself
MEMBER = "member"  # of a set, or of a sequence that has changed since
CLOSURE = "closure"  # a variable of a function's closure
CELL = "cell"  # a variable of a closure whose function is not on the path
DEFAULT = "default"  # the default of an argument
LOCAL = "local"  # a local variable of a frame
SUSPENDED = "suspended"  # a local variable of a generator or coroutine
ENTRY = "entry"  # one of many entries of the place where objects pile up
VALUE = "value"  # the object that the root refers to
UNKNOWN = "unknown"
THROUGH = "through"  # an inner part of the previous object, such as its __dict__
TRACEBACK = "traceback"  # a traceback, or a frame that a traceback refers to

#: Steps that continue an expression; any other kind begins a new one.
_CONTINUES = frozenset({ATTRIBUTE, ITEM, INDEX, KEY, MEMBER})

# The roles of a step: what an object is, if its type alone does not show it.
EXCEPTION = "exception"  # a traceback, or an exception that has one
EXCEPTION_ARGUMENTS = "exception-arguments"  # an exception without a traceback
VIEW = "view"  # an array that uses the memory of another object

#: Types that may grow by rebinding a name, as ``x = x + [y]`` does.
REBOUND = ("builtins.list", "builtins.tuple")

#: Kinds of roots of objects of which no Python holder is known.
WITHOUT_HOLDER = ("native", "unsought")
_GENERATED = re.compile(r"(__autograph_generated_file)\w+")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """Where a path begins: a GC root, which stays alive on its own."""

    #: module | local | fixture | parameter | body | function | exception | signal
    #: | context | threads | atexit | loose (a list that C code has) | graph
    #: | default-graph | native | unsought (there was no time to search all that may
    #: hold it)
    kind: str
    name: str = ""  # of the module, function, fixture, parameter, signal or variable
    thread: str = ""  # the thread in which a function runs, "" for the main one
    is_library: bool = False  # whether it is a module of a library
    size: int | None = None  # how many entries the root itself has


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one object holds the next, and what that next one is."""

    kind: str
    name: str = ""  # of the attribute or variable; a key or an index, as code
    function: str = ""  # whose local variable it is
    file: str = ""
    line: int = 0
    #: Full names of the object's type and its bases, all but ``object``.
    types: tuple[str, ...] = ()
    role: str = ""
    is_new: bool = False  # whether each iteration makes a new one
    #: If objects pile up in it: list | dict | set | frozenset | deque | tuple
    #: | lru_cache.
    container: str = ""
    size: int | None = None  # of that container
    store: str = ""  # the store of TensorFlow or Keras that holds the object
    is_shown: bool = True

    @property
    def type(self) -> str:
        """Return the full name of the object's type."""
        return self.types[0] if self.types else ""

    @property
    def short_type(self) -> str:
        """Return the name of the object's type without its module and outer scopes."""
        return self.type.rpartition(".")[2]

    def is_a(self, *names: str) -> bool:
        """Return whether the object has one of these roles, or types by full name."""
        return self.role in names or any(name in names for name in self.types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Type, dtype and shape of a tensor, a variable or an array."""

    type: str  # the short name
    dtype: str
    shape: tuple[int | None, ...] | None = None
    is_part: bool = False  # whether it uses a part of a larger array

    @property
    def size(self) -> int | None:
        """Return the number of elements, None if the shape is not known."""
        dims = [None] if self.shape is None else self.shape
        return None if None in dims else prod(dim or 0 for dim in dims)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """Steps that read as one: ``app.cache['loss']``, or ``dict['loss']``."""

    steps: tuple[Step, ...]
    root: Root | None = None  # only in the first expression of a path
    #: Whether it begins with the type of the first step's object: ``dict['loss']``.
    starts_with_type: bool = False

    @property
    def is_sized(self) -> bool:
        """Return whether it ends at a container that grows."""
        return bool(self.steps) and self.steps[-1].size is not None

    @property
    def name(self) -> tuple[str, ...]:
        """Return the last attribute or variable, and the keys and indexes after it."""
        steps = self.steps[self.starts_with_type :]
        named = [k for k, step in enumerate(steps) if step.kind == ATTRIBUTE]
        if named:
            return tuple(step.name for step in steps[named[-1] :])
        if self.starts_with_type:
            start = self.steps[0].short_type
        else:
            start = self.root.name if self.root and self.root.kind != "local" else ""
        return (start, *(step.name for step in steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainingPath:
    """How an object is held: the root, and the steps that lead to the object."""

    root: Root
    steps: tuple[Step, ...] = ()
    target: str = ""  # what the object is, described
    array: Array | None = None
    in_native_part: bool = False  # whether the C++ part of the last object holds it

    @property
    def is_native(self) -> bool:
        """Return whether no Python object is known to hold it."""
        return self.root.kind in WITHOUT_HOLDER and not self.in_native_part

    @property
    def type(self) -> str:
        """Return the full name of the held object's type, "" if it is unknown."""
        return self.steps[-1].type if self.steps else ""

    @property
    def store(self) -> str:
        """Return the store of TensorFlow or Keras that holds it, "" if none does."""
        return self.steps[0].store if self.steps else ""

    @property
    def dotted(self) -> str:
        """Return the name that starts at a module: ``weakref.finalize._registry``."""
        if self.root.kind != "module":
            return ""
        names = [self.root.name]
        for step in self.steps:
            if step.kind == ATTRIBUTE:
                names.append(step.name)
            elif step.kind != THROUGH:
                break
        return ".".join(names)

    @property
    def place(self) -> tuple[str, ...]:
        """Return the parts that are the same in every run: no index or address."""
        # whether there was time to search is no part of the place
        kind = "native" if self.root.kind in WITHOUT_HOLDER else self.root.kind
        parts = [kind, self.root.name, self.root.thread]
        for expression in self.expressions():
            if expression.starts_with_type:
                parts += ["new", expression.steps[0].short_type]
            for step in expression.steps[expression.starts_with_type :]:
                if step.is_shown:
                    parts += [step.kind, step.name, step.function, step.file]
        return tuple(_without_numbers(part) for part in (*parts, self.type) if part)

    def passes_through(self, *names: str, new: bool) -> bool:
        """Return whether an object of one of these types or roles is on the path.

        ``new`` selects objects that each iteration makes, or those that existed before.
        """
        return any(s.is_new == new and s.is_a(*names) for s in self.steps)

    def starts_with(self, dotted: str) -> bool:
        """Return whether the path begins with this dotted name."""
        return f"{self.dotted}.".startswith(f"{dotted}.")

    def expressions(self) -> Iterator[Expression]:
        """Yield the parts of the path that each read as one expression.

        The first one starts at the root. It ends at a container that grows, or at an
        object that each iteration makes.
        """
        shown = [step for step in self.steps if step.kind != THROUGH]
        reading = _Reading(self.root)
        for step in shown:
            yield from reading.go_on(step, is_last=step is self.steps[-1])
        yield from reading.end()


class _Reading:
    """Groups steps into expressions, one step at a time."""

    def __init__(self, root: Root) -> None:
        self._root: Root | None = root
        self._steps: list[Step] = []
        self._starts_with_type = False
        self._before: Step | None = None
        self._is_open = True  # whether steps are left that no expression has yet

    def go_on(self, step: Step, *, is_last: bool) -> Iterator[Expression]:
        """Add a step, and yield the expression that it ends, if any."""
        before, self._before = self._before, step
        if step.kind == TRACEBACK:
            return  # the variables of its frames follow, and say enough
        if before is not None and before.size is not None:
            yield self._expression()
            self._begin(step, with_type=True)
            self._is_open = not is_last
            return
        if before is None or step.kind in _CONTINUES:
            self._steps.append(step)
        else:
            yield self._expression()
            self._begin(step, with_type=step.kind == UNKNOWN)
        if is_last:
            self._is_open = step.kind != UNKNOWN or before is None
        elif step.kind != UNKNOWN and begins_new(step, before):
            if step.type not in REBOUND:
                yield self._expression()
                self._begin(step, with_type=True)

    def end(self) -> Iterator[Expression]:
        """Yield the last expression, unless only the object itself is left."""
        if self._is_open:
            yield self._expression()

    def _expression(self) -> Expression:
        return Expression(
            steps=tuple(self._steps),
            root=self._root,
            starts_with_type=self._starts_with_type,
        )

    def _begin(self, step: Step, *, with_type: bool) -> None:
        self._root, self._steps, self._starts_with_type = None, [step], with_type


def begins_new(step: Step, before: Step | None) -> bool:
    """Return whether this is the first step to an object that each iteration makes."""
    return step.is_new and (before is None or not before.is_new)


def path_of(data: dict[str, Any]) -> RetainingPath:
    """Return the path that ``dataclasses.asdict`` was called on."""
    array, steps = data["array"], data["steps"]
    made = {
        "root": Root(**data["root"]),
        "steps": tuple(Step(**{**s, "types": tuple(s["types"])}) for s in steps),
        "array": None if array is None else _array_of(array),
    }
    return RetainingPath(**{**data, **made})


def _array_of(data: dict[str, Any]) -> Array:
    shape = data["shape"]
    return Array(**{**data, "shape": None if shape is None else tuple(shape)})


def _without_numbers(text: str) -> str:
    return _NUMBER.sub("#", _GENERATED.sub(r"\1#", text))
