"""Put back the process-wide TensorFlow state that a test found, and say what it left.

What the test entered is popped again; what was there before it (a fixture's session)
stays. First, what could act later is disarmed: sessions and the suspended generators
behind ``Graph.as_default()`` pop once more when they die. Then state is written back.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from types import GeneratorType
from typing import Any

_MISSING: Any = object()

# Owner -> attribute, value in a fresh process, kind, noun. No kind: put back silently.
_WATCHED: dict[str, tuple[tuple[str, Any, str, str], ...]] = {
    "interpreter": (
        ("last_value", _MISSING, "stored_exception", "sys.last_value"),
        *((f"last_{part}", _MISSING, "", "") for part in ("exc", "type", "traceback")),
    ),
    "graphs": (("stack", ..., "graph_stack", "default-graph stack"),),
    "sessions": (("stack", ..., "session_stack", "default-session stack"),),
    "switches": (("stack", ..., "eager_mode", "switch of the eager mode"),),
    "context": (
        # Written as an attribute: tf.random.set_seed() clears the eager kernel cache.
        ("_seed", None, "seed", "the global seed"),
        ("_rng", _MISSING, "", ""),
    ),
    "functions": (("RUN_FUNCTIONS_EAGERLY", False, "", ""),),
    "thread": (
        ("is_eager", ..., "eager_mode", "switch of the eager mode"),
        ("device_name", ..., "device_scope", "device scope"),
        ("device_spec", ..., "", ""),
        ("scope_name", ..., "name_scope", "name scope"),
    ),
    "graph": (
        ("_distribution_strategy_stack", ..., "strategy", "strategy scope"),
        ("_global_distribute_strategy_scope", None, "", ""),
        ("_variable_creator_stack", ..., "creator_scope", "variable-creator scope"),
        ("_control_dependencies_stack", ..., "control_scope", "dependency scope"),
        ("_device_function_stack", ..., "device_scope", "device scope"),
        ("_name_stack", ..., "name_scope", "name scope"),
        ("_seed", None, "seed", "the seed of the default graph"),
    ),
}
_SETTINGS = ("stored_exception", "seed")
# What one kind brings along is not a mistake of its own.
_BRINGS = {"graph_stack": {"eager_mode"}, "strategy": {"creator_scope", "device_scope"}}
# Module, class, what its methods call it, where its C++ object is.
_RECORDERS = (
    ("backprop", "GradientTape", "tape", lambda tape: tape._tape._tape),
    ("forwardprop", "ForwardAccumulator", "accumulator", lambda it: it._accumulator),
)
_State = tuple[Any, list[int] | None]  # a value and, of a stack, its entries' ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One kind of state that a test changed and did not put back."""

    kind: str
    count: int
    text: str
    leak: bool


class Surroundings:
    """Remember the process-wide state that a test found, and put it back."""

    def __init__(self) -> None:
        """Remember the state that this thread sees now."""
        tapes, others = _Recorders(), _Attributes()
        self._left = _guarded(tapes.remember, others.remember)
        self._steps = [tapes.undo, others.find, others.disarm, others.undo]

    def restore(self) -> tuple[Leftover, ...]:
        """Put everything back and say what was left; never raise."""
        steps, self._steps = self._steps, []
        return (*self._left, *_guarded(*steps)) if steps else ()


def _guarded(*steps: Callable[[], Iterator[Leftover] | None]) -> list[Leftover]:
    """Run all steps; what fails is a leftover, a private name that TF lacks is not."""
    left: list[Leftover] = []
    for step in steps:
        try:
            left.extend(step() or ())
        except AttributeError:
            pass
        except Exception as error:
            text = f"the state could not be put back: {type(error).__name__}: {error}"
            left.append(Leftover(kind="unrestored", count=1, text=text, leak=False))
    return left


def _suspended_scopes() -> list[Any]:
    """List TensorFlow's suspended generators: they leave a scope when they die."""
    return [
        found
        for found in _objects()
        if type(found) is GeneratorType
        and inspect.getgeneratorstate(found) == inspect.GEN_SUSPENDED
        and "tensorflow" in found.gi_code.co_filename
    ]


def _objects() -> list[Any]:
    """List all tracked objects, frozen too: 20 ms, only where something is off."""
    gc.unfreeze()
    return gc.get_objects()


def _tf(name: str) -> Any:
    """Return a module of TensorFlow's if it is imported, else None."""
    return sys.modules.get("tensorflow.python." + name)


