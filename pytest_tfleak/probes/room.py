"""How much more of a resource the system can give this process, and what limits it.

Memory is limited by the machine, by the cgroup of the process and each of its parents,
and by the limits of the process itself. The narrowest counts. A cgroup counts the pages
of files, too, which the system frees when it needs them: they count as free here.

Readers are made before a run, so that reading leaves no objects behind.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from typing import Literal
from typing import NamedTuple
from warnings import catch_warnings
from warnings import simplefilter

MEMORY, ADDRESSES = "memory", "address space"
#: The signals of host memory whose growth shows that it runs out.
_OF_MEMORY = ("host.heap", "host.allocator", "host.tensors", "host.rss")
#: From this number on, a limit is none: cgroups, version 1, write one near 2**63.
_UNLIMITED = 2**62
_READ_AT_ONCE = 16_384  # bytes, more than /proc/self/status has
_OWN_PAGES, SWAPPED = (b"\nRssAnon:", b"\nRssShmem:"), b"\nVmSwap:"
_STATUS, _SIZES = "/proc/self/status", "/proc/self/statm"

Read = Callable[[], "int | None"]


class Free(NamedTuple):
    """How much of a resource is free, and what limits it, as a noun: "the machine"."""

    amount: int
    limit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A resource that may run out while a body runs again and again.

    ``free`` says how much is left and what limits it, or None for no limit; ``read``
    says how much is in use, in the same unit, or None for no figure. ``signals`` are
    those whose growth uses it up. ``is_shared`` if other workers of xdist use it, too.
    """

    resource: str  # "memory", "file descriptors"
    unit: str  # "B", or the plural of what is counted
    signals: tuple[str, ...]  # without the device; their growth uses it up
    free: Callable[[], Free | None]  # None: nothing limits it
    read: Read  # how much of it is in use
    is_shared: bool = False  # with the other workers of a run


def memory_rooms(root: Path = Path("/")) -> list[Room]:
    """Return the room for resident memory, and for memory that is only reserved."""
    rooms = [
        Room(
            resource=MEMORY,
            unit="B",
            signals=_OF_MEMORY,
            free=lambda: free_memory(root),
            read=make_memory_reader(SWAPPED),
            is_shared=True,
        )
    ]
    addresses = _make_address_reader()
    if addresses is not None:
        rooms.append(
            Room(
                resource=ADDRESSES,
                unit="B",
                signals=_OF_MEMORY,
                free=lambda: _below("RLIMIT_AS", addresses),
                read=addresses,
            )
        )
    return rooms


def free_memory(root: Path = Path("/")) -> Free | None:
    """Return how much memory and swap is free within all limits.

    The kernel enforces neither ``ulimit -m`` nor ``memory.high``: they do not count.
    """
    swap = _free_swap()
    machine = _free_on_machine(swap)
    found = [*([] if machine is None else [machine]), *_free_in_groups(root, swap)]
    return min(found, key=lambda free: free.amount, default=None)


def descriptor_room() -> Room | None:
    """Return the room for file descriptors, None where they have no limit."""
    if _soft_limit("RLIMIT_NOFILE") is None:
        return None
    return Room(
        resource="file descriptors",
        unit="descriptors",
        signals=("process.fds",),
        free=lambda: _below("RLIMIT_NOFILE", read_descriptors),
        read=read_descriptors,
    )


def thread_room(count: Read, root: Path = Path("/")) -> Room | None:
    """Return the room for threads, None where they have no limit.

    ``count`` reads how many threads the process has. ``ulimit -u`` does not count: it
    is a limit of the user, of which this process does not know the other threads.
    """

    def free() -> Free | None:
        found = _free_pids(root)
        return min(found, key=lambda free: free.amount, default=None)

    if free() is None:
        return None
    return Room(
        resource="threads",
        unit="threads",
        signals=("process.threads",),
        free=free,
        read=count,
        is_shared=True,
    )


def make_memory_reader(*more: bytes) -> Callable[[], int]:
    """Return a reader of RSS without pages of files, and ``more`` figures of Linux.

    The system may drop pages of files at any time. Where the kernel does not show them
    apart, the reader includes them.
    """
    read = partial(_read_status, (*_OWN_PAGES, *more))
    with suppress(AttributeError, OSError, ValueError):
        read()
        return read
    return _make_psutil_reader("rss")


def read_descriptors() -> int | None:
    """Return the lowest free descriptor: at the limit, nothing can be opened."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return _soft_limit("RLIMIT_NOFILE")
    os.close(descriptor)
    return descriptor


# The process itself


def _read_status(names: Sequence[bytes]) -> int:
    text = _read(_STATUS)
    return sum(_kibibytes_after(name, text) for name in names) * 1024


def _read_addresses() -> int:
    return int(_read(_SIZES).split(b" ", 1)[0]) * os.sysconf("SC_PAGE_SIZE")


def _make_address_reader() -> Read | None:
    if sys.platform in ("darwin", "win32"):  # they do not limit it
        return None
    with suppress(AttributeError, OSError, ValueError):
        _read_addresses()
        return _read_addresses
    return _make_psutil_reader("vms")


def _make_psutil_reader(name: Literal["rss", "vms"]) -> Callable[[], int]:
    import psutil

    process = psutil.Process()
    return lambda: int(getattr(process.memory_info(), name))


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _READ_AT_ONCE)
    finally:
        os.close(descriptor)


def _kibibytes_after(name: bytes, text: bytes) -> int:
    """Return the figure after a name in the kernel's text. Raises ValueError."""
    at = text.index(name) + len(name)
    return int(text[at : text.index(b"kB", at)])


