"""Record who starts threads and processes and who opens files, and list what is left.

Looking must cost next to nothing where nothing is left, so there is no scan of all
objects: hooks record what is made. The records are dropped with their objects, so that
a long loop finds no memory used here.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import multiprocessing.process  # noqa: F401 (a process of the body is one of its class)
import os
import stat
import sys
import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any
from typing import NamedTuple

from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.probes.process import has_no_children
from pytest_tfleak.signals import row_of
from pytest_tfleak.tf import names
from pytest_tfleak.tf.patch import Patch
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import PACKAGE
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import frames_of
from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import users_frames

_MOST_RECORDED = 1_000
_MOST_OPENED = 256
_DESCRIPTORS = "/proc/self/fd"
#: Files that the kernel makes up.
_UNREAL = ("/memfd:", "/proc/", "/sys/")


class StillThere(NamedTuple):
    """Something that a block of SystemLog has added, and that is still there."""

    signal: str
    made: object  # or words for what is no Python object
    lines: Sequence[Frame]  # of user code that made it
    path: str = ""  # of a file


class SystemLog:
    """Knows the threads, descriptors and child processes that its block has added.

    ``left`` also works after the block, as long as what it left is still there.

    ``audits`` is for a single call: Python then reports each file, but from then on it
    calls our function for many other things, too, which takes time in each call of a
    loop. Without it, the lines that opened files are unknown, unless tracemalloc has
    them: in place of ``open``, user code would find another object.
    """

    def __init__(self, *, audits: bool) -> None:
        self._audits = audits
        self._patches = Patches()
        #: The lines that started a thread or process, or made a socket.
        self._lines: weakref.WeakKeyDictionary[Any, list[Frame]]
        self._lines = weakref.WeakKeyDictionary()
        #: The lines that opened a file, by its path, and whether as a bare descriptor.
        self._opened: dict[tuple[str, bool], list[Frame]] = {}
        self._is_on = False
        self._threads: list[weakref.ref[threading.Thread]] = []
        self._files: dict[int, str] = {}
        self._children = frozenset[int]()

    def __enter__(self) -> SystemLog:
        self._is_on = True
        self._threads = [*map(weakref.ref, threading.enumerate())]
        self._files = _open_files()
        self._children = frozenset(_child_processes())
        self._note_callers(_STARTS)
        if self._audits:
            self._note_callers(_OPENS)
            _listen(self._note_event)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_on = False
        if self._audits:
            _listen(None)
        self._patches.undo()

    def left(self) -> Iterator[StillThere]:
        """Yield all that is new and still there."""
        for thread in threading.enumerate():
            if not any(known() is thread for known in self._threads):
                lines: Sequence[Frame] = self._lines.get(thread, ())
                yield StillThere("process.threads", thread, lines)
        files, children = self._new_files(), self._new_children()
        owners = _owners_of(files) if files else {}
        for number, target in files.items():
            owner = owners.get(number)
            yield StillThere(
                "process.fds",
                f"{target} (descriptor {number})" if owner is None else owner,
                self._lines_of(owner) or self._lines_of_file(target, owner),
                target if _is_file(number, target) else "",
            )
        started = dict(_started_processes(self._lines)) if children else {}
        for number in children:
            starter = started.get(number)
            yield StillThere(
                "process.children",
                starter or f"process {number}",
                self._lines_of(starter),
            )

    def _lines_of_file(self, target: str, owner: object) -> Sequence[Frame]:
        """Return who opened a file, which may be deleted, or unnamed in a folder.

        What ``open`` made has an owner as long as it is open: without one, it was not
        made there, but by native code, or as a bare descriptor.
        """
        path = target.removesuffix(" (deleted)")
        for is_bare in (True,) if owner is None else (False, True):
            for name in (path, str(Path(path).parent)):
                if (name, is_bare) in self._opened:
                    return self._opened[name, is_bare]
        return ()

    def _new_files(self) -> dict[int, str]:
        now = _open_files()
        return {n: now[n] for n in now if self._files.get(n) != now[n]}

    def _new_children(self) -> frozenset[int]:
        return frozenset(_child_processes()) - self._children

    def _lines_of(self, made: object) -> Sequence[Frame]:
        with suppress(TypeError):  # no weak references, or not hashable
            if made in self._lines:
                return self._lines[made]
        return [frame for frame in frames_of(made) if is_users(frame[0])]

    def _note_callers(self, methods: Sequence[tuple[str, str, str]]) -> None:
        for module, owner, method in methods:
            cls = getattr(sys.modules.get(module), owner, None)
            if cls is not None:
                self._patches.add(self._noting_caller(cls, method))

    def _noting_caller(self, cls: type, method: str) -> Patch:
        """Return the patch of a method that notes who calls it."""
        log = self

        def make(original: Any) -> Any:
            @wraps(original)
            def start(made: Any, /, *args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                if not log._is_on:  # user code had saved it, and has put it back
                    patch.undo()
                    return original(made, *args, **kwargs)
                result = original(made, *args, **kwargs)
                log._note(made, sys._getframe(1))  # some have no hash before
                return result

            return start

        patch = Patch(cls, method, make)
        return patch

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
            path, mode, *_ = (*arguments, None)
            self._note_path(path, mode is None, frame)

    def _note_path(self, path: Any, is_bare: bool, frame: FrameType) -> None:
        lines = [] if _is_of_probe(frame) else users_frames(frame)
        if lines:
            name = str(Path(os.fsdecode(path)).resolve())  # fails for a descriptor
            self._opened.pop((name, is_bare), None)
            self._opened[name, is_bare] = lines
            if len(self._opened) > _MOST_OPENED:
                del self._opened[next(iter(self._opened))]


def _is_of_probe(frame: FrameType | None) -> bool:
    """Return whether this package opens a file, rather than the body."""
    while frame is not None and not is_users(frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


#: Methods that start a thread or a process.
_STARTS = (
    ("threading", "Thread", "start"),
    ("subprocess", "Popen", "__init__"),
    ("multiprocessing.process", "BaseProcess", "start"),
)
#: Methods that open a file in native code, of which Python tells auditors nothing.
_OPENS = tuple(
    (module, cls, "__init__")
    for module, cls in (*names.FILE.types, ("h5py._hl.files", "File"))
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


def _is_file(number: int, target: str) -> bool:
    with suppress(OSError):
        is_regular = stat.S_ISREG(os.fstat(number).st_mode)
        return is_regular and not target.startswith(_UNREAL)
    return False


def _owners_of(files: Mapping[int, str]) -> dict[int, Any]:
    """Return the objects of this call that own a descriptor, by its number.

    Some do not tell the number, and are known by the path.
    """
    found: dict[int, Any] = {}
    others = []
    for owner in filter(_owns_descriptor(), gc.get_objects()):
        try:
            found[int(owner.fileno())] = owner
        except Exception:
            others.append(owner)
    for owner in others:
        paths = set(_paths_of(owner))
        number = next((n for n in files if files[n] in paths and n not in found), None)
        if number is not None:
            found[number] = owner
    return found


def _owns_descriptor() -> Callable[[object], bool]:
    """Return a test for objects of the classes that own descriptors."""
    owners = frozenset(row_of("process.fds").types)
    known: dict[type, bool] = {}

    def owns(candidate: object) -> bool:
        cls = type(candidate)
        if cls not in known:
            known[cls] = not owners.isdisjoint(map(type_name_of, mro_of(cls)))
        return known[cls]

    return owns


def _paths_of(owner: Any) -> Iterator[str]:
    """Yield what may be the path of an open file: one of HDF5 has another name."""
    for name in ("name", "filename"):
        with suppress(Exception):
            yield str(Path(os.fsdecode(getattr(owner, name))).resolve())


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
