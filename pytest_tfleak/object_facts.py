"""What is known of an object, as values: its type, name, dtype, shape, bytes, state.

The values keep nothing alive; ``reports/held_object.py`` turns them into text, and
``reports/retraced.py`` those about a tf.function that is traced again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_tfleak.retaining_path import Array

# What an object is, if its type alone does not say it.
FUNCTION = "function"
METHOD = "method"
METHOD_OF = "method-of"  # a method that is no Python function, of an object
BUILTIN = "builtin"
PARTIAL = "partial"
SUSPENDED = "suspended"  # a generator or coroutine
FRAME = "frame"
TRACEBACK = "traceback"
CLASS = "class"
KERAS_VARIABLE = "keras-variable"

#: The types of asyncio's tasks: the one in C, and the one in Python.
TASKS = ("_asyncio.Task", "asyncio.tasks.Task")

# What the length of an object counts, if not entries.
CHARACTERS = "characters"
WORKERS = "workers"
OPERATIONS = "operations"

# States.
OPEN = "open"
CLOSED = "closed"
NOT_CLOSED = "not-closed"
ENDED = "ended"
NOT_STARTED = "not-started"
DAEMON = "daemon"
SHUT_DOWN = "shut-down"
NOT_SHUT_DOWN = "not-shut-down"
RELEASED = "released"
PERSISTENT = "persistent"
RECORDING = "recording"

# Functions that a library makes, and what they are.
TF_FUNCTION = "tf-function"
KERAS_FIT = "keras-fit"
KERAS_PREDICT = "keras-predict"

#: The smallest rate shown, just below that of an object in every tenth iteration.
RAREST = 0.09
#: Parts of names that may differ from call to call: the end of an event file's name,
#: letters from tempfile, a hash, a number.
_PART = re.compile(
    r"(?<=events\.out\.tfevents\.)\S+"
    r"|(?<=tmp)[a-z0-9_]{8}\b"
    r"|(?<![A-Za-z0-9])(?=[a-f]*[0-9])[0-9a-f]{8,}(?![A-Za-z0-9])"
    r"|[0-9]+"
)
_STARS = re.compile(r"\*(?:[-_.]\*)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """What is known of one object."""

    type: str = ""  # the type's name without the module of a library
    form: str = ""  # one of the forms above, "" if the type says what it is
    of: str = ""  # the name of the function, method or class that has the form
    name: str = ""
    array: Array | None = None
    dims: tuple[str, ...] | None = None  # those of the array, also if no numbers
    length: int | None = None
    counts: str = ""  # what the length counts, "" for entries
    parts: tuple[tuple[str, int], ...] = ()  # how many parts of each type
    elements: str = ""  # the type of the elements: ``float32[2]``
    file: str = ""
    line: int = 0
    target: str = ""  # the function that a thread runs
    family: str = ""  # of a socket: TCP, UDP, Unix
    addresses: tuple[str, ...] = ()
    size: int | None = None  # bytes
    states: tuple[str, ...] = ()
    operation: str = ""  # the type of an operation
    view_of: int | None = None  # the bytes of the array that this one is a view of
    kept_by: str = ""  # the type of the object from C whose memory an array uses
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrace:
    """Why one tf.function is retraced again and again, as text and numbers."""

    function: str
    argument: str  # as the function calls it, with the index of a nested part
    values: tuple[str, ...]  # some values in the newest traces
    sort: str  # python_scalar | shape | dtype | object | structure | context
    reason: str  # more exact than the sort: see ``reports/retraced.py``
    kind: str = ""  # the name of the type that the reason is about, "" if unknown
    file: str = ""  # the name of the file that defines the Python function
    line: int = 0
    also: tuple[str, ...] = ()  # other arguments that change often


@dataclass(frozen=True, slots=True, kw_only=True)
class Remade:
    """Several tf.functions created at the same place in the code."""

    function: str
    file: str
    line: int
    count: int
    owner: str = ""  # what it is, if a library creates it
    method: bool = False  # whether each instance has a tf.function of its own


def rates_of(counts: Mapping[str, int], iterations: int) -> dict[str, float]:
    """Return counts per iteration, without those too rare to show."""
    rates = {name: count / iterations for name, count in counts.items()}
    return {name: rate for name, rate in rates.items() if rate >= RAREST}


def fold_name(name: str) -> str:
    """Return a name with ``*`` for each part that may differ from call to call."""
    return _STARS.sub("*", _PART.sub("*", name))


def fold_names(names: Iterable[str]) -> dict[str, int]:
    """Count names, merging those that differ only in parts that ``*`` can replace."""
    groups: dict[tuple[str, ...], list[str]] = {}  # by the parts that they share
    for name in names:
        groups.setdefault(tuple(_PART.split(name)), []).append(name)
    counts: dict[str, int] = {}
    for members in groups.values():
        folded = _fold_alike(members)
        counts[folded] = counts.get(folded, 0) + len(members)
    return counts


def _fold_alike(names: list[str]) -> str:
    """Return one name for several, with ``*`` for each part that differs."""
    columns = zip(*map(_PART.findall, names), strict=True)
    parts = iter([c[0] if len(set(c)) == 1 else "*" for c in columns])
    merged = _PART.sub(lambda _: next(parts), names[0])
    return _STARS.sub("*", merged)
