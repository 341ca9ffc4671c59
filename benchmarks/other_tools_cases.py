"""Small leaks of different kinds, each with a twin that does the same without a leak.

The line that leaks is marked. ``other_tools.py`` shows each to several tools.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import cache
from inspect import getsourcelines
from itertools import count
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

v1: Any = tf.compat.v1
Body = Callable[[], object]

NUMBERS = count()
KEPT: list[Any] = []
SESSIONS: list[Any] = []
RECORDS: list[Record] = []
RECENT: deque[Record] = deque(maxlen=32)
TASKS: list[asyncio.Task[Any]] = []
FILES: list[Any] = []
MODELS: list[Any] = []
GROWING = tf.Graph()
#: What a test that pytest-memray runs calls.
CURRENT: list[Body] = []


class Record:
    """An object of a program."""

    other: Record | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A leak and its twin."""

    kind: str
    leak: Body
    twin: Body
    #: What a report must name for the holder; "" if nothing in Python holds it.
    holder: str = ""
    #: What "no leak" means here.
    twin_is: str
    #: The same as coroutine functions, for tools that look at event loops.
    coroutines: tuple[Callable[[], Coroutine[Any, Any, object]], ...] = ()
    #: The function with the marked line, if it is not ``leak``.
    marked: Callable[..., object] | None = None

    @property
    def line(self) -> int:
        """Return the number of the line that leaks."""
        lines, first = getsourcelines(self.marked or self.leak)
        return first + next(k for k, line in enumerate(lines) if "# leaks" in line)


def keep_tensor() -> None:
    KEPT.append(tf.constant([1.0]))  # leaks


def replace_tensor() -> None:
    KEPT[:] = [tf.constant([1.0])]


@cache
def session_graph() -> Any:
    graph = tf.Graph()
    with graph.as_default():
        v1.constant(1.0, name="one")
    return graph


def leave_session_open() -> None:
    session = v1.Session(graph=session_graph())
    SESSIONS.append(session)  # leaks
    session.run("one:0")


def close_session() -> None:
    with v1.Session(graph=session_graph()) as session:
        session.run("one:0")


def grow_graph() -> None:
    with GROWING.as_default():
        v1.constant(1.0)  # leaks


def build_graph() -> None:
    with tf.Graph().as_default():
        v1.constant(1.0)


@tf.function
def triple(x: Any) -> Any:
    return 3 * x


def trace_each_number() -> None:
    triple(next(NUMBERS))  # leaks


def trace_once() -> None:
    triple(tf.constant(next(NUMBERS)))


@cache
def table() -> Any:
    return tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)


def insert_new_keys() -> None:
    keys = tf.range(1000, dtype=tf.int64) + 1000 * next(NUMBERS)
    table().insert(keys, keys)  # leaks


def insert_same_keys() -> None:
    keys = tf.range(1000, dtype=tf.int64)
    table().insert(keys, keys)


def keep_model() -> None:
    MODELS.append(make_model())  # leaks


def drop_model() -> None:
    make_model()


def make_model() -> Any:
    layers = [keras.Input((4,)), keras.layers.Dense(2)]
    return keras.Sequential(layers)


@cache
def weights(key: object) -> Any:
    return tf.zeros([256])


def cache_each_number() -> None:
    weights(next(NUMBERS))  # leaks


def cache_once() -> None:
    weights("all")


def keep_records() -> None:
    RECORDS.extend(Record() for _ in range(100))  # leaks


def make_cycle() -> None:
    one, two = Record(), Record()
    one.other, two.other = two, one


def keep_record() -> None:
    RECORDS.append(Record())  # leaks


def keep_last_records() -> None:
    RECENT.append(Record())


def wait_for_ever() -> None:
    threading.Event().wait()


def leave_thread() -> None:
    threading.Thread(target=wait_for_ever).start()  # leaks


def join_thread() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


@cache
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


async def start_task() -> None:
    TASKS.append(asyncio.create_task(asyncio.Event().wait()))  # leaks
    await asyncio.sleep(0)


async def await_task() -> None:
    await asyncio.create_task(asyncio.sleep(0))


def leave_task() -> None:
    loop().run_until_complete(start_task())


def end_task() -> None:
    loop().run_until_complete(await_task())


def leave_file_open() -> None:
    FILES.append(Path(os.devnull).open("rb"))  # leaks


def close_file() -> None:
    Path(os.devnull).open("rb").close()


@cache
def libc() -> Any:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = (ctypes.c_void_p,)
    return library


def allocate() -> None:
    libc().malloc(16_384)  # leaks


def allocate_and_free() -> None:
    libc().free(libc().malloc(16_384))


CASES = (
    Case(
        kind="eager tensor kept in a list",
        leak=keep_tensor,
        twin=replace_tensor,
        twin_is="the list holds the last one",
        holder="KEPT",
    ),
    Case(
        kind="session never closed",
        leak=leave_session_open,
        twin=close_session,
        twin_is="`with`",
        holder="SESSIONS",
    ),
    Case(
        kind="graph grows in a loop",
        leak=grow_graph,
        twin=build_graph,
        twin_is="a graph of its own in each call",
        holder="GROWING",
    ),
    Case(
        kind="retraced `tf.function`",
        leak=trace_each_number,
        twin=trace_once,
        twin_is="called with a tensor",
        holder="triple",
    ),
    Case(
        kind="lookup table grows (C++ memory)",
        leak=insert_new_keys,
        twin=insert_same_keys,
        twin_is="the same keys again",
    ),
    Case(
        kind="Keras model kept",
        leak=keep_model,
        twin=drop_model,
        twin_is="a fresh model in each call, dropped",
        holder="MODELS",
    ),
    Case(
        kind="cache without a limit",
        leak=cache_each_number,
        twin=cache_once,
        twin_is="filled once",
        holder="weights",
    ),
    Case(
        kind="100 Python objects kept in each call",
        leak=keep_records,
        twin=make_cycle,
        twin_is="a reference cycle, dropped",
        holder="RECORDS",
    ),
    Case(
        kind="1 small Python object kept in each call",
        leak=keep_record,
        twin=keep_last_records,
        twin_is="a deque that holds the last 32",
        holder="RECORDS",
    ),
    Case(
        kind="thread never joined",
        leak=leave_thread,
        twin=join_thread,
        twin_is="joined",
        holder="wait_for_ever",
    ),
    Case(
        kind="asyncio task left",
        leak=leave_task,
        twin=end_task,
        twin_is="awaited",
        holder="TASKS",
        coroutines=(start_task, await_task),
        marked=start_task,
    ),
    Case(
        kind="file never closed",
        leak=leave_file_open,
        twin=close_file,
        twin_is="closed",
        holder="FILES",
    ),
    Case(
        kind="`malloc` without `free`",
        leak=allocate,
        twin=allocate_and_free,
        twin_is="freed",
    ),
)
