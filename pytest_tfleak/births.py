"""Which lines of the user's made and closed sessions and graphs, noted as it happens.

Lines of origin are found by a few more iterations under tracemalloc, which see nothing
of what was made once, in the first call; and a session that is used after its close
does not say who closed it. What is noted lies in arrays that are made beforehand, and
goes with the object: a body that makes and drops sessions leaves nothing here.

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
from types import FrameType
from typing import Any
from typing import NamedTuple

from pytest_tfleak.diagnosis.origins import Frame
from pytest_tfleak.diagnosis.origins import is_users
from pytest_tfleak.diagnosis.origins import origin_of
from pytest_tfleak.loop import Loop
from pytest_tfleak.verdict import Origin

DEPTH = 8  # lines of the user's, the innermost first
MOST_BORN, MOST_CLOSED = 32, 16
_PYTHON = "tensorflow.python."
_FUNCTION_GRAPHS = {"FuncGraph", "_FuncGraph"}  # one for each trace: not the user's
_LOOP = Loop.__init__.__code__.co_filename
_OWN_METHODS = {"__init__", "__exit__", "close"}

_IsNoted = Callable[[Any], bool]


class Births:
    """Notes who makes sessions and graphs, and who closes sessions, until ``stop``.

    What closed a session is remembered for the tests that come after: they may use it.
    """

    def __init__(self) -> None:
        self._born = _Notes(MOST_BORN, replaces=False)
        self._closed = _CLOSED
        self._replaced_before = _CLOSED.replaced
        self.is_on = True
        self._pending = [
            _Target("client.session", "BaseSession", "__init__", self._born, _always),
            _Target("framework.ops", "Graph", "__init__", self._born, _is_plain),
            _Target("client.session", "BaseSession", "close", self._closed, _is_open),
            _Target(
                "training.monitored_session",
                "_MonitoredSession",
                "_close_internal",
                self._closed,
                _is_monitored_open,
            ),
        ]
        self._hooked: list[tuple[_Target, type, Any, Any]] = []
        self._importer: _Importer | None = None

    def watch(self) -> None:
        """Note from now on, or from the moment at which TensorFlow is imported."""
        for target in self._pending[:]:
            module = sys.modules.get(_PYTHON + target.module)
            owner = getattr(module, target.owner, None)
            if owner is not None:
                self._pending.remove(target)
                if target.method in owner.__dict__:
                    original = owner.__dict__[target.method]
                    hook = _hook(original, target, owner, self)
                    setattr(owner, target.method, hook)
                    self._hooked.append((target, owner, original, hook))
        if self._pending and self._importer is None:
            self._importer = _Importer(self.watch)
            sys.meta_path.insert(0, self._importer)

    def stop(self) -> None:
        """Take all hooks off, and forget who made what."""
        self.is_on = False  # a hook that another one wraps notes nothing more
        self._pending.clear()
        self._born = _Notes(0, replaces=False)
        for target, owner, original, hook in self._hooked:
            if owner.__dict__.get(target.method) is hook:
                setattr(owner, target.method, original)
        self._hooked.clear()
        if self._importer in sys.meta_path:
            sys.meta_path.remove(self._importer)
        self._importer = None

    def frames_of(self, made: object) -> list[Frame]:
        """Return the user's lines that made a session or graph, or []."""
        return self._born.lines_of(made) or []

    def origin_of(self, made: object) -> tuple[Origin | None, tuple[Origin, ...]]:
        """Return the line that made a session or graph, and the lines above it."""
        return origin_of(self.frames_of(made))

    def closed_at(self, session: object) -> list[Frame] | None:
        """Return the user's lines that closed a session, None if no close was noted."""
        return self._closed.lines_of(session)

    def only_closed(self) -> list[Frame] | None:
        """Return the lines that closed the one closed session that is still alive."""
        return self._closed.only_lines()

    @property
    def has_forgotten(self) -> bool:
        """Say whether there were so many closes that some of them are not known."""
        return self._closed.replaced > self._replaced_before


class _Target(NamedTuple):
    """A method to be hooked, and where its calls are noted."""

    module: str
    owner: str
    method: str
    notes: _Notes
    is_noted: _IsNoted


