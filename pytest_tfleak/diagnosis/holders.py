"""Who holds an object: the path from a root to it, in words a developer reads.

``app.cache.HISTORY (list of 55)``, ``dict['loss']``, ``EagerTensor float32[128]``: what
was there before comes as one expression that can be typed in; then each object that the
run made and that leads to the one asked for.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from logging import LogRecord
from typing import Any
from weakref import WeakKeyDictionary
from weakref import WeakValueDictionary

from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.edges import items_of
from pytest_tfleak.diagnosis.edges import label
from pytest_tfleak.diagnosis.fields import cached_in
from pytest_tfleak.diagnosis.fields import read_text
from pytest_tfleak.diagnosis.roots import AT_EXIT
from pytest_tfleak.diagnosis.roots import THREADS
from pytest_tfleak.diagnosis.roots import Root
from pytest_tfleak.diagnosis.roots import is_users_module

NOBODY = "C or C++ code: no Python object holds it"
_SIZED: tuple[Any, ...] = (list, dict, set, frozenset, deque, tuple)
_REPLACED = (tuple, list)  # types of what a longer one takes the place of
_LONGEST = 6  # edges
#: How the tf.function of a method finds the one of an instance.
_METHOD = re.compile(r"\._descriptor_cache(\.data)?\[[^]]*\]")
AT_ROOT = 3  # links: a root, its names, and the object
_mro = type.__dict__["__mro__"].__get__
_args_of = BaseException.__dict__["args"].__get__
_traceback_of = BaseException.__dict__["__traceback__"].__get__

#: What the expressions for TensorFlow's and Keras' own stores mean.
STORES = {
    "tensorflow.python.framework.ops._default_graph_stack": (
        "TensorFlow's stack of default graphs"
    ),
    "tensorflow.python.framework.stack._default_session_stack": (
        "TensorFlow's stack of default sessions"
    ),
    "tensorflow.python.framework.registry": "a registry of TensorFlow",
    "tensorflow.python.framework.ops.gradient_registry": (
        "TensorFlow's custom-gradient registry"
    ),
    "tensorflow.python.ops.script_ops._py_funcs": (
        "TensorFlow's table of Python functions"
    ),
    "keras.src.backend.common.global_state.GLOBAL_STATE_TRACKER": (
        "Keras' global state"
    ),
    "keras.src.saving.object_registration.GLOBAL_CUSTOM_OBJECTS": (
        "Keras' registry of custom objects"
    ),
}
#: What a path goes through, by type: hints at the cause.
_CLUES: tuple[tuple[Any, str], ...] = (
    (types.TracebackType, "exception"),
    (types.FrameType, "frame"),
    (LogRecord, "log_record"),
    (types.CellType, "closure"),
    (types.GeneratorType, "generator"),
    (types.CoroutineType, "generator"),
    (threading.Thread, "thread"),
    (functools._lru_cache_wrapper, "lru_cache"),
    (WeakKeyDictionary, "weak_keys"),
    (WeakValueDictionary, "weak_values"),
    (type, "class"),
)


@dataclass(frozen=True, slots=True)
class Holding:
    """How something is held: in words, in words without indexes, and through what."""

    edges: tuple[str, ...]
    erased: str
    clues: frozenset[str]


def describe_path(
    chain: list[Any], new: set[int], describe: Callable[[object], str]
) -> Holding:
    """Put a path into words. ``new`` holds the ids of what the run made."""
    if not chain:
        return Holding((NOBODY,), NOBODY, frozenset({"native"}))
    edges: list[str] = []
    text, at = _start(chain, new)
    longer = -1  # where a name is bound to a longer sequence each time
    if at == len(chain) - 1 or (id(chain[at]) in new and at == 2):
        if at < len(chain) - 1 and type(chain[at]) in _REPLACED:
            longer = at
        else:
            edges.append(text)
            text = _short(chain[at])
    while at < len(chain) - 1:
        holder, held = chain[at], chain[at + 1]
        if issubclass(type(holder), functools._lru_cache_wrapper):
            at += type(held) is dict and at + 2 < len(chain)  # the cache's own
            held = chain[at + 1]
        if _is_seen_through(holder, held):
            at += 1
            continue
        size = _size(holder) if id(holder) not in new or at == longer else ""
        if size and id(held) in new:  # here it piles up
            edges.append(text + size)
            text, at = _short(held), at + 1
            continue
        words, at = label(chain, at)
        if words.startswith((".", "[")):
            text += words
        else:
            edges.append(text)
            text = words or _short(chain[at])
        if at == len(chain) - 1:
            edges += [text] if words else []
        elif id(chain[at]) in new and id(holder) not in new:
            if type(chain[at]) in _REPLACED:
                longer = at
                continue
            edges.append(text)
            text = _short(chain[at])
    edges.append(describe(chain[-1]))
    named = [_named(edge) for edge in edges if edge]
    erased = [_erase(edge) for edge in named[:-1]]
    return Holding(
        edges=tuple(_folded(named)),
        erased=" > ".join([*erased, full_name(type(chain[-1]))]),
        clues=frozenset(_clues(chain, named[0], new)),
    )


def place_at_root(chain: list[Any], new: set[int]) -> str:
    """Return the place, without numbers, of what a root holds directly, else ""."""
    if len(chain) != AT_ROOT:
        return ""
    return f"{_erase(_start(chain, new)[0])} > {full_name(type(chain[-1]))}"


def _is_seen_through(holder: object, held: object) -> bool:
    """Say whether a link is a traceback, whose frames say it all."""
    kinds = (type(holder), type(held))
    return any(issubclass(kind, types.TracebackType) for kind in kinds)


def _start(chain: list[Any], new: set[int]) -> tuple[str, int]:
    root: Root = chain[0]
    if type(root.holds) is dict and len(chain) > 2:
        for name, value in items_of(root.holds):
            if value is chain[2]:
                if root.name == THREADS and id(value) not in new:
                    return f"thread {read_text(value, '_name')!r}", 2
                return root.form.format(root=root.name, name=name), 2
    return root.name, 1 if len(chain) == 2 else 2


def _size(holder: object) -> str:
    kind = type(holder)
    if issubclass(kind, functools._lru_cache_wrapper):
        return f" (lru_cache of {cached_in(holder)})"
    for plain in _SIZED:
        if issubclass(kind, plain):
            size = plain.__len__  # not len(): a subclass may count otherwise
            return f" ({_short(holder)} of {size(holder)})"
    return ""


def _short(holder: object) -> str:
    return full_name(type(holder)).rpartition(".")[2]


def _named(edge: str) -> str:
    """Return an edge with the plain words for a store of TensorFlow's or Keras'."""
    edge = _METHOD.sub("", edge)
    for start, words in STORES.items():
        if edge.startswith(start):
            size = re.search(r" \(.*\)$", edge)
            return f"{words} ({edge})" if size is None else words + size.group()
    return edge


def _erase(edge: str) -> str:
    """Return an edge without what changes from run to run: indexes, sizes, numbers."""
    edge = re.sub(r" \([^()]* of \d+\)$", "", edge)
    edge = re.sub(r"(__autograph_generated_file)\w+", r"\1#", edge)
    return re.sub(r"\d+", "#", edge)


def _folded(edges: list[str]) -> list[str]:
    if len(edges) <= _LONGEST:
        return edges
    return [*edges[: _LONGEST - 2], "...", edges[-1]]


def _clues(chain: list[Any], first: str, new: set[int]) -> set[str]:
    """Return words and types; those of before the run begin with ``old_``."""
    found: set[str] = set()
    for link, held in zip(chain[1:], [*chain[2:], None], strict=True):
        age = "" if id(link) in new else "old_"
        bases = _mro(type(link))[:-1]
        found.update(age + full_name(base) for base in bases)
        # not issubclass(): some of these ask an ABC, which hashes the class
        ids = set(map(id, bases))
        found.update(age + clue for kind, clue in _CLUES if id(kind) in ids)
        if id(BaseException) in ids:
            has_frames = _traceback_of(link) is not None and held is not _args_of(link)
            found.add(age + ("exception" if has_frames else "exception_args"))
    root: Root = chain[0]
    if root.name == THREADS:
        found.add("thread")
    if root.name.startswith(AT_EXIT):
        found.add("atexit")
    if root.name.startswith("sys.last_"):
        found.add("last_exception")
    if "local variable" in root.form:
        found.add("frame")
    module = sys.modules.get(root.name)
    if module is not None and not is_users_module(module):
        found.add("library")
    if first.startswith("TensorFlow's stack of"):
        found.add("stack")
    if first.startswith("Keras' global state"):
        found.add("keras_state")
    if full_name(type(chain[-1])) == "numpy.ndarray" and chain[-1].base is not None:
        found.add("view")
    return found
