"""Call a body so that in each pass one TensorFlow call fails, and note what follows.

The error takes its way through the body. Afterwards the scopes that it left open are
put back, so that the next pass begins like the first; what they were is noted. What the
body leaves otherwise is read by the probes, as after any iteration.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import builtins
import sys
from array import array
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import cast

from pytest_tfleak.run.faults import Call
from pytest_tfleak.run.faults import Faults
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.interrupts import used_up
from pytest_tfleak.run.isolation import Leftover
from pytest_tfleak.run.isolation import Surroundings
from pytest_tfleak.run.swallowed import Swallowed
from pytest_tfleak.run.swallowed import where_swallowed
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import is_users

#: How many passes are remembered; the last ones are asked for.
_MOST_PASSES = 1 << 14
_MOST_IN_CHAIN = 50
#: What a body raises that is not the error: its type, and the line that raised it.
OwnError = tuple[str, Frame | None]


@dataclass(slots=True)
class Aftermath:
    """What followed, each with the numbers of the calls that failed before it."""

    calls: dict[int, Call] = field(
        default_factory=dict
    )  # as they were when they failed
    swallowed: dict[Swallowed, set[int]] = field(default_factory=dict)
    #: The test's own errors: after the call had failed, and before it was reached.
    own: dict[OwnError, set[int]] = field(default_factory=dict)
    damaged: dict[OwnError, set[int]] = field(default_factory=dict)
    #: The lines of errors that were raised while that of the call was on its way.
    raised: dict[tuple[Frame, ...], set[int]] = field(default_factory=dict)
    left: dict[tuple[str, Frame | None], tuple[Leftover, set[int]]] = field(
        default_factory=dict
    )
    unreached: set[int] = field(default_factory=set)


class FailingPasses:
    """The body to repeat: each of its calls is a pass in which one call fails.

    ``targets`` are the numbers of the calls, in turn. The body enters ``faults`` where
    its own part begins, after fixtures that are set up for the call.
    """

    def __init__(
        self,
        body: Callable[[], object],
        faults: Faults,
        targets: Sequence[int],
        endings: Endings,
    ) -> None:
        self._body = body
        self._faults = faults
        self._targets = tuple(targets)
        self._endings = endings
        self._turn = array("q", [0])  # a large int in an attribute would take memory
        self._passes = array("q", [0]) * _MOST_PASSES
        self.aftermath = Aftermath()
        #: Returns the lines that created a session or graph.
        self.created_at: Callable[[object], Sequence[Frame]] = lambda _: ()

    def begin(self) -> None:
        """Begin again with the first of the calls."""
        self._turn[0] = 0

    def last(self, count: int) -> list[int]:
        """Return which calls were to fail in the last passes."""
        end = self._turn[0]
        return [self._passes[k % _MOST_PASSES] for k in range(end - count, end)]

    def __call__(self) -> None:
        """Run the next pass. Raises only what ends the whole run."""
        __tracebackhide__ = True
        turn = self._turn[0]
        target = self._targets[turn % len(self._targets)]
        self._passes[turn % _MOST_PASSES] = target
        self._turn[0] = turn + 1
        surroundings = Surroundings(only_recent=True)
        try:
            self._faults.aim(target)
            self._body()
        except BaseException as error:
            # while the error is alive: a graph's scope that nobody left ends by itself
            # once the frames are freed, but code that handles the error is still in it
            self._note_left(target, surroundings.restore(self.created_at))
            if not self._goes_on(error):
                raise
            self._note_error(target, error)
        else:
            self._note_success(target)
        finally:
            self._faults.forget()
            self._note_left(target, surroundings.restore(self.created_at))

    def _goes_on(self, error: BaseException) -> bool:
        """Return whether an error only ends this pass."""
        if self._endings.passes_through(error):
            return False
        return self._is_ours(error) or used_up(error) is None

    def _is_ours(self, error: BaseException) -> bool:
        raised = self._faults.raised
        return raised is not None and any(one is raised for one in _chain(error))

    def _note_error(self, target: int, error: BaseException) -> None:
        failed = self._faults.failed
        if failed is not None:
            self._note_call(failed)
        if self._is_ours(error) or self._endings.is_skip(error):
            if error is not self._faults.raised:
                lines = tuple(_lines_of(error))
                self.aftermath.raised.setdefault(lines, set()).add(target)
            return
        own = (type(error).__name__, _line_of(error))
        noted = self.aftermath.damaged if failed is None else self.aftermath.own
        noted.setdefault(own, set()).add(target)

    def _note_success(self, target: int) -> None:
        failed, raised = self._faults.failed, self._faults.raised
        if failed is None or raised is None:
            self.aftermath.unreached.add(target)
            return
        self._note_call(failed)
        with suppress(Exception):  # a note is not worth an error
            found = where_swallowed(raised)
            if found is not None:
                self.aftermath.swallowed.setdefault(found, set()).add(target)

    def _note_call(self, call: Call) -> None:
        known = self.aftermath.calls.get(call.number)
        if known is None or known != call:  # a new record would take memory each time
            self.aftermath.calls[call.number] = call

    def _note_left(self, target: int, leftovers: Sequence[Leftover]) -> None:
        for left in leftovers:
            if left.leak:
                at = (left.origin.file, left.origin.line) if left.origin else None
                _, numbers = self.aftermath.left.setdefault(
                    (left.kind, at), (left, set())
                )
                numbers.add(target)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and all that it came from or that it is a group of."""
    pending, seen = [error], set[int]()
    while pending and len(seen) < _MOST_IN_CHAIN:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        pending += [o for o in _before(one) if issubclass(type(o), BaseException)]


def _before(error: BaseException) -> Iterator[Any]:
    """Yield what an error came from, and what it is a group of.

    All is read by Python's own classes: a class of the user's may define an attribute
    of the same name, which may be anything, and may raise.
    """
    yield _read(error, BaseException, "__cause__")
    yield _read(error, BaseException, "__context__")
    groups = getattr(builtins, "BaseExceptionGroup", None)  # since Python 3.11
    if groups is not None and issubclass(type(error), groups):
        yield from _read(error, groups, "exceptions")
    doctest = sys.modules.get("doctest")
    if doctest is not None and type(error) is doctest.UnexpectedException:
        yield cast(Any, error).exc_info[1]


def _read(error: BaseException, cls: type, name: str) -> Any:
    return vars(cls)[name].__get__(error, type(error))


def _line_of(error: BaseException) -> Frame | None:
    """Return the innermost line of user code that an error passed through."""
    return next(iter(_lines_of(error)[-1:]), None)


def _lines_of(error: BaseException) -> list[Frame]:
    """Return the lines of user code that an error passed through, innermost last."""
    lines: list[Frame] = []
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if is_users(file):
            lines.append((file, trace.tb_lineno))
        trace = trace.tb_next
    return lines