def _hook(original: Any, target: _Target, owner: type, births: Births) -> Any:
    name, notes, is_noted = target.method, target.notes, target.is_noted

    @wraps(original)
    def hook(made: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if not births.is_on and owner.__dict__.get(name) is hook:
            # Another one wrapped this hook when it was to be taken off, and has put it
            # back since.
            setattr(owner, name, original)
        noted = births.is_on and is_noted(made)
        result = original(made, *args, **kwargs)
        if noted:
            with suppress(Exception):  # whatever goes wrong is not the test's failure
                notes.add(made, sys._getframe(1))
        return result

    return hook


def _always(_: Any) -> bool:
    return True


def _is_plain(graph: Any) -> bool:
    # by name: the module of function graphs may not be there yet
    return not any(cls.__name__ in _FUNCTION_GRAPHS for cls in type(graph).__mro__)


def _is_open(session: Any) -> bool:
    return not _attribute(session, "_closed")


def _is_monitored_open(session: Any) -> bool:
    return _attribute(session, "_sess") is not None


def _attribute(instance: Any, name: str) -> Any:
    # not getattr: a subclass of the user's may run code there
    return object.__getattribute__(instance, "__dict__").get(name)


class _Notes:
    """Lines of the user's, by object, in a fixed number of slots."""

    def __init__(self, size: int, *, replaces: bool) -> None:
        self._replaces = replaces
        self._references: list[weakref.ref[Any] | None] = [None] * size
        self._free = list(range(size))[::-1]
        self._files = [""] * (size * DEPTH)
        self._lines = array("q", [0] * (size * DEPTH))
        self._counts = array("q", [0] * size)
        self._stamps = array("q", [0] * size)
        self._forget = self._drop  # one for all: a bound method is an object
        self._clock = array("q", [0])  # a large int in an attribute is memory
        #: How often the lines of a living object made room for others.
        self.replaced = 0

    def add(self, made: Any, frame: FrameType | None) -> None:
        """Note the user's lines from a frame outwards, if there is room."""
        if _is_dying(made, frame):
            return  # and nobody can use it any more
        slot = self._slot()
        if slot is None:
            return
        count = self._write(slot, made, frame)
        if not count and self._replaces:
            count = self._write(slot, made, _frame_that_leaves(made))
        if not count and not self._replaces:
            self._free.append(slot)
            return
        self._counts[slot] = count
        self._clock[0] += 1
        self._stamps[slot] = self._clock[0]
        self._references[slot] = weakref.ref(made, self._forget)

    def lines_of(self, made: object) -> list[Frame] | None:
        """Return the lines of an object, the innermost first, None if there are none.

        An object that was noted twice has those of the last time.
        """
        slots = [slot for slot, living in self._living() if living is made]
        return self._read(max(slots, key=self._stamps.__getitem__)) if slots else None

    def only_lines(self) -> list[Frame] | None:
        """Return the lines of the one object that is alive, None if there are more."""
        slots = [slot for slot, _ in self._living()]
        return self._read(slots[0]) if len(slots) == 1 else None

    def _slot(self) -> int | None:
        # A pop and an append are one step each: no lock, which a fork could leave held
        with suppress(IndexError):
            return self._free.pop()
        if not self._replaces:
            return None
        self.replaced += 1
        slot = min(range(len(self._stamps)), key=self._stamps.__getitem__)
        self._references[slot] = None
        return slot

    def _write(self, slot: int, made: Any, frame: FrameType | None) -> int:
        count = 0
        for file, line in _users_lines(made, frame):
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
        if reference in self._references:  # dead ones are compared by identity
            slot = self._references.index(reference)
            self._references[slot] = None
            self._free.append(slot)


_CLOSED = _Notes(MOST_CLOSED, replaces=True)


def _users_lines(made: Any, frame: FrameType | None) -> Iterator[Frame]:
    """Yield the user's lines from a frame outwards, up to our own loop."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file == _LOOP:
            return
        if is_users(file) and not _is_own(made, frame):
            yield file, frame.f_lineno
        frame = frame.f_back


def _is_own(made: Any, frame: FrameType) -> bool:
    """Say whether a method of the object itself runs: a line of a user's subclass."""
    code = frame.f_code
    if code.co_name not in _OWN_METHODS or not code.co_argcount:
        return False
    return frame.f_locals.get(code.co_varnames[0]) is made


def _is_dying(session: Any, frame: FrameType | None) -> bool:
    """Say whether a session is closed because it is dropped."""
    while frame is not None and frame.f_code.co_name == "close":
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "__del__":
        return False
    return frame.f_locals.get("self") is session


def _frame_that_leaves(session: Any) -> FrameType | None:
    """Return the frame that leaves a session's block and waits for it to be closed.

    TensorFlow closes a session whose block fails in a thread of its own.
    """
    for outermost in sys._current_frames().values():
        frame: FrameType | None = outermost
        while frame is not None:
            if frame.f_code.co_name == "__exit__" and _is_own(session, frame):
                return frame
            frame = frame.f_back
    return None


class _Importer:
    """Stands in ``sys.meta_path``, finds nothing, and notices each import."""

    def __init__(self, notice: Callable[[], None]) -> None:
        self._notice = notice

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Notice that a module is imported; earlier ones may be complete by now."""
        if name.startswith("tensorflow"):
            self._notice()
