"""How to end what stays open: files, connections, processes, handlers, by type.

A row says what the user has to call. It is used only where the retaining path leads
through an object of its type.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import THROUGH
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Step

_CLOSE = "close it when it is no longer needed: `{x}.close()`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Objects that something of the system belongs to, and how to end them."""

    types: tuple[str, ...]  # full names; subclasses count, too
    opened: str  # what each call opens
    name: str  # of a variable, if the code has none
    end: str = _CLOSE  # {x} stands for the object, {owner} for what it was added to
    is_taken_out: bool = False  # whether this also removes it from its container
    has_cause: bool = False  # whether a cause of its own explains it
    is_in_logger: bool = False  # whether it counts only among a logger's handlers
    closing: str = ""  # the with statement that closes it


#: The outermost object on the path decides: a handler before its file.
RESOURCES = (
    Resource(
        types=("logging.Handler",),
        opened="a log handler",
        name="handler",
        end="take it off the logger and close it, in a `finally`: "
        "`{owner}.removeHandler({x})`, `{x}.close()`",
        is_taken_out=True,
        has_cause=True,
        is_in_logger=True,
    ),
    Resource(
        types=("logging.FileHandler",),
        opened="a log handler with its file",
        name="handler",
    ),
    Resource(
        types=("subprocess.Popen",),
        opened="pipes to a process",
        name="process",
        end="wait for it, which also closes its pipes: `with {x}: ...`, with "
        "`{x}.terminate()` inside if it does not end by itself",
        has_cause=True,
    ),
    Resource(
        types=("multiprocessing.process.BaseProcess",),
        opened="a process",
        name="process",
        end="end it and wait for it, in a `finally`: `{x}.terminate()`, `{x}.join()`",
        has_cause=True,
    ),
    Resource(
        types=("threading.Timer",),
        opened="a timer",
        name="timer",
        end="cancel it in a `finally`: `{x}.cancel()`, `{x}.join()`",
        has_cause=True,
    ),
    Resource(
        types=("multiprocessing.queues.Queue",),
        opened="a queue",
        name="queue",
        end="close it in a `finally`: `{x}.close()`, `{x}.join_thread()`",
        has_cause=True,
    ),
    Resource(
        types=("multiprocessing.shared_memory.SharedMemory",),
        opened="a segment of shared memory",
        name="segment",
        end="do both in a `finally`: `{x}.close()`, and `{x}.unlink()` in the process "
        "that made it",
        has_cause=True,
    ),
    Resource(
        types=("asyncio.events.AbstractEventLoop",),
        opened="an event loop",
        name="loop",
        end="close it in a `finally`: `{x}.close()`",
        has_cause=True,
    ),
    Resource(
        types=("builtins.generator", "builtins.coroutine"),
        opened="a generator",
        name="generator",
        end="close it if it is not at its end: `{x}.close()`",
        has_cause=True,
        closing="`with contextlib.closing({x}): ...`",
    ),
    Resource(
        types=("builtins.async_generator",),  # has no close()
        opened="an asynchronous generator",
        name="generator",
        end="close it if it is not at its end: `await {x}.aclose()`",
        has_cause=True,
        closing="`async with contextlib.aclosing({x}): ...`",
    ),
    Resource(
        types=("tempfile.TemporaryDirectory",),
        opened="a temporary directory",
        name="directory",
        end="remove it when it is no longer needed: `{x}.cleanup()`",
        has_cause=True,
    ),
    Resource(
        types=("numpy.memmap", "numpy.core.memmap.memmap"),
        opened="a memory-mapped file",
        name="array",
        end="keep a copy of it, not the map: `{x} = numpy.array({x})`",
    ),
    Resource(
        types=("h5py._hl.base.HLObject",),
        opened="an HDF5 file or a part of one",
        name="dataset",
        end="close its file when you have read it: `{x}.file.close()`",
    ),
    Resource(
        types=("sqlite3.Connection",),
        opened="a connection to a database",
        name="connection",
    ),
    Resource(
        types=("requests.sessions.Session",),
        opened="a session with a pool of connections",
        name="session",
    ),
    Resource(
        types=("http.client.HTTPConnection", "smtplib.SMTP", "ftplib.FTP"),
        opened="a connection",
        name="connection",
    ),
    Resource(
        types=("_socket.socket",),
        opened="a socket",
        name="connection",
    ),
    Resource(types=("mmap.mmap",), opened="a memory-mapped file", name="mapped"),
    Resource(
        types=("selectors.BaseSelector",),
        opened="a selector",
        name="selector",
    ),
    Resource(
        types=(
            *("zipfile.ZipFile", "tarfile.TarFile", "shelve.Shelf"),
            *("tempfile._TemporaryFileWrapper", "_io._IOBase", "io.IOBase"),
            "multiprocessing.connection._ConnectionBase",
            *("numpy.lib.npyio.NpzFile", "numpy.lib._npyio_impl.NpzFile"),
        ),
        opened="a file",
        name="file",
    ),
    Resource(
        types=(
            "tensorflow.python.lib.io.file_io.FileIO",
            "tensorflow.python.platform.gfile.GFile",
            "tensorflow.python.lib.io.tf_record.TFRecordWriter",
        ),
        opened="a file",
        name="file",
    ),
)
#: Files without a descriptor.
_IN_MEMORY = ("_io.BytesIO", "_io.StringIO")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A resource on a retaining path."""

    resource: Resource
    #: The attributes that lead to it from the object that is put away: ``.sock``.
    attributes: str

    @property
    def is_put_away_itself(self) -> bool:
        """Return whether the resource itself is put into the container."""
        return not self.attributes


def find_opened(path: RetainingPath | None) -> Opened | None:
    """Return the outermost new object on a path that has to be closed."""
    made = [step for step in path.steps if step.is_new] if path is not None else []
    for place, step in enumerate(made):
        resource = _resource_of(step, path)
        if resource is not None:
            return Opened(
                resource=resource,
                attributes=_attributes(made[1 : place + 1]),
            )
    return None


def is_in_logger(path: RetainingPath | None) -> bool:
    """Return whether a path leads through the list of handlers of a logger."""
    steps = path.steps if path is not None else ()
    shown = [step for step in steps if step.kind != THROUGH]
    return any(
        owner.is_a("logging.Logger") and step.name == "handlers"
        for owner, step in pairwise(shown)
    )


def is_log_filter(path: RetainingPath | None) -> bool:
    """Return whether a path leads to a new filter of an older logger or handler."""
    steps = path.steps if path is not None else ()
    shown = [step for step in steps if step.kind != THROUGH]
    return any(
        owner.is_a("logging.Filterer") and step.name == "filters" and added.is_new
        for owner, step, added in zip(shown, shown[1:], shown[2:], strict=False)
        if not owner.is_new
    )


def _resource_of(step: Step, path: RetainingPath | None) -> Resource | None:
    if step.is_a(*_IN_MEMORY):
        return None
    for row in RESOURCES:
        if step.is_a(*row.types) and (not row.is_in_logger or is_in_logger(path)):
            return row
    return None


def _attributes(steps: list[Step]) -> str:
    """Return the attributes that lead to an object, "..." if they cannot be written."""
    shown = [step for step in steps if step.kind != THROUGH]
    if any(step.kind != ATTRIBUTE for step in shown):
        return "..."
    return "".join(f".{step.name}" for step in shown)
