"""Call a body once, as pytest would, and find what it leaves behind.

What a call made and did not end is left: sessions, graphs, threads, open descriptors
and child processes. Only what a line of user code led to counts, with that line. What
modules make while they are imported does not: a test may be the first to import them.

Looking must cost next to nothing where nothing is left, so there is no scan of all
objects: hooks record what is made, and the objects that existed before are hidden from
the collector while the body runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import linecache
import multiprocessing.process  # noqa: F401 (a process of the body is one of its class)
import os
import sys
import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from functools import wraps
from pathlib import Path
from time import perf_counter
from time import sleep
from types import FrameType
from typing import Any

from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.probes.process import has_no_children
from pytest_tfleak.run.confirm import MOMENT
from pytest_tfleak.run.leftovers import ids_reachable
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.signals import row_of
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import function_at
from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import users_frames

_POLL = 0.02  # seconds between two looks at threads, descriptors and processes
_MOST_RECORDED = 1_000
_DESCRIPTORS = "/proc/self/fd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlasting:
    """The values of fixtures, by name, and the instance of a test class."""

    own: Mapping[str, object] = field(default_factory=dict)  # they die with the test
    wider: Mapping[str, object] = field(default_factory=dict)  # of a class or module


@dataclass(slots=True)
class Left:
    """What one call left, by signal; release it before measuring again."""

    objects: dict[str, list[Any]] = field(default_factory=dict)
    #: What has no Python object, in words: descriptors and processes.
    others: dict[str, list[str]] = field(default_factory=dict)
    #: The lines of user code that made them, by id of the object or by those words.
    frames: dict[int | str, list[Frame]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return how many are left of each signal, without those of which none is."""
        names = {**self.objects, **self.others}
        found = {
            name: len(self.objects.get(name, ())) + len(self.others.get(name, ()))
            for name in names
        }
        return {name: count for name, count in found.items() if count}

    def add(self, signal: str, made: object, frames: Sequence[Frame]) -> None:
        """Add an object, or the words for something that has none."""
        key: int | str
        if isinstance(made, str):
            self.others.setdefault(signal, []).append(made)
            key = made
        else:
            self.objects.setdefault(signal, []).append(made)
            key = id(made)
        self.frames[key] = list(frames)


class OneCall:
    """Calls a body once and finds what it left.

    ``tear_down`` ends what was set up for this call alone, if anything is left; it
    returns the values of fixtures. What only they keep does not count.
    """

    def __init__(
        self,
        body: Callable[[], object],
        calls: int,
        tear_down: Callable[[], Outlasting],
        log: SessionLog,
    ) -> None:
        self._body = body
        self._calls = calls
        self._tear_down = tear_down
        self._log = log
        #: How long the body took, in seconds, and how often it returned.
        self.body_seconds, self.calls = 0.0, 0

    def run(self) -> Left:
        """Call the body, and return what it left. Raises what the body raises."""
        __tracebackhide__ = True
        census, system = Census(), _System()
        self._log.watch()
        try:
            census.hide()
            with system:
                for _ in range(self._calls):
                    started = perf_counter()
                    self._body()
                    self.body_seconds += perf_counter() - started
                    self.calls += 1
                return self._look(system, census)
        finally:
            census.thaw()

    def _look(self, system: _System, census: Census) -> Left:
        left = self._find(system)
        if left.counts():
            left = Left()  # the fixtures may free it
            outlasting = self._tear_down()
            census.thaw()  # some of them may be garbage now
            gc.collect()
            left = self._find(system, waits=True)
            _without_those_kept(left, outlasting)
        return left

    def _find(self, system: _System, *, waits: bool = False) -> Left:
        """Return what is left; ``waits`` gives threads and processes time to end."""
        ends = perf_counter() + MOMENT
        while True:
            left = Left()
            if self._made():
                gc.collect()  # it only looks at what the call made
            for signal, made in self._made():
                _add_unless_imported(left, signal, made, self._log.created_at(made))
            for signal, found, frames in system.left():
                _add_unless_imported(left, signal, found, frames)
            may_end = any(name.startswith("process.") for name in left.counts())
            if not (waits and may_end) or perf_counter() > ends:
                return left
            del left
            sleep(_POLL)

    def _made(self) -> list[tuple[str, Any]]:
        """Return the living sessions that are open, and the graphs, of this call."""
        return [
            ("tf.sessions" if is_session else "tf.graphs", made)
            for made, is_session in self._log.left_open()
        ]


