"""Causes outside of Python objects: threads, files, processes, native memory."""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.cause import Priority
from pytest_tfleak.diagnosis.causes.pools import is_pool
from pytest_tfleak.diagnosis.causes.resources import find_opened

_THREAD = "threading.Thread"
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
#: Calls of a session's methods from which it may keep something.
_RUNS = re.compile(
    r"""(?i)(\bs|\w*sess(ion)?)['")\]]*\.run\("""
    r"|\.(partial_run|partial_run_setup|make_callable)\("
)
#: C++ functions that run the operations of a graph, but not single eager operations.
_EXECUTED = ("DirectSession", "ExecutorState::Process")


def _is_running_pool(e: Evidence) -> bool:
    if e.failing.isdisjoint(("process.threads", "process.children")):
        return False  # one that is kept after it was shut down has no workers
    return is_pool(e)


def _is_queue_runner(e: Evidence) -> bool:
    threads = "process.threads" in e.failing
    return threads and (e.holds(*_COORDINATED) or _has_thread(e, "QueueRunnerThread"))


def _has_thread(e: Evidence, *names: str) -> bool:
    """Return whether the name of a thread that does not end contains one of these."""
    return any(name in thread.name for thread in e.threads for name in names)


def _is_thread(e: Evidence) -> bool:
    if e.root.kind == "threads" and e.adds(_THREAD):
        return True  # new threads that still run
    # an older thread may keep objects, and a thread that has ended may be kept
    is_through = e.adds(_THREAD) or bool(e.root.thread)
    if is_through and "process.threads" in e.failing:
        return True
    # TensorFlow's own threads belong to the session or the iterator that leaks
    has_native = any(thread.is_native for thread in e.threads)
    is_own = has_native and any(signal.startswith("tf.") for signal in e.failing)
    return e.has("process.threads") and not (is_own or _is_of_an_object(e))


def _is_of_an_object(e: Evidence) -> bool:
    """Return whether an object that is kept runs threads that Python did not start."""
    is_kept = bool(e.held) and not e.is_native
    return is_kept and bool(e.threads) and all(t.is_native for t in e.threads)


def _is_writer(e: Evidence) -> bool:
    named = (name for name in e.types if name.startswith(_LIBRARIES))
    is_event_file = any("tfevents" in name for name in e.files)
    return any(name.endswith(_WRITERS) for name in named) or is_event_file


def _is_file(e: Evidence) -> bool:
    is_open = "process.fds" in e.failing and e.holds("_io.FileIO")
    is_own = e.has("process.fds") and not _is_of_an_object(e)  # its sockets go with it
    return is_own or is_open or e.holds(*_FILES) or _is_kept_open(e)


def _is_kept_open(e: Evidence) -> bool:
    """Return whether something is put away that has to be closed."""
    opened = find_opened(e.holder)
    if opened is None or not opened.is_put_away_itself or opened.resource.has_cause:
        return False
    return "process.fds" in e.failing  # its type alone does not say that it is open


def _is_in_session(e: Evidence) -> bool:
    executed = any(name in f for f in e.native for name in _EXECUTED)
    return _is_memory(e) and (executed or _RUNS.search(e.line) is not None)


def _is_memory(e: Evidence) -> bool:
    return e.is_memory and not e.held


CAUSES = (
    Cause(
        slug="queue-runner-threads",
        priority=Priority.SYSTEM,
        explains="Queue runners were started and never stopped. Each of their threads "
        "keeps its session and its graph.",
        remedy="Stop them in a `finally`: `coordinator.request_stop()`, "
        "`coordinator.join(threads)`, then `session.close()`; or use tf.data.",
        rule=_is_queue_runner,
    ),
    Cause(
        slug="executor-not-shut-down",
        priority=Priority.SYSTEM,
        explains="Each call makes a pool of threads or processes that is never shut "
        "down. Its workers wait forever, and keep the last objects they were given.",
        remedy="{end_pool}; or make one pool before the loop, and share it.",
        rule=_is_running_pool,
    ),
    Cause(
        slug="summary-writer-not-closed",
        priority=Priority.SYSTEM,
        explains="Each call makes a summary writer that is never closed. It keeps its "
        "event file open, and a buffer for it.",
        remedy="Close it in a `finally`: `{object}.close()`; take it out of {holder}: "
        "{limit}; or make one writer before the loop, and share it.",
        rule=_is_writer,
    ),
    Cause(
        slug="thread-never-joined",
        priority=Priority.SYSTEM,
        explains="Each call starts a thread that does not end. It keeps its arguments "
        "and its local variables.",
        remedy="{end_thread}.",
        rule=_is_thread,
    ),
    Cause(
        slug="process-never-joined",
        priority=Priority.SYSTEM,
        explains="Each call starts a child process that does not end or is not waited "
        "for.",
        remedy="{close}.",
        rule=lambda e: e.has("process.children"),
    ),
    Cause(
        slug="file-not-closed",
        priority=Priority.SYSTEM,
        explains="Each call opens {opened} that is never closed.",
        remedy="{close}; {descriptor}.",
        rule=_is_file,
    ),
    Cause(
        slug="session-keeps-data",
        priority=Priority.MEMORY,
        explains="A session keeps what it was given: elements of a queue that are "
        "never taken out, tensors behind a session handle, a partial_run that is not "
        "finished, a program for each new list of fetches.",
        remedy="{let_go}.",
        rule=_is_in_session,
    ),
    Cause(
        slug="small-objects-pile-up",
        priority=Priority.MEMORY,
        explains="Small Python objects pile up that the garbage collector does not "
        "list: text, numbers, entries of a dict or set. Or C code has a reference to "
        "them that it never drops.",
        remedy="",
        rule=lambda e: (
            (_is_memory(e) and e.is_searched)
            and (e.is_of_blocks or e.signals == {"python.blocks"})
        ),
    ),
    Cause(
        slug="native-memory",
        priority=Priority.MEMORY,
        explains="Memory grows that no Python object explains: C or C++ code allocates "
        "it and does not free it.",
        remedy="",
        rule=lambda e: _is_memory(e) and e.is_searched,
    ),
)
