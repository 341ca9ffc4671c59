"""Causes outside of Python's objects: threads, files, processes, native memory.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import Evidence
from pytest_tfleak.diagnosis.roots import THREADS

_EXECUTORS = (
    "concurrent.futures.thread.ThreadPoolExecutor",
    "concurrent.futures.process.ProcessPoolExecutor",
    "multiprocessing.pool.Pool",
    "multiprocessing.pool.ThreadPool",
)
_POOLS = ("ThreadPoolExecutor-", "ProcessPoolExecutor-", "_handle_workers")
_COORDINATED = (
    "queue_runner_impl.QueueRunner",
    "coordinator.Coordinator",
    "coordinator.LooperThread",
)
_WRITERS = (
    *("SummaryWriter", "EventFileWriter", "EventFileWriterV2", "EventsWriter"),
    *("_EventLoggerThread", "writer.FileWriter"),
)
_LIBRARIES = ("tensorflow.", "tensorboard", "torch.")
_FILES = ("file_io.FileIO", "gfile.GFile")
#: Calls of a session's that it may keep something of.
_RUNS = re.compile(
    r"""(?i)(\bs|\w*sess(ion)?)['")\]]*\.run\("""
    r"|\.(partial_run|partial_run_setup|make_callable)\("
)
#: What runs the operations of a graph, a single eager one aside.
_EXECUTED = ("DirectSession", "ExecutorState::Process")
_MEMORY = frozenset(
    {
        "gpu.allocator",
        "gpu.process",
        "host.allocator",
        "host.heap",
        "host.rss",
        "process.children.rss",
        "python.blocks",
    }
)


def _is_pool(e: Evidence) -> bool:
    if e.clues & set(_EXECUTORS) or e.holds(*_EXECUTORS):
        return True
    return e.has("process.threads") and any(name in e.what for name in _POOLS)


def _is_queue_runner(e: Evidence) -> bool:
    threads = "process.threads" in e.failing
    return threads and (e.holds(*_COORDINATED) or "QueueRunnerThread" in e.what)


def _is_thread(e: Evidence) -> bool:
    if e.path.startswith(THREADS) and "threading.Thread" in e.clues:
        return True  # it is new, and it runs
    # a thread of before may keep something, and a thread that has ended may be kept
    is_through = "threading.Thread" in e.clues or " in thread " in e.path
    if is_through and "process.threads" in e.failing:
        return True
    # TensorFlow's own threads belong to the session or the iterator that leaks
    is_own = "native thread" in e.what and any(s.startswith("tf.") for s in e.failing)
    return e.has("process.threads") and not is_own


def _is_writer(e: Evidence) -> bool:
    named = (name for name in (e.held, *e.members) if name.startswith(_LIBRARIES))
    return any(name.endswith(_WRITERS) for name in named) or "tfevents" in e.what


def _is_file(e: Evidence) -> bool:
    is_open = "process.fds" in e.failing and e.holds("_io.FileIO")
    return e.has("process.fds") or is_open or e.holds(*_FILES)


def _is_in_session(e: Evidence) -> bool:
    executed = any(name in f for f in e.native for name in _EXECUTED)
    return _is_memory(e) and (executed or _RUNS.search(e.line) is not None)


def _is_memory(e: Evidence) -> bool:
    return bool(e.signals) and e.signals <= _MEMORY and not e.held


CAUSES = (
    Cause(
        slug="queue-runner-threads",
        explains="Queue runners were started and never stopped. Each of their threads "
        "keeps its session and its graph.",
        remedy="Stop them in a `finally`: `coordinator.request_stop()`, "
        "`coordinator.join(threads)`, then `session.close()`; or use tf.data.",
        rule=_is_queue_runner,
    ),
    Cause(
        slug="executor-not-shut-down",
        explains="Each call makes a pool of threads or processes that nobody shuts "
        "down. Its workers wait for ever, and keep what they were last given.",
        remedy="Use a with statement: `with ThreadPoolExecutor() as pool: "
        "pool.map(f, items)`; or make one pool and call `pool.shutdown()` at the end.",
        rule=_is_pool,
    ),
    Cause(
        slug="summary-writer-not-closed",
        explains="Each call makes a summary writer that nobody closes. It keeps its "
        "event file open, and a buffer for it.",
        remedy="Close it in a `finally`: `writer.close()`; or make one writer and use "
        "it with `writer.as_default(step=step)`.",
        rule=_is_writer,
    ),
    Cause(
        slug="thread-never-joined",
        explains="Each call starts a thread that does not end. It keeps its arguments "
        "and its local variables.",
        remedy="Tell it to stop and wait for it: `queue.put(None)` or `stop.set()`, "
        "then `thread.join()`, in a `finally`.",
        rule=_is_thread,
    ),
    Cause(
        slug="process-never-joined",
        explains="Each call starts a child process that does not end or is not waited "
        "for.",
        remedy="Wait for it: `with subprocess.Popen(command) as process: ...`; "
        "`process.terminate()`, then `process.join()`, in a `finally`.",
        rule=lambda e: e.has("process.children"),
    ),
    Cause(
        slug="file-not-closed",
        explains="Each call opens a file, a socket or a pipe, and nobody closes it.",
        remedy="Use a with statement: `with open(path) as file: ...`, `with "
        "tf.io.gfile.GFile(path) as file: ...`, `with socket.create_connection(...) "
        "as connection: ...`; close the bare number that `os.open()` returns in a "
        "`finally`: `os.close(fd)`.",
        rule=_is_file,
    ),
)

OF_MEMORY = (
    Cause(
        slug="session-keeps-data",
        explains="What a session was given stays inside of it: elements of a queue "
        "that nobody takes out, tensors behind a session handle, a partial_run that "
        "is not finished, a program for each new list of fetches.",
        remedy="Take out as much as you put in; delete handles: `handle.delete()`; "
        "finish each partial_run; fetch the same list each time; or close the session "
        "and open a new one now and then.",
        rule=_is_in_session,
    ),
    Cause(
        slug="small-objects-pile-up",
        explains="Small Python objects pile up that the garbage collector does not "
        "list: text, numbers, entries of a dict or set. Or C code got them and does "
        "not give them back.",
        remedy="Look for what gets longer without an end: a counter by name, a cache, "
        "a list of numbers. Give it one: `functools.lru_cache(maxsize=1000)`, "
        "`collections.deque(maxlen=1000)`, or `clear()` it.",
        rule=lambda e: (
            (_is_memory(e) and e.is_searched)
            and (e.is_of_blocks or e.signals == {"python.blocks"})
        ),
    ),
    Cause(
        slug="native-memory",
        explains="Memory grows that no Python object explains: C or C++ code allocates "
        "it and does not free it.",
        remedy="Look at the line and the C++ functions below it, if they are named "
        "(`pip install pytest-tfleak[native]` names them); free by the API what it "
        "made: `close()`, `delete()`; then report it to the library.",
        rule=lambda e: _is_memory(e) and e.is_searched,
    ),
)
