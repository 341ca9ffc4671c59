"""Find the pool that a thread or a process works for.

A worker ends when its pool is shut down, so what holds the pool is the cause, though
the interpreter has a table of running threads, and one of child processes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.probes.census import mro_of

#: Attributes of a pool, or of the thread that runs one, and of what they refer to in
#: turn, which lead to its workers.
_WORKERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "concurrent.futures.thread.ThreadPoolExecutor": (("_threads",),),
    "concurrent.futures.process.ProcessPoolExecutor": (("_executor_manager_thread",),),
    "concurrent.futures.process._ExecutorManagerThread": (
        ("processes",),
        ("call_queue", "_thread"),  # feeds the queue
    ),
    "multiprocessing.pool.Pool": (
        *(("_worker_handler",), ("_task_handler",), ("_result_handler",)),
        ("_pool",),
    ),
}


def pools_by_worker(objects: Iterable[Any]) -> dict[int, Any]:
    """Return the pool among some objects that each worker belongs to, by its id."""
    return {
        id(worker): pool
        for pool in objects
        for attributes in _attributes_of(type(pool))
        for worker in _workers(pool, attributes)
    }


def _attributes_of(cls: type) -> tuple[tuple[str, ...], ...]:
    rows = (_WORKERS.get(full_name(base)) for base in mro_of(cls))
    return next(filter(None, rows), ())


def _workers(pool: Any, attributes: tuple[str, ...]) -> Iterator[Any]:
    found = pool
    for attribute in attributes:
        found = read_field(found, attribute)
    if is_exactly(found, dict):
        yield from list(dict.values(found))
    elif is_exactly(found, list, set):
        yield from list(found)
    elif found is not None:
        yield found
