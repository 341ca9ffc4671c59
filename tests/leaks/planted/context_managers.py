"""Thirty context managers: every leaking one leaks only where a TensorFlow call fails.

They were written before the sweep of faults first ran, and it was not tuned to them.
Run them with ``pytest tests/leaks/planted/context_managers.py``: a sweep tells all of
them right if each ``test_leaks_`` fails as a leak and each ``test_fixed_`` passes.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import asynccontextmanager
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import Any
from typing import TextIO

import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak(faults=True)

open_sessions: list[tf.compat.v1.Session] = []
graphs_in_use: list[tf.Graph] = []
open_files: dict[str, TextIO] = {}
pending: list[tf.Tensor] = []
tracked: dict[int, tf.Variable] = {}
writers: list[Any] = []
FOLDER = Path(tempfile.mkdtemp())


def open_session() -> tf.compat.v1.Session:
    graph = tf.Graph()
    with graph.as_default():
        tf.add(tf.constant(1.0), 2.0, name="sum")
    session = tf.compat.v1.Session(graph=graph)
    open_sessions.append(session)
    return session


def close(session: tf.compat.v1.Session) -> None:
    session.close()
    open_sessions.remove(session)


def work() -> tf.Tensor:
    row = tf.ones([4])
    return tf.reduce_sum(row * 2.0)


# 1, 2: a session that is closed only where the block succeeds
class ClosesOnSuccess:
    def __enter__(self) -> tf.compat.v1.Session:
        self.session = open_session()
        return self.session

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            close(self.session)


class ClosesAlways(ClosesOnSuccess):
    def __exit__(self, kind: object, error: object, trace: object) -> None:
        close(self.session)


def test_leaks_a_session_closed_on_success() -> None:
    with ClosesOnSuccess() as session:
        assert session.run("sum:0") == 3


def test_fixed_a_session_closed_always() -> None:
    with ClosesAlways() as session:
        assert session.run("sum:0") == 3


# 3, 4: the exit itself runs something, which may fail
class FlushesThenCloses:
    def __enter__(self) -> tf.compat.v1.Session:
        self.session = open_session()
        return self.session

    def __exit__(self, *error: object) -> None:
        self.session.run("sum:0")
        close(self.session)


class FlushesAndCloses(FlushesThenCloses):
    def __exit__(self, *error: object) -> None:
        try:
            self.session.run("sum:0")
        finally:
            close(self.session)


def test_leaks_a_session_whose_last_run_fails() -> None:
    with FlushesThenCloses() as session:
        assert session.graph is not None


def test_fixed_a_session_whose_last_run_fails() -> None:
    with FlushesAndCloses() as session:
        session.run("sum:0")


# 5, 6: the exit returns True
class Quiet:
    def __enter__(self) -> tf.Graph:
        self.graph = tf.Graph()
        graphs_in_use.append(self.graph)
        return self.graph

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if kind is not None:
            return True
        graphs_in_use.remove(self.graph)
        return False


class QuietAndClean(Quiet):
    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        graphs_in_use.remove(self.graph)
        return True


def test_leaks_a_graph_whose_exit_returns_true() -> None:
    with Quiet():
        work()


def test_fixed_a_graph_whose_exit_returns_true() -> None:
    with QuietAndClean():
        work()


# 7, 8: the enter fails after it has opened
class WarmsUp:
    def __enter__(self) -> tf.compat.v1.Session:
        self.session = open_session()
        self.session.run("sum:0")
        return self.session

    def __exit__(self, *error: object) -> None:
        close(self.session)


class WarmsUpCarefully(WarmsUp):
    def __enter__(self) -> tf.compat.v1.Session:
        self.session = open_session()
        try:
            self.session.run("sum:0")
        except BaseException:
            close(self.session)
            raise
        return self.session


def test_leaks_a_session_whose_warm_up_fails() -> None:
    with WarmsUp() as session:
        session.run("sum:0")


def test_fixed_a_session_whose_warm_up_fails() -> None:
    with WarmsUpCarefully() as session:
        session.run("sum:0")


# 9, 10: a generator that starts a thread
@contextmanager
def ticking() -> Iterator[None]:
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, daemon=True)
    thread.start()
    yield
    ends.set()
    thread.join()


@contextmanager
def ticking_with_finally() -> Iterator[None]:
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def test_leaks_a_thread_of_a_generator() -> None:
    with ticking():
        work()


def test_fixed_a_thread_of_a_generator() -> None:
    with ticking_with_finally():
        work()


# 11, 12: a generator that opens a file
@contextmanager
def journal(name: str) -> Iterator[TextIO]:
    open_files[f"{name}{len(open_files)}"] = file = (FOLDER / name).open("w")
    yield file
    file.close()
    open_files.popitem()


@contextmanager
def careful_journal(name: str) -> Iterator[TextIO]:
    with (FOLDER / name).open("w") as file:
        open_files[name] = file
        try:
            yield file
        finally:
            del open_files[name]


def test_leaks_a_file_of_a_generator() -> None:
    with journal("a") as file:
        file.write(str(float(work())))


def test_fixed_a_file_of_a_generator() -> None:
    with careful_journal("b") as file:
        file.write(str(float(work())))


# 13, 14: an ExitStack that is filled in a constructor
class Ticker:
    def __enter__(self) -> Ticker:
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.ends.wait, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ends.set()
        self.thread.join()


class Bundle:
    def __init__(self) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(Ticker())
        self.start = work()
        self.stack.enter_context(Ticker())

    def close(self) -> None:
        self.stack.close()


class CarefulBundle(Bundle):
    def __init__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(Ticker())
            self.start = work()
            stack.enter_context(Ticker())
            self.stack = stack.pop_all()


def test_leaks_the_threads_of_a_half_filled_stack() -> None:
    bundle = Bundle()
    bundle.close()


def test_fixed_the_threads_of_a_half_filled_stack() -> None:
    bundle = CarefulBundle()
    bundle.close()


# 15, 16: entered again for the second try
class Lease:
    def __enter__(self) -> Lease:
        self.session = open_session()
        return self

    def __exit__(self, *error: object) -> None:
        close(self.session)


class CountedLease(Lease):
    entered = 0

    def __enter__(self) -> CountedLease:
        self.entered += 1
        if self.entered == 1:
            super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.entered -= 1
        if not self.entered:
            super().__exit__(*error)


def test_leaks_the_session_of_the_first_try() -> None:
    lease = Lease()
    with ExitStack() as stack:
        lease.__enter__()
        stack.callback(lease.__exit__)
        with suppress(tf.errors.OpError):
            lease.session.run("sum:0")
            return
        lease.__enter__()
        lease.session.run("sum:0")


def test_fixed_the_session_of_the_first_try() -> None:
    lease = CountedLease()
    with lease:
        with suppress(tf.errors.OpError):
            lease.session.run("sum:0")
            return
        with lease:
            lease.session.run("sum:0")


# 17, 18: async with
class Remote:
    async def __aenter__(self) -> tf.compat.v1.Session:
        self.session = open_session()
        await asyncio.sleep(0)
        return self.session

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await asyncio.sleep(0)
        if error is None:
            close(self.session)


class CarefulRemote(Remote):
    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await asyncio.sleep(0)
        close(self.session)


async def ask(remote: Remote) -> None:
    async with remote as session:
        session.run("sum:0")


def test_leaks_a_session_of_async_with() -> None:
    asyncio.run(ask(Remote()))


def test_fixed_a_session_of_async_with() -> None:
    asyncio.run(ask(CarefulRemote()))


# 19, 20: a tape that is entered by hand
def test_leaks_a_tape_entered_by_hand() -> None:
    weight = tf.Variable(3.0)
    tape = tf.GradientTape()
    tape.__enter__()
    loss = weight * weight
    tape.__exit__(None, None, None)
    assert float(tape.gradient(loss, weight)) == 6


def test_fixed_a_tape_in_a_with_statement() -> None:
    weight = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        loss = weight * weight
    assert float(tape.gradient(loss, weight)) == 6


# 21, 22: the scope of a strategy
def test_leaks_the_scope_of_a_strategy() -> None:
    scope = tf.distribute.OneDeviceStrategy("/cpu:0").scope()
    scope.__enter__()
    weight = tf.Variable(1.0)
    scope.__exit__(None, None, None)
    assert float(weight) == 1


def test_fixed_the_scope_of_a_strategy() -> None:
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        weight = tf.Variable(1.0)
    assert float(weight) == 1


# 23, 24: a default graph
def test_leaks_a_default_graph() -> None:
    session = open_session()
    scope = session.graph.as_default()
    scope.__enter__()
    try:
        session.run("sum:0")
    finally:
        close(session)
    scope.__exit__(None, None, None)


def test_fixed_a_default_graph() -> None:
    session = open_session()
    try:
        with session.graph.as_default():
            session.run("sum:0")
    finally:
        close(session)


# 25, 26: a summary writer
class Recorder:
    def __enter__(self) -> Recorder:
        self.writer = tf.summary.create_file_writer(str(FOLDER / "logs"))
        writers.append(self.writer)
        return self

    def record(self) -> None:
        with self.writer.as_default(step=1):
            tf.summary.write("loss", work())

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind:
            return
        self.writer.close()
        writers.remove(self.writer)


class CarefulRecorder(Recorder):
    def __exit__(self, kind: object, error: object, trace: object) -> None:
        writers.remove(self.writer)
        self.writer.close()


def test_leaks_a_summary_writer() -> None:
    with Recorder() as recorder:
        recorder.record()


def test_fixed_a_summary_writer() -> None:
    with CarefulRecorder() as recorder:
        recorder.record()


# 27, 28: tensors that wait for the end of the block
class Batch:
    def __enter__(self) -> None:
        pending.append(tf.constant([1.0] * 64))

    def __exit__(self, *error: object) -> None:
        tf.reduce_sum(pending[-1])
        pending.pop()


class CarefulBatch(Batch):
    def __exit__(self, *error: object) -> None:
        tf.reduce_sum(pending.pop())


def test_leaks_a_pending_tensor() -> None:
    with Batch():
        pass


def test_fixed_a_pending_tensor() -> None:
    with CarefulBatch():
        work()


# 29, 30: an asynchronous generator
@asynccontextmanager
async def tracking(value: float) -> AsyncIterator[tf.Variable]:
    variable = tf.Variable(value)
    tracked[id(variable)] = variable
    await asyncio.sleep(0)
    yield variable
    del tracked[id(variable)]


@asynccontextmanager
async def careful_tracking(value: float) -> AsyncIterator[tf.Variable]:
    variable = tf.Variable(value)
    tracked[id(variable)] = variable
    try:
        yield variable
    finally:
        await asyncio.sleep(0)
        del tracked[id(variable)]


async def train(careful: bool) -> None:
    manager = careful_tracking if careful else tracking
    async with manager(1.0) as variable:
        variable.assign_add(1.0)
        assert float(variable) == 2


def test_leaks_a_variable_of_an_async_generator() -> None:
    asyncio.run(train(careful=False))


def test_fixed_a_variable_of_an_async_generator() -> None:
    asyncio.run(train(careful=True))
