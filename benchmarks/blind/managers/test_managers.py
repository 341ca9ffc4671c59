"""Thirty context managers, half of which leak where a TensorFlow call fails.

They were written, with what they state of themselves, before the sweep of faults was
run on any of them. ``LEAKS`` has the fifteen that leak: what piles up, by signal, the
kinds that a message may name for it, and the causes that would be right. The lines of
which a message should name one, where it was made or stored, have the comment
``# left: NAME`` with the name of the test. The other fifteen are right.

    python benchmarks/managers.py benchmarks/blind/managers
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from contextlib import ContextDecorator
from contextlib import ExitStack
from contextlib import asynccontextmanager
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import TypeVar

import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak(faults=True)

LEAKS: dict[str, dict[str, str]] = {
    "test_report_of_a_job": {
        "what": "a session, by a hook that its base class calls first in the exit",
        "signal": "tf.sessions",
        "kind": "Session",
        "cause": "exit-fails-before-closing",
    },
    "test_function_with_a_pool": {
        "what": "a session that is not given back, by a manager used as a decorator",
        "signal": "tf.sessions",
        "kind": "Session",
        "cause": "exit-only-on-success",
    },
    "test_graph_under_construction": {
        "what": "the scope of a graph, in an ExitStack that the enter fills",
        "signal": "tf.graph_stack",
        "kind": "default-graph stack",
        "cause": "enter-fails-after-opening,exit-stack-half-filled",
    },
    "test_tapes_of_each_level": {
        "what": "tapes: after an error, the exit leaves one of them only",
        "signal": "tf.tapes",
        "kind": "tape",
        "cause": "exit-only-on-success",
    },
    "test_watched_loss": {
        "what": "a tape and its tensors, which stay in a dict of what is recorded",
        "signal": "tf.tensors",
        "kind": "EagerTensor",
        "cause": "yield-without-finally",
    },
    "test_placement": {
        "what": "the scope of a strategy, in a class that derives from ExitStack",
        "signal": "tf.strategy",
        "kind": "strategy scope",
        "cause": "enter-fails-after-opening",
    },
    "test_logging_to_a_folder": {
        "what": "the default summary writer, by a generator without finally",
        "signal": "tf.summary_writer",
        "kind": "default summary writer",
        "cause": "yield-without-finally",
    },
    "test_events_of_a_graph": {
        "what": "an event writer of graph mode: the exit runs the session first",
        "signal": "process.threads",
        "kind": "_EventLoggerThread,FileWriter,Events",
        "cause": "exit-fails-before-closing",
    },
    "test_shard_with_a_header": {
        "what": "a file of records, whose header is written in the enter",
        "signal": "process.fds",
        "kind": "TFRecordWriter,Shard",
        "cause": "enter-fails-after-opening",
    },
    "test_lock_file": {
        "what": "a bare descriptor, which the exit closes if all went well",
        "signal": "process.fds",
        "kind": "descriptor",
        "cause": "exit-only-on-success",
    },
    "test_workers_of_a_service": {
        "what": "threads of an executor, which an async enter starts before it fails",
        "signal": "process.threads",
        "kind": "Thread,ThreadPoolExecutor",
        "cause": "enter-fails-after-opening",
    },
    "test_heartbeat": {
        "what": "a thread: the generator catches another error than is raised",
        "signal": "process.threads",
        "kind": "Thread",
        "cause": "yield-without-finally",
    },
    "test_connections_of_a_stack": {
        "what": "a session, whose clean-up is pushed after it has been tried out",
        "signal": "tf.sessions",
        "kind": "Session",
        "cause": "guarded-too-late",
    },
    "test_second_try": {
        "what": "a session: the second try enters the manager in itself",
        "signal": "tf.sessions",
        "kind": "Session",
        "cause": "manager-entered-twice",
    },
    "test_tolerant_step": {
        "what": "a variable: the manager hides the error, and the block ends early",
        "signal": "tf.variables",
        "kind": "ResourceVariable",
        "cause": "exit-hides-error",
    },
}

FOLDER = Path(tempfile.mkdtemp(prefix="managers"))
Result = TypeVar("Result")
Kind = type[BaseException] | None


def double() -> Any:
    return tf.ones([8]) * 2.0


def new_session() -> tf.compat.v1.Session:
    graph = tf.Graph()
    with graph.as_default():
        tf.reduce_sum(tf.ones([8]), name="total")
    return tf.compat.v1.Session(graph=graph)


# the exit of a base class calls a hook of the subclass before it closes
class Job:
    running: list[Job] = []  # noqa: RUF012 - one for all, as users write it
    report = ""

    def __enter__(self) -> Job:
        self.session = new_session()  # left: test_report_of_a_job
        self.answers: dict[str, float] = {}
        Job.running.append(self)  # left: test_report_of_a_job
        return self

    def finish(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self.finish()
        self.session.close()
        Job.running.remove(self)


class ReportedJob(Job):
    def finish(self) -> None:
        self.report = f"total: {self.answers['total']}"


def test_report_of_a_job() -> None:
    with ReportedJob() as job:
        job.answers["total"] = float(job.session.run("total:0"))
    assert job.report == "total: 8.0"


# a session in a class that fills an ExitStack in a with statement
class Scorer:
    def __enter__(self) -> Scorer:
        with ExitStack() as stack:
            self.session = stack.enter_context(new_session())
            self.first = self.session.run("total:0")
            self.parts = stack.pop_all()
        return self

    def __exit__(
        self, kind: Kind, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.parts.__exit__(kind, error, trace)


def test_scorer() -> None:
    with Scorer() as scorer:
        assert scorer.session.run("total:0") == scorer.first


# a manager that is used as a decorator, and takes sessions out of a pool
class Pooled(ContextDecorator):
    free: list[tf.compat.v1.Session] = []  # noqa: RUF012 - as above
    lent: list[tf.compat.v1.Session] = []  # noqa: RUF012 - as above

    def __enter__(self) -> Pooled:
        if not self.free:
            self.free.append(new_session())  # left: test_function_with_a_pool
        self.lent.append(self.free.pop())  # left: test_function_with_a_pool
        return self

    def __exit__(self, *info: object) -> None:
        if any(info):
            return
        self.free.append(self.lent.pop())


@Pooled()
def total() -> float:
    return float(Pooled.lent[-1].run("total:0"))


def test_function_with_a_pool() -> None:
    assert total() == 8


# a pool of sessions that drops a session whose call has failed
_idle: list[tf.compat.v1.Session] = []


@contextmanager
def borrowed() -> Iterator[tf.compat.v1.Session]:
    session = _idle.pop() if _idle else new_session()
    try:
        yield session
    except tf.errors.OpError:
        session.close()
        raise
    else:
        _idle.append(session)


def test_borrowed_sessions() -> None:
    with borrowed() as session, borrowed() as other:
        assert session.run("total:0") == other.run("total:0")


# one session for all, which is replaced after an error
class Shared:
    session: tf.compat.v1.Session | None = None

    def __enter__(self) -> tf.compat.v1.Session:
        if Shared.session is None:
            Shared.session = new_session()
        return Shared.session

    def __exit__(self, kind: Kind, *rest: object) -> None:
        if kind is not None and Shared.session is not None:
            Shared.session.close()
            Shared.session = new_session()


def test_shared_session() -> None:
    with Shared() as session:
        assert session.run("total:0") == 8


# the scope of a graph in an ExitStack that the enter fills
class Construction:
    def __enter__(self) -> tf.Graph:
        self.graph = tf.Graph()  # left: test_graph_under_construction
        self.scopes, scope = ExitStack(), self.graph.as_default()
        self.scopes.enter_context(scope)  # left: test_graph_under_construction
        with tf.compat.v1.Session() as session:
            session.run(tf.constant(1.0) + 1.0)
        return self.graph

    def __exit__(self, *error: object) -> None:
        self.scopes.close()


def test_graph_under_construction() -> None:
    with Construction() as graph:
        tf.constant(1.0, name="one")
    assert graph.get_operations()


# graphs that are built once for each signature, and only kept if they can be run
_built: dict[str, tf.Graph] = {}


@contextmanager
def built(signature: str) -> Iterator[tf.compat.v1.Session]:
    graph = _built.get(signature) or new_session().graph
    with tf.compat.v1.Session(graph=graph) as session:
        session.run("total:0")
        _built[signature] = graph
        yield session


def test_graphs_of_signatures() -> None:
    for signature in ("float", "int"):
        with built(signature) as session:
            assert session.run("total:0") == 8


# a tape for each level, all of which one exit is to leave
class Levels:
    def __init__(self, count: int) -> None:
        self.count = count
        self.tapes: list[tf.GradientTape] = []

    def __enter__(self) -> list[tf.GradientTape]:
        for _ in range(self.count):
            tape = tf.GradientTape()
            tape.__enter__()  # left: test_tapes_of_each_level
            self.tapes.append(tape)
        return self.tapes

    def __exit__(self, kind: Kind, *rest: object) -> None:
        while self.tapes:
            self.tapes.pop().__exit__(kind, *rest)
            if kind is not None:
                break


def test_tapes_of_each_level() -> None:
    x = tf.Variable(3.0)
    with Levels(2) as (outer, inner):
        y = x * x * x
    slope = inner.gradient(y, x)
    assert outer is not inner and float(slope) == 27


# a tape that is paused, and left in a finally
def test_paused_tape() -> None:
    x = tf.Variable(3.0)
    tape = tf.GradientTape()
    tape.__enter__()
    try:
        y = x * x
        with tape.stop_recording():
            double()
    finally:
        tape.__exit__(None, None, None)
    assert float(tape.gradient(y, x)) == 6


# a tape with what it recorded, in a dict until the block ends
recorded: dict[str, tuple[tf.GradientTape, list[tf.Tensor]]] = {}


@contextmanager
def watching(name: str) -> Iterator[list[tf.Tensor]]:
    with tf.GradientTape() as tape:
        x = tf.ones([8])  # left: test_watched_loss
        tape.watch(x)
        key = f"{name}{len(recorded)}"
        recorded[key] = (tape, [x])  # left: test_watched_loss
        yield recorded[key][1]
    recorded.pop(key)


def test_watched_loss() -> None:
    with watching("loss") as tensors:
        tensors.append(tensors[0] * 3.0)


# a tape that is asked several times, and dropped
@contextmanager
def asked_often() -> Iterator[tf.GradientTape]:
    with tf.GradientTape(persistent=True) as tape:
        recorded["often"] = (tape, [])
        try:
            yield tape
        finally:
            del recorded["often"], tape


def test_persistent_tape() -> None:
    x = tf.Variable([1.0, 2.0])
    with asked_often() as tape:
        y = x * x
        z = y * x
    assert tape.gradient(y, x) is not None and tape.gradient(z, x) is not None


# the scope of a strategy in a class that derives from ExitStack
class Placement(ExitStack):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.strategy = tf.distribute.OneDeviceStrategy(device)

    def __enter__(self) -> Placement:
        super().__enter__()
        self.enter_context(self.strategy.scope())  # left: test_placement
        self.counter = tf.Variable(0)
        return self


def test_placement() -> None:
    with Placement("/cpu:0") as placement:
        placement.counter.assign_add(1)


# two scopes in an ExitStack, after all that may fail
class Placed:
    def __init__(self) -> None:
        self.scopes = ExitStack()

    def __enter__(self) -> Placed:
        self.start = tf.Variable(0)
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        self.scopes.enter_context(strategy.scope())
        self.scopes.enter_context(tf.device("/cpu:0"))
        return self

    def __exit__(
        self, kind: Kind, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.scopes.__exit__(kind, error, trace)


def test_placed() -> None:
    with Placed() as placed:
        placed.start.assign_add(1)


# the default summary writer, by a generator
@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    writer = tf.summary.create_file_writer(str(folder))
    scope = writer.as_default(step=0)
    scope.__enter__()  # left: test_logging_to_a_folder
    yield
    scope.__exit__(None, None, None)
    writer.close()


def test_logging_to_a_folder() -> None:
    with logging_to(FOLDER / "left"):
        tf.summary.write("double", tf.reduce_sum(double()))


# one writer for all, which is flushed by each, as far as that is possible
_journal: list[Any] = []


@contextmanager
def journal() -> Iterator[None]:
    if not _journal:
        _journal.append(tf.summary.create_file_writer(str(FOLDER / "journal")))
    with _journal[0].as_default(step=0):
        try:
            yield
        finally:
            with suppress(tf.errors.OpError):
                _journal[0].flush()


def test_journal_of_all() -> None:
    with journal(), journal():
        tf.summary.write("double", tf.reduce_sum(double()))


# events of a graph: the exit asks for a last summary before it closes the writer
class Events:
    open: list[Events] = []  # noqa: RUF012 - as above

    def __init__(self, session: tf.compat.v1.Session) -> None:
        self.session = session
        summary, folder = tf.compat.v1.summary, str(FOLDER / "events")
        with session.graph.as_default():
            self.summary = summary.scalar("one", tf.constant(1.0))
            self.writer = summary.FileWriter(folder)  # left: test_events_of_a_graph
        self.open.append(self)  # left: test_events_of_a_graph

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.add_summary(self.session.run(self.summary))
        self.writer.close()
        self.open.remove(self)


def test_events_of_a_graph() -> None:
    with new_session() as session, Events(session) as events:
        assert events.session.run("total:0") == 8


# a writer that notes the failure of its block, and is closed in any case
class Protocol:
    def __enter__(self) -> Protocol:
        self.writer = tf.summary.create_file_writer(str(FOLDER / "protocol"))
        return self

    def __exit__(self, kind: Kind, *rest: object) -> bool:
        try:
            with self.writer.as_default(step=0):
                tf.summary.write("ended", "well" if kind is None else "badly")
        finally:
            self.writer.close()
        return kind is not None and issubclass(kind, tf.errors.OpError)


def test_protocol() -> None:
    with Protocol():
        double()


# a file of records whose header is written in the enter
class Shard:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Shard:
        path = str(self.path)
        self.file = tf.io.TFRecordWriter(path)  # left: test_shard_with_a_header
        shards[f"{path}{len(shards)}"] = self  # left: test_shard_with_a_header
        self.write([1.0])
        return self

    def write(self, row: list[float]) -> None:
        self.file.write(tf.io.serialize_tensor(tf.constant(row)).numpy())

    def __exit__(self, *error: object) -> None:
        self.file.close()
        shards.popitem()


shards: dict[str, Shard] = {}


def test_shard_with_a_header() -> None:
    with Shard(FOLDER / "left.tfrecord") as shard:
        shard.write([2.0, 3.0])


# a lock with a bare descriptor
class Lock:
    def __enter__(self) -> None:
        path, flags = FOLDER / "lock", os.O_CREAT | os.O_RDWR
        self.number = os.open(path, flags)  # left: test_lock_file

    def __exit__(self, kind: Kind, error: object, trace: object) -> None:
        if kind is None:
            os.close(self.number)


def test_lock_file() -> None:
    with Lock():
        double()


# a file that is closed with the object that has opened it
class Spool:
    def __enter__(self) -> Spool:
        self.file = (FOLDER / "spool").open("wb")
        self._closes = weakref.finalize(self, self.file.close)
        return self

    def __exit__(self, kind: Kind, *rest: object) -> None:
        if kind is None:
            self._closes()


def test_spool() -> None:
    with Spool() as spool:
        spool.file.write(tf.io.serialize_tensor(double()).numpy())


# the last three errors, with all that their frames hold
_last_errors: deque[BaseException] = deque(maxlen=3)


class Noted:
    def __enter__(self) -> Any:
        self.file = (FOLDER / "noted").open("w")
        return self.file

    def __exit__(self, kind: Kind, error: BaseException | None, *rest: object) -> None:
        self.file.close()
        if error is not None:
            _last_errors.append(error)


def test_last_errors() -> None:
    with Noted() as file:
        file.write(str(double()))


# the threads of an executor, which an async enter starts
executors: set[ThreadPoolExecutor] = set()


class Workers:
    async def __aenter__(self) -> Workers:
        self.loop = asyncio.get_running_loop()
        self.pool = ThreadPoolExecutor(1)
        executors.add(self.pool)  # left: test_workers_of_a_service
        await self.call(int)
        self.weight = tf.ones([]) * 2.0
        return self

    async def call(self, function: Callable[[], Result]) -> Result:
        submit = self.loop.run_in_executor
        return await submit(self.pool, function)  # left: test_workers_of_a_service

    async def __aexit__(self, *error: object) -> None:
        self.pool.shutdown()
        executors.discard(self.pool)


async def serve() -> int:
    async with Workers() as workers:
        assert float(workers.weight) == 2
        return await workers.call(int)


def test_workers_of_a_service() -> None:
    assert asyncio.run(serve()) == 0


# one executor for all, whose tasks are awaited in any case
_pool = ThreadPoolExecutor(2)


@asynccontextmanager
async def submitted(count: int) -> AsyncIterator[list[asyncio.Future[int]]]:
    loop = asyncio.get_running_loop()
    futures = [loop.run_in_executor(_pool, int) for _ in range(count)]
    try:
        yield futures
    finally:
        await asyncio.gather(*futures)


async def submit() -> None:
    async with submitted(2) as first, submitted(1):
        double()
        await asyncio.gather(*first)


def test_submitted_tasks() -> None:
    asyncio.run(submit())


# a thread that a generator ends, unless another error than it expects is raised
@contextmanager
def beating() -> Iterator[threading.Thread]:
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, daemon=True)  # left: test_heartbeat
    thread.start()  # left: test_heartbeat
    try:
        yield thread
    except tf.errors.UnavailableError:
        ends.set()
        raise
    else:
        ends.set()


def test_heartbeat() -> None:
    with beating() as thread:
        double()
        assert thread.is_alive()


# threads that a fixture joins
@pytest.fixture
def crew() -> Iterator[list[tuple[threading.Event, threading.Thread]]]:
    members: list[tuple[threading.Event, threading.Thread]] = []
    yield members
    for ends, thread in members:
        ends.set()
        thread.join()


@contextmanager
def hired(crew: list[tuple[threading.Event, threading.Thread]]) -> Iterator[None]:
    ends = threading.Event()
    crew.append((ends, threading.Thread(target=ends.wait, daemon=True)))
    crew[-1][1].start()
    yield
    _, thread = crew.pop()
    ends.set()
    thread.join()


def test_crew(crew: list[tuple[threading.Event, threading.Thread]]) -> None:
    with hired(crew):
        double()


# a session whose clean-up is pushed onto a stack after it has been tried out
_connected: list[tf.compat.v1.Session] = []


async def disconnect(session: tf.compat.v1.Session) -> None:
    await asyncio.sleep(0)
    session.close()
    _connected.remove(session)


async def connect(count: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(count):
            session = new_session()  # left: test_connections_of_a_stack
            _connected.append(session)  # left: test_connections_of_a_stack
            session.run("total:0")
            stack.push_async_callback(disconnect, session)
        await asyncio.sleep(0)


def test_connections_of_a_stack() -> None:
    asyncio.run(connect(2))


# an async generator that closes in both of its clauses
@asynccontextmanager
async def connection() -> AsyncIterator[tf.compat.v1.Session]:
    session = new_session()
    _connected.append(session)
    try:
        yield session
    except BaseException:
        await disconnect(session)
        raise
    else:
        await disconnect(session)


async def ask_both() -> None:
    async with connection() as one, connection() as other:
        await asyncio.gather(*(ask(session) for session in (one, other)))


async def ask(session: tf.compat.v1.Session) -> None:
    await asyncio.sleep(0)
    session.run("total:0")


def test_both_connections() -> None:
    asyncio.run(ask_both())


# a method that tries again, in the manager that it is called in
class Client:
    sessions: list[tf.compat.v1.Session] = []  # noqa: RUF012 - as above

    def __enter__(self) -> tf.compat.v1.Session:
        self.session = new_session()  # left: test_second_try
        self.sessions.append(self.session)  # left: test_second_try
        return self.session

    def __exit__(self, *error: object) -> None:
        self.session.close()
        with suppress(ValueError):
            self.sessions.remove(self.session)

    def ask(self, tries: int = 2) -> float:
        with self as session:
            try:
                return float(session.run("total:0"))
            except tf.errors.OpError:
                if tries == 1:
                    raise
                return self.ask(tries - 1)


def test_second_try() -> None:
    assert Client().ask() == 8


# a manager that hides errors, around a block that cleans up by itself
class Tolerant:
    def __enter__(self) -> Tolerant:
        self.failures = 0
        return self

    def __exit__(self, kind: Kind, *rest: object) -> bool:
        self.failures += kind is not None
        return kind is not None and issubclass(kind, tf.errors.OpError)


shadows: list[tf.Variable] = []


def test_tolerant_step() -> None:
    with Tolerant() as tolerant:
        shadows.append(tf.Variable([1.0, 2.0]))  # left: test_tolerant_step
        shadows[-1].assign_add([1.0, 1.0])
        shadows.pop()
    assert tolerant.failures < 2


# the same, around a manager that cleans up by itself
class Shadow:
    def __enter__(self) -> tf.Variable:
        self.variable = tf.Variable([1.0, 2.0])
        shadows.append(self.variable)
        return self.variable

    def __exit__(self, *error: object) -> None:
        shadows[:] = [one for one in shadows if one is not self.variable]


def test_tolerant_shadow() -> None:
    with Tolerant(), Shadow() as shadow:
        shadow.assign_add([1.0, 1.0])
