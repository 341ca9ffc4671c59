"""Causes in Python's own objects and the standard library."""

from __future__ import annotations

from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.cause import Priority
from pytest_tfleak.diagnosis.causes.limits import is_in_cache
from pytest_tfleak.diagnosis.causes.pools import is_pool
from pytest_tfleak.diagnosis.causes.resources import is_in_logger
from pytest_tfleak.diagnosis.causes.resources import is_log_filter
from pytest_tfleak.object_facts import TASKS
from pytest_tfleak.retaining_path import DEFAULT
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import EXCEPTION_ARGUMENTS
from pytest_tfleak.retaining_path import Step

#: Objects in which the event loop keeps a task that waits.
_HANDLES = ("asyncio.events.Handle", "asyncio.events.TimerHandle")
_GENERATORS = (
    *("builtins.generator", "builtins.coroutine", "builtins.async_generator"),
)
#: Modules that AutoGraph generates, and those that keep them.
_AUTOGRAPH = ("__autograph_generated_file", "tensorflow.python.autograph.")
_LOADER = "tensorflow.python.autograph.pyct.loader."
#: Types of older objects that keep more after each call.
_TEES = ("itertools._tee", "itertools._tee_dataobject")
_MOCKS = ("unittest.mock._CallList",)
_PICKLERS = ("_pickle.Pickler", "pickle._Pickler")
#: Types of new objects, one for each call.
_PROCESS_QUEUES = ("multiprocessing.queues.Queue",)
_SEGMENTS = ("multiprocessing.shared_memory.SharedMemory",)
_LOOPS = ("asyncio.events.AbstractEventLoop",)
_TIMERS = ("threading.Timer",)
_FUTURES = ("concurrent.futures._base.Future",)
_TOKENS = ("_contextvars.Token",)
_DIRECTORIES = ("tempfile.TemporaryDirectory",)


def _is_at_exit(e: Evidence) -> bool:
    if is_compiled(e):
        return False
    is_registered = "atexit.register" in e.line
    return e.root.kind == "atexit" or (e.root.kind == "native" and is_registered)


def is_compiled(e: Evidence) -> bool:
    """Return whether code that each call compiles or imports is kept."""
    # AutoGraph registers a function that removes the file of each copy
    is_removal = any(name.startswith(_LOADER) for name in e.functions)
    if e.root.kind == "atexit" and is_removal and "atexit.register" not in e.line:
        return True
    is_copy = e.root.kind == "module" and e.root.name.startswith(_AUTOGRAPH)
    return e.held == "builtins.module" or is_copy


def _is_of_exception(e: Evidence) -> bool:
    return e.adds(EXCEPTION) or any(path.root.kind == "exception" for path in e.paths)


def _is_logger(e: Evidence) -> bool:
    is_by_name = any(s.name == "loggerDict" for path in e.paths for s in path.steps)
    return is_by_name and e.adds("logging.Logger")


def _is_in_logger(e: Evidence) -> bool:
    return e.adds("logging.Handler") and any(map(is_in_logger, e.paths))


def _is_log_filter(e: Evidence) -> bool:
    return any(map(is_log_filter, e.paths))


def _is_cached(e: Evidence) -> bool:
    is_listed = any(step.container == "lru_cache" for step in _growing(e))
    # what the collector does not list makes its dict a value that grows
    return is_listed or is_in_cache(e.path)


def _growing(e: Evidence) -> list[Step]:
    """Return the steps of all paths whose containers grow."""
    steps = e.holder.steps if e.holder is not None else ()
    return [step for step in steps if step.size is not None]


def _is_weakly_keyed(e: Evidence) -> bool:
    # TensorFlow itself keeps the tf.functions of a decorated method in such a dict
    is_functions = bool(e.retrace) or e.has("tf.traces", "tf.functions")
    is_growing = e.goes_through("weakref.WeakKeyDictionary") and any(
        step.name == "data" and step.container == "dict" for step in _growing(e)
    )
    return is_growing and not (is_functions or e.is_in_library)


def _is_task(e: Evidence) -> bool:
    return e.adds(*TASKS) or (e.held in _HANDLES and e.holds(*TASKS))


def _is_generator(e: Evidence) -> bool:
    # the scope of a session or graph is a generator, too
    is_scope = e.has("tf.graph_stack", "tf.session_stack")
    return e.adds(*_GENERATORS) and not is_scope


def _is_default(e: Evidence) -> bool:
    return e.path is not None and any(s.kind == DEFAULT for s in e.path.steps)


def _is_parameter(e: Evidence) -> bool:
    path = e.path
    if path is None or path.root.kind != "parameter" or not path.steps:
        return False
    return path.steps[0].size is not None


