"""Record which lines of user code create and close sessions and graphs.

For other objects, further iterations under tracemalloc find the lines. Those iterations
cannot see objects that were created only once, in the first call, and an error about a
closed session does not say who closed it. The records lie in arrays of a fixed size,
and each is dropped with its object: a body that creates and drops sessions leaves
nothing here.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import weakref
from array import array
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any
from typing import NamedTuple

from pytest_tfleak.run.loop import Loop
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import note_default_graphs
from pytest_tfleak.tf.access import was_default
from pytest_tfleak.tf.names import Name
from pytest_tfleak.tf.patch import Patch
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import is_users

DEPTH = 8  # lines of user code per record
MOST_CREATED, MOST_CLOSED = 32, 16
#: Graphs that TensorFlow makes for each trace of a tf.function are not recorded.
_FUNCTION_GRAPHS = {names.FUNCTION_GRAPH.attribute, names.DEFUN_GRAPH.attribute}
#: The files that call the body: what is above them called the plugin.
_CALLERS = frozenset(
    {
        Loop.__init__.__code__.co_filename,
        str(Path(Loop.__init__.__code__.co_filename).with_name("one_call.py")),
    }
)
_OWN_METHODS = {"__init__", "__exit__", "close"}

_IsRecorded = Callable[[Any], bool]


class SessionLog:
    """Records who creates sessions and graphs, and who closes sessions, until ``stop``.

    It still remembers in later tests who closed a session, as they may use it.
    """

    def __init__(self) -> None:
        self._created = _Records(MOST_CREATED, replaces=False)
        self._closed = _CLOSED
        self._replaced_before = _CLOSED.replaced
        self.is_on = True
        self._pending = [
            _Target(names.SESSION, "__init__", self._created, _always),
            _Target(names.GRAPH, "__init__", self._created, _is_plain),
            _Target(names.SESSION, "close", self._closed, _is_open),
            _Target(
                names.MONITORED_SESSION,
                names.CLOSE_MONITORED,
                self._closed,
                _is_monitored_open,
            ),
        ]
        self._patches = Patches()
        self._importer: _Importer | None = None

    def watch(self) -> None:
        """Start to record now, or as soon as TensorFlow is imported."""
        for target in self._pending[:]:
            owner = target.cls.find()
            if owner is not None:
                self._pending.remove(target)
                if _has_method(owner, target.method):
                    self._patches.add(self._hook(owner, target))
        if self._pending and self._importer is None:
            self._importer = _Importer(self.watch)
            sys.meta_path.insert(0, self._importer)

    def stop(self) -> None:
        """Remove all hooks."""
        self.is_on = False  # turns off hooks that stay because another patch wraps them
        self._pending.clear()
        self._patches.undo()
        if self._importer in sys.meta_path:
            sys.meta_path.remove(self._importer)
        self._importer = None

    def forget(self) -> None:
        """Forget who created what."""
        self._created = _Records(0, replaces=False)

    def created_at(self, created: object) -> list[Frame]:
        """Return the lines of user code that created a session or graph, or []."""
        return self._created.lines_of(created) or []

    def left_open(self) -> list[tuple[Any, bool]]:
        """Return the living sessions that are open, and graphs, that were recorded.

        The second item says whether it is a session.
        """
        note_default_graphs()
        session_type = names.SESSION.find()
        found = []
        for made in self._created.living():
            is_session = session_type is not None and isinstance(made, session_type)
            if is_session and not _is_open(made):
                continue
            if is_session or not was_default(made):
                found.append((made, is_session))
        return found

    def closed_at(self, session: object) -> list[Frame] | None:
        """Return the lines that closed a session, None if no close was recorded."""
        return self._closed.lines_of(session)

    def only_closed(self) -> list[Frame] | None:
        """Return the lines that closed a session, if only one closed one is alive."""
        return self._closed.only_lines()

    @property
    def has_forgotten(self) -> bool:
        """Return whether some closes were forgotten, because there were too many."""
        return self._closed.replaced > self._replaced_before

    def _hook(self, owner: type, target: _Target) -> Patch:
        """Return the patch of a method that records its calls."""
        log, records, is_recorded = self, target.records, target.is_recorded

        def make(original: Any) -> Any:
            @wraps(original)
            def hook(called: Any, /, *args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                if not log.is_on:
                    # Another patch had wrapped this hook when it was to be removed.
                    # That patch may be gone by now, so try again.
                    patch.undo()
                recorded = log.is_on and is_recorded(called)
                result = original(called, *args, **kwargs)
                if recorded:
                    with suppress(Exception):  # our errors must not fail the test
                        records.add(called, sys._getframe(1))
                return result

            return hook

        patch = Patch(owner, target.method, make)
        return patch


class _Target(NamedTuple):
    """A method to hook, and where to record its calls."""

    cls: Name
    method: str
    records: _Records
    is_recorded: _IsRecorded


def _has_method(cls: type, name: str) -> bool:
    """Return whether a class has a method that is not inherited from ``object``."""
    return getattr(cls, name, None) is not getattr(object, name, None)


def _always(_: Any) -> bool:
    return True


def _is_plain(graph: Any) -> bool:
    # by name, since the module of function graphs may not be imported yet
    return not any(cls.__name__ in _FUNCTION_GRAPHS for cls in type(graph).__mro__)


def _is_open(session: Any) -> bool:
    return not _attribute(session, names.SESSION_CLOSED)


def _is_monitored_open(session: Any) -> bool:
    return _attribute(session, names.MONITORED_INNER) is not None


def _attribute(instance: Any, name: str) -> Any:
    # not getattr, which may run code of a user's subclass
    with suppress(AttributeError):
        return object.__getattribute__(instance, "__dict__").get(name)
    return None


class _Records:
    """Lines of user code for each object, in a fixed number of slots."""

    def __init__(self, size: int, *, replaces: bool) -> None:
        self._replaces = replaces
        self._references: list[weakref.ref[Any] | None] = [None] * size
        self._free = list(range(size))[::-1]
        self._files = [""] * (size * DEPTH)
        self._lines = array("q", [0] * (size * DEPTH))
        self._counts = array("q", [0] * size)
        self._stamps = array("q", [0] * size)
        self._forget = self._drop  # shared, since each bound method is a new object
        self._clock = array("q", [0])  # a large int in an attribute would take memory
        #: How often the record of a living object was replaced by another one.
        self.replaced = 0

    def add(self, created: Any, frame: FrameType | None) -> None:
        """Record the lines of user code from a frame outwards, if there is room."""
        if _is_dying(created, frame):
            return  # no code can use it any more
        slot = self._slot()
        if slot is None:
            return
        count = self._write(slot, created, frame)
        if not count and self._replaces:
            count = self._write(slot, created, _frame_that_leaves(created))
        if not count and not self._replaces:
            self._free.append(slot)
            return
        self._counts[slot] = count
        self._clock[0] += 1
        self._stamps[slot] = self._clock[0]
        self._references[slot] = weakref.ref(created, self._forget)

    def lines_of(self, created: object) -> list[Frame] | None:
        """Return the lines of an object, innermost first, None if it has no record.

        If it was recorded twice, return the lines of the second time.
        """
        slots = [slot for slot, living in self._living() if living is created]
        return self._read(max(slots, key=self._stamps.__getitem__)) if slots else None

    def only_lines(self) -> list[Frame] | None:
        """Return the lines of the only object alive, None if there is not just one."""
        slots = [slot for slot, _ in self._living()]
        return self._read(slots[0]) if len(slots) == 1 else None

    def living(self) -> list[Any]:
        """Return the objects that are alive."""
        return [living for _, living in self._living()]

    def _slot(self) -> int | None:
        # pop and append are atomic, so no lock is needed; a fork could leave one held
        with suppress(IndexError):
            return self._free.pop()
        if not self._replaces:
            return None
        self.replaced += 1
        slot = min(range(len(self._stamps)), key=self._stamps.__getitem__)
        self._references[slot] = None
        return slot

    def _write(self, slot: int, created: Any, frame: FrameType | None) -> int:
        count = 0
        for file, line in _users_lines(created, frame):
            self._files[slot * DEPTH + count] = file
            self._lines[slot * DEPTH + count] = line
            count += 1
            if count == DEPTH:
                break
        return count

    def _read(self, slot: int) -> list[Frame]:
        at = range(slot * DEPTH, slot * DEPTH + self._counts[slot])
        return [(self._files[place], self._lines[place]) for place in at]

    def _living(self) -> Iterator[tuple[int, Any]]:
        for slot, reference in enumerate(self._references):
            living = None if reference is None else reference()
            if living is not None:
                yield slot, living

    def _drop(self, reference: weakref.ref[Any]) -> None:
        if reference in self._references:  # dead references compare by identity
            slot = self._references.index(reference)
            self._references[slot] = None
            self._free.append(slot)


_CLOSED = _Records(MOST_CLOSED, replaces=True)


def _users_lines(created: Any, frame: FrameType | None) -> Iterator[Frame]:
    """Yield the lines of user code from a frame outwards, up to our own loop."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file in _CALLERS:
            return
        if is_users(file) and not _is_own(created, frame):
            yield file, frame.f_lineno
        frame = frame.f_back