def _leftover(kind: str, count: int, noun: str) -> Leftover:
    many = count > 1
    if kind in _SETTINGS:
        text = f"{noun} was changed and not put back"
    elif noun.endswith(" stack"):
        text = f"{count} {'entries were' if many else 'entry was'} left on the {noun}"
    else:
        text = f"{count} {noun}{'s were' if many else ' was'} never left"
    return Leftover(kind=kind, count=count, text=text, leak=kind not in _SETTINGS)


class _Recorders:
    """The gradient tapes and forward accumulators that record on this thread.

    TensorFlow keeps the active ones in a C++ set that cannot be listed, and the garbage
    collector does not know them. So pushes are noted, or no dropped tape is ever found.
    """

    def __init__(self) -> None:
        self._thread, self._empty = threading.get_ident(), True
        self._before: weakref.WeakSet[Any] = weakref.WeakSet()
        self._noted: dict[int, tuple[Any, Any, Any]] = {}
        self._hooks: list[tuple[Any, str, Any, Any]] = []

    def remember(self) -> None:
        if (api := _tf("pywrap_tfe")) is not None:
            self._empty = api.TFE_Py_TapeSetIsEmpty()
            for row in _RECORDERS:
                self._hook(row, "_push_" + row[2], self._note)
                self._hook(row, "_pop_" + row[2], self._forget)

    def undo(self) -> Iterator[Leftover]:
        for owner, name, original, hook in self._hooks:
            if owner.__dict__[name] is hook:
                setattr(owner, name, original)
        self._thread = -1  # a hook that another one wraps notes nothing more
        api = _tf("pywrap_tfe")
        if not self._hooks and not api.TFE_Py_TapeSetIsEmpty():
            self._note_living()  # TensorFlow was imported since
        for row, reference, handle in self._noted.values():
            name = f"TFE_Py_{row[1].removeprefix('Gradient')}Set"
            # Removing drops a reference even if nothing is removed, so add first.
            with suppress(Exception):
                getattr(api, name + "Add")(handle)
            getattr(api, name + "Remove")(handle)
            if (owner := reference()) is not None:
                owner._recording = False
        for word, count in Counter(row[2] for row, *_ in self._noted.values()).items():
            yield _leftover(word + "s", count, "gradient " + word)
        self._noted.clear()
        self._hooks.clear()  # they hold this object, and it holds them
        if self._empty and not api.TFE_Py_TapeSetIsEmpty():
            yield _leftover("tapes", 1, "gradient tape that still records")

    def _hook(self, row: Any, name: str, tell: Callable[[Any, Any], None]) -> None:
        owner = getattr(_tf("eager." + row[0]), row[1])
        original = getattr(owner, name)

        def hook(recorder: Any) -> None:
            original(recorder)
            if threading.get_ident() == self._thread:
                tell(row, recorder)

        setattr(owner, name, hook)
        self._hooks.append((owner, name, original, hook))

    def _note(self, row: Any, owner: Any) -> None:
        if owner not in self._before:
            handle = row[3](owner)
            self._noted[id(handle)] = (row, weakref.ref(owner), handle)

    def _forget(self, row: Any, owner: Any) -> None:
        if self._noted.pop(id(row[3](owner)), None) is None:
            self._before.add(owner)  # it was entered before, and may be again

    def _note_living(self) -> None:
        kinds = {getattr(_tf("eager." + row[0]), row[1]): row for row in _RECORDERS}
        for found in _objects():
            for kind, row in kinds.items():
                if issubclass(type(found), kind) and found._recording:
                    self._note(row, found)


