"""What a process has open, and which threads it runs: readable, before and after.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pytest_tfleak.diagnosis.folding import clip
from pytest_tfleak.diagnosis.folding import fold_names
from pytest_tfleak.diagnosis.python_details import address_text
from pytest_tfleak.diagnosis.python_details import socket_family
from pytest_tfleak.diagnosis.python_details import thread_target
from pytest_tfleak.units import format_count

_RAREST = 0.09  # per iteration: one of every tenth iteration is shown
_SHOWN = 3  # names in one message
_DESCRIPTORS = Path("/proc/self/fd")
_TASKS = Path("/proc/self/task")


def open_descriptors() -> dict[int, str]:
    """Return what each open descriptor refers to; what is not known is left out."""
    found = _files() if _DESCRIPTORS.is_dir() else _files_by_psutil()
    found.update(_sockets())
    return found


def threads_now() -> dict[int, str]:
    """Return each thread's name and target by the system's id.

    Native threads, which Python does not know, are named as the system names them.
    """
    found = {}
    for thread in threading.enumerate():
        if thread.native_id is not None:
            target = thread_target(thread)
            running = f" running {target}" if target else ""
            found[thread.native_id] = f"{thread.name}{running}"
    for number, name in _native_threads().items():
        found.setdefault(number, name)
    return found


def new_descriptors(
    before: Mapping[int, str], after: Mapping[int, str], iterations: int
) -> str | None:
    """Return what was opened and not closed, ``1 per iteration: /tmp/run-*/log``."""
    return _describe_new(before, after, iterations)


def new_threads(
    before: Mapping[int, str], after: Mapping[int, str], iterations: int
) -> str | None:
    """Return the threads that did not end, ``1 per iteration: worker-* running f``."""
    return _describe_new(before, after, iterations)


def _describe_new(
    before: Mapping[int, str], after: Mapping[int, str], iterations: int
) -> str | None:
    # by name, not by number: what is closed and opened again gets another number
    new = Counter(after.values())
    new.subtract(Counter(before.values()))
    counts = fold_names(new.elements())
    again = {name: count for name, count in counts.items() if count > 1}
    rates = [
        (count / iterations, name)
        for name, count in (again or counts).items()  # one may be anybody's
        if count / iterations >= _RAREST
    ]
    rates.sort(key=lambda item: (-item[0], item[1]))
    if not rates:
        return None
    if len(rates) == 1:
        rate, name = rates[0]
        return f"{format_count(rate)} per iteration: {clip(name)}"
    words = [f"{format_count(rate)} {clip(name)}" for rate, name in rates[:_SHOWN]]
    return ", ".join(words + ["…"] * (len(rates) > _SHOWN)) + " per iteration"


def _files() -> dict[int, str]:
    found = {}
    for entry in _DESCRIPTORS.iterdir():
        with suppress(OSError, ValueError):  # the listing's own is closed by now
            found[int(entry.name)] = _readable(str(entry.readlink()))
    return found


def _readable(target: str) -> str:
    if target.startswith("anon_inode:"):
        return target.removeprefix("anon_inode:").strip("[]")
    kind, colon, inode = target.partition(":[")
    if colon and inode.endswith("]"):
        return kind  # a pipe or a socket: its inode tells a reader nothing
    return target


def _files_by_psutil() -> dict[int, str]:
    import psutil

    with suppress(psutil.Error, OSError):
        return {file.fd: file.path for file in psutil.Process().open_files()}
    return {}


def _sockets() -> dict[int, str]:
    import psutil

    found = {}
    with suppress(psutil.Error, OSError):
        for connection in psutil.Process().net_connections(kind="all"):
            ends = map(address_text, (connection.laddr, connection.raddr))
            family = socket_family(connection.family, connection.type)
            words = f"{family} socket {' → '.join(filter(None, ends))}".strip()
            if connection.fd >= 0:
                found[connection.fd] = words
    return found


def _native_threads() -> dict[int, str]:
    if sys.platform == "linux":
        names = {}
        for task in _TASKS.iterdir():
            with suppress(OSError, ValueError):  # it ended meanwhile
                name = (task / "comm").read_text(errors="replace").strip()
                names[int(task.name)] = name
        process = names.get(os.getpid())  # what a thread without a name is called
        return {
            number: "unnamed native thread"
            if name == process
            else f"native thread {name}"
            for number, name in names.items()
        }
    import psutil

    with suppress(psutil.Error, OSError):
        return {t.id: "unnamed native thread" for t in psutil.Process().threads()}
    return {}
