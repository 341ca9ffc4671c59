"""Call a body once, as pytest would, and find what it leaves behind.

What a call made and did not end is left: sessions, graphs, threads, open descriptors
and child processes. Only what a line of user code led to counts, with that line. What
modules make while they are imported does not: a test may be the first to import them.

Looking must cost next to nothing where nothing is left: hooks record what is made, and
the objects that existed before are hidden from the collector while the body runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from time import perf_counter
from time import sleep
from typing import Any

from pytest_tfleak.probes.census import Census
from pytest_tfleak.run.confirm import MOMENT
from pytest_tfleak.run.leftovers import ids_reachable
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.run.system_log import SystemLog
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import is_import
from pytest_tfleak.user_code import is_users

_POLL = 0.02  # seconds between two looks at threads, descriptors and processes


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
        #: What the call has added to the process; it can be asked after the call, too.
        self.system = SystemLog(audits=True)
        #: How long the body took, in seconds, and how often it returned.
        self.body_seconds, self.calls = 0.0, 0

    def run(self) -> Left:
        """Call the body, and return what it left. Raises what the body raises."""
        __tracebackhide__ = True
        census = Census()
        self._log.watch()
        try:
            census.hide()
            with self.system:
                for _ in range(self._calls):
                    started = perf_counter()
                    self._body()
                    self.body_seconds += perf_counter() - started
                    self.calls += 1
                return self._look(census)
        finally:
            census.thaw()

    def _look(self, census: Census) -> Left:
        left = self._find()
        if left.counts():
            left = Left()  # the fixtures may free it
            outlasting = self._tear_down()
            census.thaw()  # some of them may be garbage now
            gc.collect()
            left = self._find(waits=True)
            _without_those_kept(left, outlasting)
        return left

    def _find(self, *, waits: bool = False) -> Left:
        """Return what is left; ``waits`` gives threads and processes time to end."""
        ends = perf_counter() + MOMENT
        while True:
            left = Left()
            if self._made():
                gc.collect()  # it only looks at what the call made
            for signal, made in self._made():
                _add_unless_imported(left, signal, made, self._log.created_at(made))
            for found in self.system.left():
                _add_unless_imported(left, found.signal, found.made, found.lines)
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
    if frames and not is_import(frames):
        left.add(signal, made, frames)


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


#: The signals of what runs, and is not freed when its object is.
_RUNNING = ("process.threads", "process.children")