def _is_own(created: Any, frame: FrameType) -> bool:
    """Return whether a frame runs a method of the object, such as a subclass's own."""
    code = frame.f_code
    if code.co_name not in _OWN_METHODS or not code.co_argcount:
        return False
    return frame.f_locals.get(code.co_varnames[0]) is created


def _is_dying(session: Any, frame: FrameType | None) -> bool:
    """Return whether a session is closed by its own ``__del__``."""
    while frame is not None and frame.f_code.co_name == "close":
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "__del__":
        return False
    return frame.f_locals.get("self") is session


def _frame_that_leaves(session: Any) -> FrameType | None:
    """Return the frame that leaves the ``with`` block of a session.

    If the block fails, TensorFlow closes the session in another thread, while this
    frame waits.
    """
    for outermost in sys._current_frames().values():
        frame: FrameType | None = outermost
        while frame is not None:
            if frame.f_code.co_name == "__exit__" and _is_own(session, frame):
                return frame
            frame = frame.f_back
    return None


class _Importer:
    """Notices each import: a finder for ``sys.meta_path`` that never finds a module."""

    def __init__(self, notice: Callable[[], None]) -> None:
        self._notice = notice

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Notice an import of TensorFlow: modules before it may be complete by now."""
        if name.startswith("tensorflow"):
            self._notice()
