"""What shows that a leak is a pool of threads or processes, and of which type.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.causes.cause import Evidence

#: How to end a pool, by the full name of its type.
ENDS = {
    "concurrent.futures.thread.ThreadPoolExecutor": "shutdown",
    "concurrent.futures.process.ProcessPoolExecutor": "shutdown",
    "multiprocessing.pool.Pool": "close",
    "multiprocessing.pool.ThreadPool": "close",
}
_THREADS, _PROCESSES, _POOL, _THREAD_POOL = ENDS
#: The thread of a ProcessPoolExecutor. Its name is that of any thread.
_MANAGER = "concurrent.futures.process._ExecutorManagerThread"
#: A call that makes a pool.
_MADE = re.compile(rf"\b({'|'.join(re.escape(n.rpartition('.')[2]) for n in ENDS)})\(")
_WORKER, _HANDLER = "ThreadPoolExecutor-", "_handle_workers"  # in names of threads


def is_pool(e: Evidence) -> bool:
    """Return whether the objects or threads are those of a pool."""
    if e.adds(*ENDS, _MANAGER) or e.holds(*ENDS):
        return True
    return e.has("process.threads") and any(
        [_is_named(e, _WORKER), _is_named(e, _HANDLER), _runs_manager(e)]
    )


def type_of_pool(e: Evidence) -> str:
    """Return the full name of a pool's type, "" if the evidence fits several."""
    # a ThreadPool is a Pool, too
    for name in (_THREAD_POOL, _POOL, _PROCESSES, _THREADS):
        if e.adds(name) or name in e.types:
            return name
    if e.adds(_MANAGER) or _runs_manager(e):
        return _PROCESSES
    if _is_named(e, _WORKER):
        return _THREADS
    if _is_named(e, _HANDLER) and "process.children" in e.failing:
        return _POOL
    made = _MADE.search(e.line)
    return next((name for name in ENDS if made and name.endswith(f".{made[1]}")), "")


def end_of_pool(e: Evidence) -> str:
    """Return the method that ends a pool."""
    kind = type_of_pool(e) or (_POOL if _is_named(e, _HANDLER) else _THREADS)
    return ENDS[kind]


def _runs_manager(e: Evidence) -> bool:
    return any(thread.target.startswith(_MANAGER) for thread in e.threads)


def _is_named(e: Evidence, name: str) -> bool:
    return any(name in thread.name for thread in e.threads)