class _Attributes:
    """The attributes in ``_WATCHED``; those of graphs hold the scopes that are open."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._entered: list[Any] = []
        self._before: dict[int, tuple[Callable[[], Any], dict[str, _State]]] = {}
        self._then: list[tuple[Any, str, _State]] = []
        self._scoped: Callable[[], Any] = lambda: None

    def remember(self) -> None:
        for kind, owner in _owners():
            values = {row[0]: _read(owner, row[0]) for row in _WATCHED[kind]}
            self._before[id(owner)] = (weakref.ref(owner), values)
            for name, fresh, what, _ in _WATCHED[kind]:
                now, scope = values[name], what and what not in _SETTINGS
                if scope and _differs(now, _fresh(name, now, fresh)):
                    self._known = self._known or weakref.WeakSet(_suspended_scopes())
                    if owner is _graphs()._global_default_graph:
                        self._scoped = weakref.ref(owner)

    def find(self) -> Iterator[Leftover]:
        left: dict[str, Leftover] = {}
        closed = False
        for kind, owner in _owners(self._before):
            reference, values = self._before.get(id(owner), (lambda: None, {}))
            values = values if reference() is owner else {}
            for name, fresh, what, noun in _WATCHED[kind]:
                now = _read(owner, name)
                then = values.get(name) or _fresh(name, now, fresh)
                kept = _kept(now[1], then[1])
                # A graph of before that the test itself left is not entered again.
                closed |= kind == "graphs" and kept < len(then[1] or ())
                if name == "is_eager" and closed:
                    continue
                self._then.append((owner, name, then))
                count = 1 if now[1] is None else len(now[1]) - kept
                if count and _differs(now, then):
                    if kind in ("graphs", "sessions"):
                        self._entered += now[0][kept:]
                    elif kind == "graph":
                        self._entered.append(owner)
                    if what and what not in left:
                        left[what] = _leftover(what, count, noun)
        brought = {what for kind in left for what in _BRINGS.get(kind, ())}
        left = {what: left[what] for what in left if what not in brought}
        if "eager_mode" in left:
            self._entered.append(_tf("eager.context")._context)
        return iter(left.values())

    def disarm(self) -> None:
        """Close the sessions and generators that would pop the stacks once more."""
        for owner in reversed(self._entered):
            if hasattr(owner, "_explicitly_closed"):  # an InteractiveSession
                with suppress(Exception):
                    owner.close()
        targets = {id(owner) for owner in self._entered}
        for scope in _suspended_scopes() if targets else ():
            if scope not in self._known and scope.gi_frame is not None:
                names = scope.gi_frame.f_locals
                if id(names.get("default", names.get("self"))) in targets:
                    with suppress(Exception):
                        scope.close()

    def undo(self) -> None:
        for owner, name, then in self._then:
            value, entries = then
            if value is _MISSING and hasattr(owner, name):
                delattr(owner, name)
            elif _differs(_read(owner, name), then):
                if entries is not None:
                    listed: Any = getattr(value, "_stack", value)
                    del listed[_kept([*map(id, listed)], entries) :]
                setattr(owner, name, value)
        if (graph := self._scoped()) is not None:
            # Clearing the Keras session took a fixture's scopes away with the graph.
            _graphs()._global_default_graph = graph


def _owners(known: dict[int, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield what has watched attributes: of the graphs, the known and the global."""
    context = getattr(_tf("eager.context"), "_context", None)  # None until it is needed
    found = {
        "interpreter": sys,
        "graphs": _graphs(),
        "sessions": getattr(_tf("framework.stack"), "_default_session_stack", None),
        "switches": getattr(context, "context_switches", None),
        "context": context,
        "thread": getattr(context, "_thread_local_data", None),
        "functions": _tf("eager.polymorphic_function.eager_function_run"),
    }
    yield from ((kind, owner) for kind, owner in found.items() if owner is not None)
    last = getattr(_graphs(), "_global_default_graph", None)
    for graph in (*getattr(_graphs(), "stack", ()), last):
        if graph is not None and (not known or id(graph) in known or graph is last):
            yield "graph", graph


def _graphs() -> Any:
    return getattr(_tf("framework.ops"), "_default_graph_stack", None)


def _read(owner: Any, name: str) -> _State:
    """Return an attribute and, if it is a stack, the identities of its entries."""
    value = getattr(owner, name, _MISSING)
    listed = getattr(value, "_stack", value)  # of a TraceableStack
    return value, [*map(id, listed)] if isinstance(listed, list) else None


def _fresh(name: str, now: _State, fresh: Any) -> _State:
    """Return what an attribute is in a fresh process."""
    value, entries = now
    module = _tf("eager.context")
    if value is _MISSING or fresh is not ...:
        return (value if value is _MISSING else fresh), None
    if entries is not None:
        # The switch to eager mode at the bottom is there from the start.
        bottom = value[0] if entries and name == "stack" else None
        is_switch = getattr(bottom, "enter_context_fn", None) is module.eager_mode
        return value, entries[: int(is_switch)]
    if name == "is_eager":
        return module.default_execution_mode == module.EAGER_MODE, None
    return type(value)(), None


def _differs(now: _State, then: _State) -> bool:
    """Compare stacks by their entries, plain values by equality, others by identity."""
    if now[1] is not None:
        return bool(now[1] != then[1] or (now[1] and now[0] is not then[0]))
    # A seed may be an array, which does not compare to one truth.
    plain = isinstance(now[0], (int, str)) or hasattr(now[0], "device_index")
    return now[0] is not then[0] and not (plain and now[0] == then[0])


def _kept(now: list[int] | None, then: list[int] | None) -> int:
    """Count the entries at the bottom of a stack that were there before."""
    return sum(1 for _ in takewhile(bool, map(int.__eq__, now or (), then or ())))
