"""The types of the table of causes: a cause, its priority, and the evidence for it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from enum import IntEnum

from pytest_tfleak.diagnosis.what.descriptors import RunningThread
from pytest_tfleak.retaining_path import WITHOUT_HOLDER
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root


class Priority(IntEnum):
    """The order in which rows are tried, most specific first.

    All rows of one priority are in one file, in the order in which they are tried.
    """

    PROVEN = 10  # proven by an experiment or by a scope that is still open
    MANAGERS = 15  # context managers that a failing call has shown to leak
    HELD_THROUGH = 20  # by an object on the way from the root
    HELD_BY_LIBRARY = 25
    PYTHON = 30  # default arguments, and the standard library
    SYSTEM = 40  # threads, processes and files
    SESSIONS = 50
    GROWTH = 60  # the way in which it grows
    RESULTS = 70  # futures and such that no thread or pool explains
    OBJECTS = 80  # models and optimizers
    FUNCTIONS = 90  # graphs and functions that no model or dataset explains
    DATA = 100
    CONCRETE_FUNCTIONS = 110  # after datasets, which have concrete functions, too
    TENSORS = 120
    GENERAL = 130
    MEMORY = 140  # memory without any known object


def never(_: Evidence) -> bool:
    """Return False."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A row of the table of causes."""

    slug: str
    priority: Priority
    explains: str  # what happens, and why it grows
    #: What to do, with code, in clauses between semicolons. places.py fills in
    #: {holder}, {limit} and others from the case, and leaves out a clause for which
    #: the evidence is missing. "" if nothing is known that would help.
    remedy: str
    #: Without one, a sweep of faults finds it.
    rule: Callable[[Evidence], bool] = never
    #: Whether it is a last resort: if another finding has a cause, show that instead.
    is_vague: bool = False


#: The object in which a tf.function keeps its traces.
FUNCTION_CACHE = "tensorflow.core.function.polymorphism.function_cache.FunctionCache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about findings that belong together."""

    #: The signals of these findings, without the device in brackets.
    signals: frozenset[str] = frozenset()
    #: Whether all of these are sizes of memory.
    is_memory: bool = False
    #: All signals that fail the test.
    failing: frozenset[str] = frozenset()
    #: The entry in known.py that explains the growth, by its name.
    known: str = ""
    #: Short names of the types that the first finding counts.
    kinds: frozenset[str] = frozenset()
    #: The path to the group of objects that is kept, None if there is no group.
    path: RetainingPath | None = None
    #: The paths to the objects that the signals count, if other members of the group
    #: hold them, as a model holds tensors.
    below: tuple[RetainingPath, ...] = ()
    #: The path that the message shows, which leads to the first finding's objects.
    holder: RetainingPath | None = None
    #: How the group grows: LONGER_VALUE, CHAIN, or "" for more objects.
    growth: str = ""
    #: In a chain, the attribute or variable that holds the previous object.
    link: str = ""
    #: Full name of the type that is held directly, "" if there is no group.
    held: str = ""
    #: The members of the group: objects per iteration, by full name of the type.
    members: Mapping[str, float] = field(default_factory=dict)
    #: Full names of the types in all groups of the test.
    beside: frozenset[str] = frozenset()
    #: The tensors, variables and arrays that the first finding counts.
    arrays: tuple[Array, ...] = ()
    #: Full names of the functions that are held directly.
    functions: tuple[str, ...] = ()
    #: The methods of these objects that let go of what they have, such as ``close``.
    closers: tuple[str, ...] = ()
    #: The files that stay open, and the threads that do not end.
    files: tuple[str, ...] = ()
    threads: tuple[RunningThread, ...] = ()
    #: The source text of the allocation site.
    line: str = ""
    #: What the code around that line does (source_hints.py).
    around: frozenset[str] = frozenset()
    #: Whether the context manager that made it is entered again before it is left.
    is_entered_twice: bool = False
    #: Why a function is retraced: python_scalar, shape, dtype, object, structure.
    retrace: str = ""
    #: The tf.function that is retraced or made in each call, and the argument that
    #: changes; "" if they have no name.
    function: str = ""
    argument: str = ""
    #: Whether each call creates a function.
    is_made_in_loop: bool = False
    #: C++ functions that allocate the memory, innermost first.
    native: tuple[str, ...] = ()
    #: Whether keras.utils.clear_session() after each iteration ends the growth.
    is_released: bool = False
    #: Whether the search saw all objects that may hold others.
    is_searched: bool = False
    #: Whether Python's small objects are enough to explain the memory.
    is_of_blocks: bool = False

    @property
    def paths(self) -> tuple[RetainingPath, ...]:
        """Return the path to the objects held directly, and the longer ones below."""
        return (self.path, *self.below) if self.path is not None else self.below

    @property
    def root(self) -> Root:
        """Return where the path begins."""
        return self.path.root if self.path is not None else Root(kind="")

    @property
    def is_native(self) -> bool:
        """Return whether C or C++ code holds it, with no known Python object."""
        return self.root.kind in WITHOUT_HOLDER and (
            self.holder is None or self.holder.is_native
        )

    @property
    def is_in_library(self) -> bool:
        """Return whether a module of a library holds it."""
        return any(path.root.is_library for path in self.paths)

    def has(self, *signals: str) -> bool:
        """Return whether one of these signals is among those of the findings."""
        return not self.signals.isdisjoint(signals)

    def adds(self, *names: str) -> bool:
        """Return whether a path leads through a new object of these types or roles."""
        return any(path.passes_through(*names, new=True) for path in self.paths)

    def goes_through(self, *names: str) -> bool:
        """Return whether a path leads through an older object of these types."""
        return any(path.passes_through(*names, new=False) for path in self.paths)

    def holds(self, *types: str) -> bool:
        """Return whether objects of these types are kept, given the names' endings."""
        return any(name.endswith(types) for name in self.types)

    @property
    def types(self) -> Iterator[str]:
        """Yield the full names of the types of all objects that are kept."""
        yield self.held
        yield from self.members

    def is_stored_in(self, *stores: str) -> bool:
        """Return whether the path leads to one of these stores (holder/path.py)."""
        return self.path is not None and self.path.store in stores