def _add_unless_imported(
    left: Left, signal: str, made: object, frames: Sequence[Frame]
) -> None:
    is_import = any(_is_outside_functions(*frame) for frame in frames)
    if frames and not is_import:
        left.add(signal, made, frames)


def _is_outside_functions(file: str, line: int) -> bool:
    """Return whether a line runs while its module is imported.

    The lines of doctests and of notebooks belong to no function. A lambda has no name.
    """
    if file.startswith("<") or function_at(file, line):
        return False
    return "lambda" not in linecache.getline(file, line)


def _without_those_kept(left: Left, outlasting: Outlasting) -> None:
    """Leave out what a fixture keeps on purpose, and what dies with the test.

    What dies with the test is kept by its own fixtures or instance, and by no module of
    user code. A thread or a process runs on, whatever keeps its object.
    """
    objects = [made for found in left.objects.values() for made in found]
    if not objects:
        return
    kept = ids_reachable(outlasting.wider.values(), objects)
    dying = ids_reachable(outlasting.own.values(), objects) - kept
    if dying:
        dying -= ids_reachable(_globals_of_users(), objects)
    for signal, found in left.objects.items():
        gone = kept if signal in _RUNNING else kept | dying
        left.objects[signal] = [made for made in found if id(made) not in gone]


def _globals_of_users() -> Iterator[object]:
    """Yield what the modules of user code have as attributes, and their classes'.

    Names with underscores lead to import hooks, and from there to all of pytest.
    """
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and is_users(file):
            for name, held in list(vars(module).items()):
                if name.startswith(("__", "@")):
                    continue
                yield held
                if isinstance(held, type):
                    yield from list(vars(held).values())


class _System:
    """Threads, descriptors and child processes, and the lines that made them."""

    def __init__(self) -> None:
        self._patches = Patches()
        #: The lines that started a thread or process, or made a socket.
        self._lines: weakref.WeakKeyDictionary[Any, list[Frame]]
        self._lines = weakref.WeakKeyDictionary()
        self._opened: dict[str, list[Frame]] = {}  # by path
        self._threads = frozenset[int]()
        self._files: dict[int, str] = {}
        self._children = frozenset[int]()

    def __enter__(self) -> _System:
        self._threads = frozenset(map(id, threading.enumerate()))
        self._files = _open_files()
        self._children = frozenset(_child_processes())
        for module, owner, method in _STARTS:
            cls = getattr(sys.modules.get(module), owner, None)
            if cls is not None:
                self._patches.set(cls, method, self._noting_caller)
        _listen(self._note_event)
        return self

    def __exit__(self, *_: object) -> None:
        _listen(None)
        self._patches.undo()

    def left(self) -> Iterator[tuple[str, object, Sequence[Frame]]]:
        """Yield signal, object or words, and lines of all that is new and still there.

        There are no lines for what no user code made.
        """
        for thread in threading.enumerate():
            if id(thread) not in self._threads:
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
        return self._opened.get(path) or self._opened.get(folder) or ()

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
            note(made, sys._getframe(1))
            return original(made, *args, **kwargs)

        return start

    def _note(self, made: object, frame: FrameType | None) -> None:
        with suppress(Exception):  # our errors must not fail the test
            if len(self._lines) < _MOST_RECORDED:
                self._lines[made] = users_frames(frame)

    def _note_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note who opens a file or makes a socket, as Python reports it to auditors."""
        frame = sys._getframe(2)
        if event == "socket.__new__":
            self._note(arguments[0], frame)
        elif len(self._opened) < _MOST_RECORDED:
            path = os.fsdecode(arguments[0])  # not a descriptor that is wrapped
            lines = users_frames(frame)
            if lines:
                self._opened[str(Path(path).resolve())] = lines


#: The signals of what runs, and is not freed when its object is.
_RUNNING = ("process.threads", "process.children")
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
