"""Judge tests that leave cleaning up to their fixtures: what these free is no leak.

The fixtures of a repeated body are set up once, so objects that only their teardown
frees pile up. If growth was found, a few iterations with a teardown after each show
whether that is the reason. If so, the body is judged again, with its fixtures set up
and torn down in each iteration.

Objects that are freed only because a fixture's own value is dropped prove nothing:
every leak ends when its holder is dropped. So the values of fixtures that the body
makes grow are kept during these iterations.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import builtins
import io
import sys
import types
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Any
from typing import NamedTuple
from typing import Protocol

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import judge
from pytest_tfleak.known import PART
from pytest_tfleak.known import is_lowered
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import left_nothing
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.run.confirm import grows_less
from pytest_tfleak.run.confirm import measure_again
from pytest_tfleak.run.guard import LimitReached
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.run.own_bytes import measure_of
from pytest_tfleak.run.own_bytes import referents_of
from pytest_tfleak.signals import is_size
from pytest_tfleak.tf import names
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import limit_of

#: Since Python 3.11. pytest raises one if several teardowns fail.
_GROUPS: Any = getattr(builtins, "BaseExceptionGroup", ())
_builtins = types.FunctionType.__dict__["__builtins__"].__get__
_flags = type.__dict__["__flags__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__

#: How many iterations show which values grow, and which growth a teardown ends.
_WATCHED, _TRIED = 5, 10
#: With room for fewer than so many times the former, two iterations must do.
_ROOM = 4
_LIBRARIES = ("tensorflow", "keras", "tf_keras")
#: A value grows if its text, buffers and arrays take this share of the memory that
#: does.
_SHARE = 0.1
_WARMUP = 2
#: Iterations with a teardown that are enough if there is no time for more.
_FEWEST = 3
#: How many objects are counted below one value.
_MOST_BELOW = 1_000_000
#: Types of objects that do not belong to a value that refers to them. A class made by a
#: function does: its methods may hold what that function made.
_BORDERS = (type, types.ModuleType, types.FrameType)
#: Types of objects without content, by id: hashing a type may run users' code.
_NUMBERS = frozenset(map(id, (int, float, complex, bool, type(None))))
#: Types of objects that hold no others. A file in memory holds its bytes since Python
#: 3.13, but they are measured with it.
_LEAVES = _NUMBERS | {id(str), id(bytes), id(io.BytesIO)}
#: In a type's flags: it was made while Python ran.
_IS_HEAP_TYPE = 1 << 9
_MOST_NAMED = 3
_NO_TIME = "{left_nothing} to see whether the teardown of fixtures takes it away"


class Teardown(Protocol):
    """Fixtures that can be set up and torn down for each call of a body."""

    def names(self) -> Sequence[str]:
        """Return the names of the fixtures that clean up."""

    def values(self) -> Mapping[str, object]:
        """Return the values of the fixtures for the next call, by name."""

    def begin(self, keep: Collection[str]) -> None:
        """Set up and tear down for each call; keep the values of some fixtures."""

    def stop_keeping(self) -> None:
        """Release the values that were kept, and keep no more."""

    def end(self) -> None:
        """Set up once again, as before ``begin``. Raises what the setup raises."""


def judge_torn_down(
    loop: Loop,
    plan: Plan,
    endings: Endings,
    teardown: Teardown,
    end: Callable[[], None],
) -> list[str]:
    """Judge the body again if the teardown ends growth; return notes.

    If it does not, ``end`` ends the trial. Raises what the body raises only if that
    ends the run.
    """
    __tracebackhide__ = True
    found = loop.trace
    findings = [f for f in judge(found, plan).findings if f.per_iteration is not None]
    if not findings:
        return []
    cleaning = teardown.names()
    unconfirmed: str | None = None
    notes: dict[str, None] = {}  # in order, each once
    try:
        is_taken_away = _is_taken_away(loop, teardown, findings)
        if is_taken_away:
            _measure_torn_down(loop, plan)
            if not loop.is_out_of_time and _is_better(found, loop.trace, plan):
                return [_describe(cleaning)]
        if is_taken_away is None or (is_taken_away and loop.is_out_of_time):
            unconfirmed = _NO_TIME.format(left_nothing=left_nothing(found.limit))
    except LimitReached:
        left = left_nothing(loop.guard.stopped.limit)
        unconfirmed = _NO_TIME.format(left_nothing=left)
    except BaseException as error:
        if _ends_the_run(error, endings):
            raise
        notes[endings.cut_short('The run with repeat="test"', error)] = None
    try:
        end()
    except BaseException as error:
        if _ends_the_run(error, endings):
            raise
        notes[endings.cut_short('The run with repeat="test"', error)] = None
    loop.go_back_to(found)
    loop.trace.unconfirmed = unconfirmed
    return list(notes)


def _ends_the_run(error: BaseException, endings: Endings) -> bool:
    """Return whether an error, or one in its group, is none of the fixtures' own."""
    if isinstance(error, _GROUPS):
        return any(_ends_the_run(inner, endings) for inner in error.exceptions)
    return isinstance(error, endings.interrupts) or endings.is_from_outside(error)