def _is_finalizer(e: Evidence) -> bool:
    return e.path is not None and e.path.starts_with("weakref.finalize._registry")


def _is_queue(e: Evidence) -> bool:
    if is_pool(e):  # its queues go with it
        return False
    feeds = any("QueueFeederThread" in thread.name for thread in e.threads)
    return not e.has("process.children") and (e.adds(*_PROCESS_QUEUES) or feeds)


def _is_segment(e: Evidence) -> bool:
    return e.adds(*_SEGMENTS) or any("/dev/shm/psm_" in name for name in e.files)


CAUSES = (
    Cause(
        slug="atexit-keeps-callback",
        priority=Priority.HELD_THROUGH,
        explains="Each call registers a function with atexit. Python keeps it, its "
        "arguments and the object that it belongs to until the process ends.",
        remedy="Unregister it when done: {unregister}; or register once, at module "
        "level; or clean up in a with statement.",
        rule=_is_at_exit,
    ),
    Cause(
        slug="exception-keeps-arguments",
        priority=Priority.HELD_THROUGH,
        explains="An exception or warning is kept. It keeps its arguments and "
        "attributes.",
        remedy="Keep {error_text}, not the exception; raise it with numbers and "
        "names, not tensors.",
        rule=lambda e: e.adds(EXCEPTION_ARGUMENTS),
    ),
    Cause(
        slug="exception-keeps-frame",
        priority=Priority.HELD_THROUGH,
        explains="An exception is kept, and its traceback keeps the variables of every "
        "function that it came through.",
        remedy="{raise_again}; keep {error_text}, not the exception; or drop the "
        "traceback first: `{error}.with_traceback(None)`.",
        rule=_is_of_exception,
    ),
    Cause(
        slug="logger-made-in-loop",
        priority=Priority.HELD_THROUGH,
        explains="Each call makes a logger of a new name. Python keeps every logger "
        "that it has made by name, with its handlers and what they keep.",
        remedy="Make one that Python does not keep: {unnamed_logger}; or use one "
        "logger, and put what differs into the message.",
        rule=_is_logger,
    ),
    Cause(
        slug="log-record-keeps-arguments",
        priority=Priority.HELD_THROUGH,
        explains="A log handler keeps the records, and a record keeps the arguments of "
        "its message.",
        remedy="Keep {record_text} in the handler, not the record; log numbers and "
        "text, not tensors.",
        rule=lambda e: e.adds("logging.LogRecord"),
    ),
    Cause(
        slug="handler-not-removed",
        priority=Priority.HELD_THROUGH,
        explains="Each call adds a handler to a logger, and nothing removes it. "
        "{handler_keeps}.",
        remedy="{close}; or add it once, at module level.",
        rule=_is_in_logger,
    ),
    Cause(
        slug="log-filter-not-removed",
        priority=Priority.HELD_THROUGH,
        explains="Each call adds a filter to a logger or to a log handler, and nothing "
        "removes it. It sees each later record once more, and keeps what it refers to.",
        remedy="{remove_filter}; or add one at module level, and hand it what differs "
        "with each record: `extra={...}`.",
        rule=_is_log_filter,
    ),
    Cause(
        slug="lru-cache-keeps-arguments",
        priority=Priority.HELD_THROUGH,
        explains="A function with functools.lru_cache or cache keeps its arguments and "
        "results, self included. Objects that are new in each call never hit it.",
        remedy="Empty it when you are done: `{container}.cache_clear()`; or set a "
        "`maxsize`; or cache by a plain key: a name, a number or a tuple of these.",
        rule=_is_cached,
    ),
    Cause(
        slug="weak-dict-value-keeps-key",
        priority=Priority.HELD_THROUGH,
        explains="An entry of a WeakKeyDictionary goes when its key is freed. Here the "
        "value refers to the key, so neither is ever freed.",
        remedy="Let the value refer to the key weakly: {weakly}; or make the value an "
        "attribute of the key.",
        rule=_is_weakly_keyed,
    ),
    Cause(
        slug="task-never-ended",
        priority=Priority.HELD_THROUGH,
        explains="Each call starts an asyncio task that waits forever, or that "
        "something keeps after it is done. A task keeps its local variables and its "
        "result.",
        remedy="{end_task}; or wait for it in an `asyncio.TaskGroup`.",
        rule=_is_task,
    ),
    Cause(
        slug="generator-suspended",
        priority=Priority.HELD_THROUGH,
        explains="A generator or coroutine was started and not finished. As long as "
        "something keeps it, it keeps its local variables.",
        remedy="{close}; use it in a with statement: {closing}.",
        rule=_is_generator,
    ),
    Cause(
        slug="default-argument-grows",
        priority=Priority.PYTHON,
        explains="The default value of an argument is made once, when the function is "
        "defined. All calls share that list or dict, and it grows.",
        remedy="Make it in the call: {default}; or have the caller pass one.",
        rule=_is_default,
    ),
    Cause(
        slug="parameter-grows",
        priority=Priority.PYTHON,
        explains="A value that `parametrize` made once is the same object in all "
        "calls. Each call adds to {holder}.",
        remedy="Give the test a copy, in its first line: {copy_parameter}; or let the "
        "parameter be what makes it, and call that in the test.",
        rule=_is_parameter,
    ),
    Cause(
        slug="directory-not-removed",
        priority=Priority.PYTHON,
        explains="Each call makes a temporary directory and keeps the object, so that "
        "neither is ever removed.",
        remedy="{close}; use a with statement: `with tempfile.TemporaryDirectory() as "
        "path: ...`.",
        rule=lambda e: e.adds(*_DIRECTORIES),
    ),
    Cause(
        slug="finalizer-keeps-arguments",
        priority=Priority.PYTHON,
        explains="A weakref.finalize keeps its function and arguments until the object "
        "is freed. Here the object stays, or an argument refers to it.",
        remedy="{detach}; pass names and numbers as arguments, never the object "
        "itself.",
        rule=_is_finalizer,
    ),
    Cause(
        slug="iterator-falls-behind",
        priority=Priority.PYTHON,
        explains="The iterators of itertools.tee keep each item until all of them have "
        "read it. One of them is read more slowly or not at all.",
        remedy="Read both in step: `for x, y in zip({tees}): ...`; delete an iterator "
        "that is not needed; or make the items twice, once for each.",
        rule=lambda e: e.goes_through(*_TEES),
    ),
    Cause(
        slug="mock-keeps-calls",
        priority=Priority.PYTHON,
        explains="A mock records each call, and so keeps its arguments.",
        remedy="Reset it after each step: `{mock}.reset_mock()`; or use a plain "
        "function instead.",
        rule=lambda e: e.goes_through(*_MOCKS),
    ),
    Cause(
        slug="pickler-keeps-objects",
        priority=Priority.PYTHON,
        explains="A Pickler keeps each object that it has written, so that it can "
        "write a reference the next time.",
        remedy="Clear its memo after each record: `{pickler}.clear_memo()`; or use "
        "`pickle.dump()`, which makes a new Pickler each time.",
        rule=lambda e: e.goes_through(*_PICKLERS),
    ),
    Cause(
        slug="queue-not-closed",
        priority=Priority.PYTHON,
        explains="Each call makes a multiprocessing queue that is never closed. It has "
        "a pipe, and a thread that feeds it.",
        remedy="{close}; {close_queue}; or make one queue before the loop.",
        rule=_is_queue,
    ),
    Cause(
        slug="timer-not-cancelled",
        priority=Priority.PYTHON,
        explains="Each call starts a threading.Timer that is never cancelled. Until it "
        "fires, it is a thread that keeps its arguments.",
        remedy="{close}.",
        rule=lambda e: "process.threads" in e.failing and e.adds(*_TIMERS),
    ),
    Cause(
        slug="event-loop-not-closed",
        priority=Priority.PYTHON,
        explains="Each call makes an asyncio event loop that is never closed. It has a "
        "selector and two sockets, and keeps all scheduled callbacks.",
        remedy="{close}; or use `asyncio.run(main())`, which closes its loop.",
        rule=lambda e: "process.fds" in e.failing and e.adds(*_LOOPS),
    ),
    Cause(
        slug="shared-memory-left",
        priority=Priority.PYTHON,
        explains="Each call makes a segment of shared memory. It stays open until "
        "close(), and in the system until unlink().",
        remedy="{close}.",
        rule=_is_segment,
    ),
    Cause(
        slug="future-kept",
        priority=Priority.RESULTS,
        explains="The Future of each call is kept after it is done. A Future keeps its "
        "result, or its error with the traceback.",
        remedy="{end_future}; or keep only the numbers that you need from its "
        "`result()`.",
        rule=lambda e: e.adds(*_FUTURES),
    ),
    Cause(
        slug="context-token-kept",
        priority=Priority.RESULTS,
        explains="Each call sets a context variable and keeps the token. A token keeps "
        "the value that the variable had before.",
        remedy="{reset_variable}; keep no token.",
        rule=lambda e: e.adds(*_TOKENS),
    ),
)
