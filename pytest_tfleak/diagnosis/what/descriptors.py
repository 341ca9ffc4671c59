"""List the open descriptors and the running threads of the process, by name.

Compare them before and after some iterations.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TypeVar

from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.safe_read import read_text
from pytest_tfleak.diagnosis.what.python_objects import address_text
from pytest_tfleak.diagnosis.what.python_objects import socket_family
from pytest_tfleak.diagnosis.what.python_objects import thread_target
from pytest_tfleak.object_facts import fold_name
from pytest_tfleak.object_facts import fold_names
from pytest_tfleak.object_facts import rates_of
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.user_code import users_frames
from pytest_tfleak.verdict import Origin

T = TypeVar("T")

_DESCRIPTORS = Path("/proc/self/fd")
_NAMELESS = "unnamed native thread"
_TASKS = Path("/proc/self/task")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningThread:
    """One thread, as Python or the system names it."""

    name: str  # "" if the system has no name for it
    target: str = ""  # module and name of the function that it runs
    is_native: bool = False  # whether Python did not start it
    at: Origin | None = field(default=None, compare=False)  # the user's line it is at

    def __str__(self) -> str:
        if self.is_native:
            return f"native thread {self.name}" if self.name else _NAMELESS
        return f"{self.name} running {self.target}" if self.target else self.name


def open_descriptors() -> dict[int, str]:
    """Return what each open descriptor refers to, if known."""
    found = _files() if _DESCRIPTORS.is_dir() else _files_by_psutil()
    found.update(_sockets())
    return found


def _files() -> dict[int, str]:
    found = {}
    for entry in _DESCRIPTORS.iterdir():
        with suppress(OSError, ValueError):  # the descriptor that listed them is closed
            found[int(entry.name)] = _readable(str(entry.readlink()))
    return found


def _readable(target: str) -> str:
    if target.startswith("anon_inode:"):
        return target.removeprefix("anon_inode:").strip("[]")
    kind, colon, inode = target.partition(":[")
    if colon and inode.endswith("]"):
        return kind  # without the number of a pipe or socket, which means nothing
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


def threads_now() -> dict[int, RunningThread]:
    """Return each thread's name and target, by the system's id.

    Native threads, which Python did not start, have the system's name.
    """
    found = {}
    frames = sys._current_frames()
    for thread in threading.enumerate():
        number = read_field(thread, "_native_id")  # not an attribute of a subclass
        if type(number) is int:
            frame = frames.get(read_field(thread, "_ident"))
            found[number] = RunningThread(
                name=read_text(thread, "_name"),
                target=thread_target(thread),
                at=origin_of(users_frames(frame, most=1))[0],
            )
    frames.clear()  # they would keep what the threads keep
    for number, name in _native_threads().items():
        found.setdefault(number, RunningThread(name=name, is_native=True))
    return found


def threads_among(objects: Iterable[object]) -> tuple[RunningThread, ...]:
    """Return the threads among some objects, each name and target once."""
    found = (
        RunningThread(name=read_text(one, "_name"), target=thread_target(one))
        for one in objects
        if issubclass(type(one), threading.Thread)
    )
    return tuple(dict.fromkeys(found))


def _native_threads() -> dict[int, str]:
    if sys.platform == "linux":
        names = {}
        for task in _TASKS.iterdir():
            with suppress(OSError, ValueError):  # the thread has ended meanwhile
                name = (task / "comm").read_text(errors="replace").strip()
                names[int(task.name)] = name
        process = names.get(os.getpid())  # a thread without a name has this one
        return {n: "" if name == process else name for n, name in names.items()}
    import psutil

    with suppress(psutil.Error, OSError):
        return {t.id: "" for t in psutil.Process().threads()}
    return {}


def rates_of_new(
    before: Mapping[int, T], after: Mapping[int, T], iterations: int
) -> dict[str, float]:
    """Return by name how much of it was added per iteration and stays, most first."""
    counts = fold_names(map(str, _new(before, after)))
    again = {name: count for name, count in counts.items() if count > 1}
    rates = list(rates_of(again or counts, iterations).items())  # a single one may not
    rates.sort(key=lambda item: (-item[1], item[0]))
    return dict(rates)


def find_new(before: Mapping[int, T], after: Mapping[int, T]) -> tuple[T, ...]:
    """Return what was added and stays, preferably what was added more than once."""
    new = _new(before, after)
    counts = Counter(fold_name(str(one)) for one in new)
    again = [one for one in new if counts[fold_name(str(one))] > 1]
    return tuple(dict.fromkeys(again or new))


def _new(before: Mapping[int, T], after: Mapping[int, T]) -> list[T]:
    # by name: a file that is closed and opened again may get another number
    new = Counter(after.values())
    new.subtract(Counter(before.values()))
    return list(new.elements())