def _is_taken_away(
    loop: Loop, teardown: Teardown, findings: Sequence[Finding]
) -> bool | None:
    """Return whether growth is smaller with a teardown after each call.

    None: there is no time to find out.
    """
    before = _sizes_of(teardown.values())
    times = _WATCHED if loop.guard.iterations_left > _ROOM * _WATCHED else 2
    watched = loop.run_again(warmup=0, iterations=times, deadline=loop.deadline)
    if watched.measured < times:
        return None
    values = teardown.values()
    native = {name for name, value in values.items() if _is_tensorflows(value)}
    after = _sizes_of(values)
    values = {}
    memory = [f.per_iteration or 0.0 for f in findings if is_size(f.signal, f.unit)]
    least = _SHARE * times * min(memory, default=inf)
    grown = {
        name for name, size in after.items() if size.exceeds(before.get(name), least)
    }
    teardown.begin(keep=grown | native)
    try:
        tried = loop.run_again(
            warmup=_WARMUP, iterations=_TRIED, deadline=loop.deadline
        )
    finally:
        teardown.stop_keeping()
    if tried.measured < _FEWEST:
        return None
    lowered = {
        f.signal
        for f in findings
        if f.per_iteration is not None
        and is_lowered(f.per_iteration, _rate(tried, f.signal), limit_of(f), PART)
    }
    # memory goes with what is counted: if that stays, it is what leaks
    counted = {f.signal for f in findings if not is_size(f.signal, f.unit)}
    return bool(lowered) and counted <= lowered


def _measure_torn_down(loop: Loop, plan: Plan) -> None:
    trace = loop.trace.restarted(room=_WARMUP)
    for _ in range(_WARMUP):
        loop.iterate(trace)
        trace.warmed_up += 1
    measure_again(loop, plan, trace)


def _is_better(before: Trace, after: Trace, plan: Plan) -> bool:
    """Return whether nothing leaks any more, or something leaks less."""
    return not is_suspicious(after, plan) or grows_less(before, after, plan)


def _rate(trace: Trace, signal: str) -> float:
    series = trace.series(signal)[max(0, trace.warmed_up - 1) :]
    known = [value for value in series if value is not None]
    return (known[-1] - known[0]) / (len(known) - 1) if len(known) > 1 else 0.0


class _Size(NamedTuple):
    """How many references a value holds, and how many bytes of text, buffers, arrays.

    If there is too much to count, there are ``inf`` references.
    """

    references: float = 0
    content: int = 0

    def exceeds(self, before: _Size | None, least: float) -> bool:
        """Return whether it grew, in bytes by ``least`` or more."""
        before = before or _Size()
        return (
            self.references == inf
            or self.references > before.references
            or self.content - before.content >= least
        )


def _sizes_of(values: Mapping[str, object]) -> dict[str, _Size]:
    return {name: _size_of(value) for name, value in values.items()}


def _is_tensorflows(value: object) -> bool:
    """Return whether TensorFlow or Keras made a value, whose growth may be in C++."""
    modules = (type_name_of(cls)[0] for cls in mro_of(type(value)))
    return any(module.partition(".")[0] in _LIBRARIES for module in modules)


def _size_of(value: object) -> _Size:
    """Return what a value holds, directly and indirectly.

    The operations of a graph, which are in C++, count as references.
    """
    graph = names.GRAPH.find()
    measures = _Measures()
    seen: set[int] = {id(value)}
    pending: list[Any] = [value]
    count, content = 0, 0
    while pending:
        holder = pending.pop()
        content += measures.content_of(holder)
        if id(type(holder)) in _LEAVES:
            continue
        for held in _held_by(holder):
            count += 1
            if id(held) in seen or id(type(held)) in _NUMBERS or _is_border(held):
                continue
            seen.add(id(held))
            pending.append(held)
            if graph is not None and issubclass(type(held), graph):
                count += graph.num_operations(held)
        if len(seen) > _MOST_BELOW:
            return _Size(inf)
    return _Size(count, content)


class _Measures:
    """Measures text, buffers and arrays; finds out only once how, for each type."""

    def __init__(self) -> None:
        self._of_types: dict[int, Callable[[Any], int] | None] = {}
        self._types: list[type] = []  # kept alive, so that no id is reused

    def content_of(self, held: Any) -> int:
        """Return the bytes of a text, buffer or array, 0 for any other object."""
        kind = type(held)
        if id(kind) not in self._of_types:
            self._types.append(kind)
            self._of_types[id(kind)] = measure_of(kind)
        measure = self._of_types[id(kind)]
        if measure is not None:
            with suppress(Exception):  # for example, a buffer may be closed
                return measure(held)
        return 0


def _held_by(value: Any) -> Iterator[Any]:
    """Yield what an object refers to, its class included.

    A function does not hold its module's names, which it finds anew in each call.
    """
    yield type(value)  # some objects do not tell the collector about it
    if type(value) is types.FunctionType:
        outside = (id(value.__globals__), id(_builtins(value)))
        yield from (r for r in referents_of(value) if id(r) not in outside)
    else:
        yield from referents_of(value)


def _is_border(held: Any) -> bool:
    # not isinstance(): it may run code of the object
    if not issubclass(type(held), _BORDERS):
        return False
    return not (issubclass(type(held), type) and _is_local(held))


def _is_local(cls: type) -> bool:
    """Return whether a function made a class, which no module holds by its name."""
    if not _flags(cls) & _IS_HEAP_TYPE:
        return False
    name, module = _qualname(cls), _module(cls)
    if "<locals>" in name:
        return True
    if type(module) is not str or type(sys.modules.get(module)) is not types.ModuleType:
        return False
    return name.partition(".")[0] not in vars(sys.modules[module])


def _describe(fixtures: Sequence[str]) -> str:
    shown = ", ".join(fixtures[:_MOST_NAMED])
    if len(fixtures) > _MOST_NAMED:
        shown += f" and {len(fixtures) - _MOST_NAMED} more"
    return (
        f"Fixtures clean up what the body leaves ({shown}): judged with them set up "
        'and torn down in each iteration, as with repeat="test".'
    )
