"""Record who starts threads and processes and who opens files, and list what is left.

Looking must cost next to nothing where nothing is left, so there is no scan of all
objects: hooks record what is made. The records are dropped with their objects, or lie
in arrays of a fixed size, so that a long loop finds no memory used here.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import builtins
import gc
import io
import multiprocessing.process  # noqa: F401 (a process of the body is one of its class)
import os
import sys
import threading
import weakref
from array import array
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from functools import update_wrapper
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.probes.process import has_no_children
from pytest_tfleak.signals import row_of
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import PACKAGE
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import users_frames

_MOST_RECORDED = 1_000
_MOST_OPENED, _DEPTH = 256, 8  # files, and lines of user code for each
_DESCRIPTORS = "/proc/self/fd"


class SystemLog:
    """Knows the threads, descriptors and child processes that its block has added.

    ``left`` also works after the block, as long as what it left is still there.

    ``audits`` is for a single call: Python then reports each file, but from then on it
    calls our function for many other things, too, which moves the figures of a loop.
    Without it, files are known that are opened by ``open()``, as nearly all are.
    """

    def __init__(self, *, audits: bool) -> None:
        self._audits = audits
        self._patches = Patches()
        #: The lines that started a thread or process, or made a socket.
        self._lines: weakref.WeakKeyDictionary[Any, list[Frame]]
        self._lines = weakref.WeakKeyDictionary()
        self._opened = _Opened()
        self._threads: list[weakref.ref[threading.Thread]] = []
        self._files: dict[int, str] = {}
        self._children = frozenset[int]()

    def __enter__(self) -> SystemLog:
        self._threads = [*map(weakref.ref, threading.enumerate())]
        self._files = _open_files()
        self._children = frozenset(_child_processes())
        for module, owner, method in _STARTS:
            cls = getattr(sys.modules.get(module), owner, None)
            if cls is not None:
                self._patches.set(cls, method, self._noting_caller)
        if self._audits:
            _listen(self._note_event)
        else:
            for has_open in (builtins, io):
                self._patches.set(has_open, "open", self._noting_path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._audits:
            _listen(None)
        self._patches.undo()

    def left(self) -> Iterator[tuple[str, object, Sequence[Frame]]]:
        """Yield signal, object or words, and lines of all that is new and still there.

        There are no lines for what no user code made.
        """
        for thread in threading.enumerate():
            if not any(known() is thread for known in self._threads):
                yield "process.threads", thread, self._lines.get(thread, ())
        files, children = self._new_files(), self._new_children()
        owners = _owners_of_descriptors() if files else {}
        for number, target in files.items():
            owner = owners.get(number)
            frames: Sequence[Frame] = self._lines_of_file(target)
            if owner is not None and not frames:
                frames = self._lines_of(owner)
            yield "process.fds", owner or f"{target} (descriptor {number})", frames
        started = dict(_started_processes(self._lines)) if children else {}
        for number in children:
            starter = started.get(number)
            yield (
                "process.children",
                starter or f"process {number}",
                self._lines_of(starter),
            )

    def _lines_of_file(self, target: str) -> Sequence[Frame]:
        """Return who opened a file, which may be deleted, or unnamed in a folder."""
        path = target.removesuffix(" (deleted)")
        folder = str(Path(path).parent)
        return self._opened.lines_of(path) or self._opened.lines_of(folder)

    def _new_files(self) -> dict[int, str]:
        now = _open_files()
        return {n: now[n] for n in now if self._files.get(n) != now[n]}

    def _new_children(self) -> frozenset[int]:
        return frozenset(_child_processes()) - self._children

    def _lines_of(self, made: object) -> Sequence[Frame]:
        with suppress(TypeError):  # no weak references, or not hashable
            return self._lines.get(made, ())
        return ()

    def _noting_caller(self, original: Any) -> Any:
        note = self._note

        @wraps(original)
        def start(made: Any, /, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            note(made, sys._getframe(1))
            return original(made, *args, **kwargs)

        return start

    def _noting_path(self, original: Any) -> _Opening:
        return _Opening(original, self._note_path)

    def _note(self, made: object, frame: FrameType | None) -> None:
        with suppress(Exception):  # our errors must not fail the test
            if len(self._lines) < _MOST_RECORDED:
                self._lines[made] = users_frames(frame)

    def _note_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note who opens a file or makes a socket, as Python reports it to auditors."""
        frame = sys._getframe(2)
        if event == "socket.__new__":
            self._note(arguments[0], frame)
        else:
            self._note_path(arguments[0], frame)

    def _note_path(self, path: Any, frame: FrameType) -> None:
        lines = [] if _is_of_probe(frame) else users_frames(frame, _DEPTH)
        if lines:
            name = os.fsdecode(path)  # not a descriptor that is wrapped
            self._opened.add(str(Path(name).resolve()), lines)