def _soft_limit(name: str) -> int | None:
    """Return the soft limit of this process, None if it has none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    number = getattr(resource, name, None)
    if number is None:
        return None
    soft: int = resource.getrlimit(number)[0]
    return None if soft in (resource.RLIM_INFINITY, -1) or soft >= _UNLIMITED else soft


def _below(name: str, used: Read) -> Free | None:
    limit, now = _soft_limit(name), used()
    return None if limit is None or now is None else Free(max(0, limit - now), name)


def _free_on_machine(swap: int) -> Free | None:
    memory = _ask_psutil("virtual_memory")
    if memory is None:
        return None
    return Free(int(memory.available) + swap, "the machine")


def _free_swap() -> int:
    swap = _ask_psutil("swap_memory")
    return 0 if swap is None else int(swap.free)


def _ask_psutil(name: Literal["virtual_memory", "swap_memory"]) -> Any:
    """Return figures of the system, None if it does not tell."""
    import psutil

    try:
        with catch_warnings():  # it warns if the kernel hides some of the figures
            simplefilter("ignore")
            return getattr(psutil, name)()
    except (psutil.Error, OSError, RuntimeError):
        return None


# Control groups


def _free_in_groups(root: Path, swap: int) -> Iterator[Free]:
    """Yield what is free in the cgroup of this process, and in each of its parents."""
    for folder in _folders(root, "cgroup2", ""):
        if (limit := _number(folder / "memory.max")) is None:
            continue
        used = _in_use(folder, "memory.current", ("inactive_file", "active_file"))
        if used is not None:
            most = _number(folder / "memory.swap.max")
            swapped = _number(folder / "memory.swap.current") or 0
            more = swap if most is None else min(swap, max(0, most - swapped))
            yield Free(max(0, limit - used) + more, "the cgroup's memory.max")
    reclaimable = ("total_inactive_file", "total_active_file")
    for folder in _folders(root, "cgroup", "memory"):
        for kind, more in (("memory", swap), ("memory.memsw", 0)):
            if (limit := _number(folder / f"{kind}.limit_in_bytes")) is None:
                continue
            used = _in_use(folder, f"{kind}.usage_in_bytes", reclaimable)
            if used is not None:
                name = f"the cgroup's {kind}.limit_in_bytes"
                yield Free(max(0, limit - used) + more, name)


def _free_pids(root: Path) -> Iterator[Free]:
    for kind, controller in (("cgroup2", ""), ("cgroup", "pids")):
        for folder in _folders(root, kind, controller):
            if (most := _number(folder / "pids.max")) is None:
                continue
            now = _number(folder / "pids.current")
            if now is not None:
                yield Free(max(0, most - now), "the cgroup's pids.max")


def _folders(root: Path, kind: str, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and its parents, innermost first.

    In a container, the outermost that can be seen is that of the container.
    """
    path = _path_of_group(root, controller)
    if path is None:
        return
    mount = next(_mounts(root, kind, controller), None)
    if mount is not None:
        inner = _relative(path, mount.root)
        folder = root / mount.point.lstrip("/")
        yield from (folder.joinpath(*inner[:k]) for k in range(len(inner), -1, -1))


def _path_of_group(root: Path, controller: str) -> str | None:
    for line in _lines(root / "proc/self/cgroup"):
        number, names, path = [*line.split(":", 2), "", ""][:3]
        if controller in names.split(",") and (controller or number == "0"):
            return path
    return None


class _Mount(NamedTuple):
    root: str  # which folder of the file system is mounted
    point: str


def _mounts(root: Path, kind: str, controller: str) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        where, _, what = line.partition(" - ")
        fields, types = where.split(" "), what.split(" ")
        if len(fields) < 5 or len(types) < 3 or types[0] != kind:
            continue
        if not controller or controller in types[2].split(","):
            yield _Mount(_unescaped(fields[3]), _unescaped(fields[4]))


def _relative(path: str, mounted: str) -> Sequence[str]:
    """Return the parts of a group's path below the folder that is mounted."""
    inner, outer = _parts(path), _parts(mounted)
    if inner[: len(outer)] != outer or ".." in inner:  # it is outside of the container
        return []
    return inner[len(outer) :]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _in_use(folder: Path, name: str, reclaimable: Sequence[str]) -> int | None:
    """Return what a group has in use and the system cannot simply free."""
    used = _number(folder / name)
    if used is None:
        return None
    for line in _lines(folder / "memory.stat"):
        word, _, figure = line.partition(" ")
        if word in reclaimable and figure.isdigit():
            used -= int(figure)
    return max(0, used)


def _number(path: Path) -> int | None:
    """Return the number in a file, None for no file or no limit."""
    text = next(_lines(path), "").strip()
    number = int(text) if text.isdigit() else None
    return None if number is None or number >= _UNLIMITED else number


def _lines(path: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from path.read_text("utf-8", "replace").splitlines()