class _Opening:
    """Stands for ``open``; a function would become a method if a class has it."""

    def __init__(
        self, original: Any, note_path: Callable[[Any, FrameType], None]
    ) -> None:
        self._original = original
        self._note_path = note_path
        update_wrapper(self, original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        opened = self._original(*args, **kwargs)
        with suppress(Exception):  # our errors must not fail the test
            self._note_path(args[0] if args else kwargs["file"], sys._getframe(1))
        return opened


def _is_of_probe(frame: FrameType | None) -> bool:
    """Return whether this package opens a file, rather than the body."""
    while frame is not None and not is_users(frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


class _Opened:
    """The lines that opened the files of the last paths, in a fixed number of slots."""

    def __init__(self) -> None:
        self._paths = array("q", [0]) * _MOST_OPENED  # their hashes
        self._files = [""] * (_MOST_OPENED * _DEPTH)
        self._lines = array("q", [0]) * (_MOST_OPENED * _DEPTH)
        self._turn = array("q", [0])  # a large int in an attribute would take memory

    def add(self, path: str, lines: Sequence[Frame]) -> None:
        slot = self._slot_of(path)
        if slot is None:
            slot = self._turn[0]
            self._turn[0] = (slot + 1) % _MOST_OPENED
        self._paths[slot] = hash(path)
        for place in range(_DEPTH):
            file, line = lines[place] if place < len(lines) else ("", 0)
            self._files[slot * _DEPTH + place] = file
            self._lines[slot * _DEPTH + place] = line

    def lines_of(self, path: str) -> Sequence[Frame]:
        slot = self._slot_of(path)
        if slot is None:
            return ()
        places = range(slot * _DEPTH, (slot + 1) * _DEPTH)
        return [(self._files[n], self._lines[n]) for n in places if self._files[n]]

    def _slot_of(self, path: str) -> int | None:
        with suppress(ValueError):
            return self._paths.index(hash(path))
        return None


#: Methods that start a thread or a process.
_STARTS = (
    ("threading", "Thread", "start"),
    ("subprocess", "Popen", "__init__"),
    ("multiprocessing.process", "BaseProcess", "start"),
)
#: What Python tells auditors before it makes a descriptor.
_EVENTS = frozenset({"open", "socket.__new__", "sqlite3.connect"})
_Listener = Callable[[str, tuple[Any, ...]], None]
_listeners: list[_Listener] = []
_hooked: list[bool] = []


def _listen(listener: _Listener | None) -> None:
    """Have a function called for each event; None ends that.

    An audit hook cannot be removed, so it stays and does nothing.
    """
    _listeners.clear()
    if listener is not None:
        _listeners.append(listener)
        if not _hooked:
            _hooked.append(True)
            sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _listeners and event in _EVENTS:
        with suppress(Exception):  # an error would make the audited call fail
            _listeners[0](event, arguments)


def _open_files() -> dict[int, str]:
    """Return what each open descriptor refers to; nothing where that is not listed."""
    found = {}
    with suppress(OSError):
        for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 (iterdir is slower)
            with suppress(OSError):  # the one that lists them is closed by now
                found[int(name)] = os.readlink(f"{_DESCRIPTORS}/{name}")  # noqa: PTH115 (as above)
    return found


def _owners_of_descriptors() -> dict[int, Any]:
    """Return the objects of this call that own a descriptor, by its number."""
    names = frozenset(row_of("process.fds").types)
    found = {}
    for owner in gc.get_objects():
        if type_name_of(type(owner)) in names:
            with suppress(Exception):
                found[int(owner.fileno())] = owner
    return found


def _child_processes() -> list[int]:
    if has_no_children():
        return []
    import psutil

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process().children()]
    return []


def _started_processes(
    started: Mapping[Any, Sequence[Frame]],
) -> Iterator[tuple[int, Any]]:
    for starter in list(started):
        number = getattr(starter, "pid", None)
        if isinstance(number, int):
            yield number, starter
