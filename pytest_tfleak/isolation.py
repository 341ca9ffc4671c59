"""Put back the process-wide TensorFlow state that a test found, and say what it left.

A leaked ``InteractiveSession`` keeps every later test in graph mode, and a tape that is
entered and never left records them all. So what the test entered is popped again, and
what was there before it (a fixture's session, say) stays.

Undoing has two steps. First, what could act later is disarmed: sessions are closed, and
so are the suspended generators behind ``Graph.as_default()`` and its like, which pop
once more when they die. What they raise does not matter, because the second step then
writes the state back as it was remembered.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import weakref
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from types import GeneratorType
from typing import Any

_MISSING: Any = object()
_EMPTY: Any = object()
_AS_IT_IS: Any = object()

# Owner -> attribute, value in a fresh process, kind, noun. No kind: put back silently.
_WATCHED: dict[str, tuple[tuple[str, Any, str, str], ...]] = {
    "interpreter": (
        ("last_value", _MISSING, "stored_exception", "sys.last_value"),
        ("last_exc", _MISSING, "", ""),  # since Python 3.12
        ("last_type", _MISSING, "", ""),
        ("last_traceback", _MISSING, "", ""),
    ),
    "mode": (("default_execution_mode", _AS_IT_IS, "eager_execution", "eager default"),),
    "graphs": (("stack", _EMPTY, "graph_stack", "default-graph stack"),),
    "sessions": (("stack", _EMPTY, "session_stack", "default-session stack"),),
    "switches": (("stack", _EMPTY, "eager_mode", "switch of the eager mode"),),
    "context": (
        # Written as an attribute: tf.random.set_seed() clears the eager kernel cache.
        ("_seed", None, "seed", "global seed"),
        ("_rng", _MISSING, "", ""),
    ),
    "thread": (
        ("is_eager", _EMPTY, "eager_mode", "switch of the eager mode"),
        ("device_name", _EMPTY, "device_scope", "device scope"),
        ("device_spec", _EMPTY, "", ""),
        ("scope_name", _EMPTY, "name_scope", "name scope"),
    ),
    "graph": (
        ("_distribution_strategy_stack", _EMPTY, "strategy", "strategy scope"),
        ("_global_distribute_strategy_scope", None, "", ""),
        ("_variable_creator_stack", _EMPTY, "creator_scope", "variable-creator scope"),
        ("_control_dependencies_stack", _EMPTY, "control_scope", "dependency scope"),
        ("_device_function_stack", _EMPTY, "device_scope", "device scope"),
        ("_colocation_stack", _EMPTY, "colocation_scope", "colocation scope"),
        ("_name_stack", _EMPTY, "name_scope", "name scope"),
        ("_seed", None, "seed", "graph seed"),
    ),
    "variables": (("current_scope", _EMPTY, "variable_scope", "variable scope"),),
}
_SETTINGS = ("stored_exception", "eager_execution", "seed")
# What one kind brings along is not a mistake of its own.
_BRINGS = {
    "graph_stack": ("eager_mode",),
    "eager_execution": ("eager_mode",),
    "strategy": ("creator_scope", "device_scope", "variable_scope"),
    "variable_scope": ("name_scope",),
}
# Module, class, its name in methods and in the C API, kind, noun.
_RECORDERS = (
    ("backprop", "GradientTape", "tape", "Tape", "tapes", "gradient tape"),
    ("forwardprop", "ForwardAccumulator", "accumulator", "ForwardAccumulator")
    + ("accumulators", "forward accumulator"),
)
# Where the generators live that enter a scope now and leave it when they die.
_SCOPE_MODULES = ("eager.context", "framework.func_graph", "framework.ops")
_SCOPE_MODULES += ("framework.stack",)


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
        self._attributes, self._recorders = _Attributes(), _Recorders()
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        _guarded(self._recorders.remember)
        _guarded(self._attributes.remember)
        if self._attributes.is_open:
            # What a fixture holds open has generators too, and they stay.
            self._known.update(_suspended_scopes())

    def restore(self) -> tuple[Leftover, ...]:
        """Put everything back and say what was left; never raise."""
        attributes, self._attributes = self._attributes, _Attributes()
        recorders, self._recorders = self._recorders, _Recorders()
        left = _guarded(recorders.put_back) + _guarded(attributes.find)
        if entered := attributes.entered:
            left += _guarded(lambda: _disarm(entered, self._known))
        left += _guarded(attributes.put_back)
        self._known = weakref.WeakSet()
        return tuple(left)


def _guarded(step: Callable[[], Iterable[Leftover]]) -> list[Leftover]:
    """Run a step; a failure is a leftover, a private name that TF lacks is nothing."""
    left: list[Leftover] = []
    try:
        left.extend(step())
    except AttributeError:
        pass
    except Exception as error:
        text = f"the state could not be put back: {type(error).__name__}: {error}"
        left.append(Leftover(kind="unrestored", count=1, text=text, leak=False))
    return left


def _disarm(entered: list[Any], known: weakref.WeakSet[Any]) -> tuple[Leftover, ...]:
    """Close the sessions and generators that would pop the stacks once more."""
    for owner in reversed(entered):
        if hasattr(owner, "_explicitly_closed"):  # an InteractiveSession
            with suppress(Exception):
                owner.close()
    targets = {id(owner) for owner in entered}
    for scope in _suspended_scopes():
        if scope not in known and scope.gi_frame is not None:
            names = scope.gi_frame.f_locals
            if id(names.get("default", names.get("self"))) in targets:
                with suppress(Exception):
                    scope.close()
    return ()


def _suspended_scopes() -> list[Any]:
    """List the suspended generators that hold a TensorFlow scope open."""
    modules = {vars(module)["__name__"] for module in map(_tf, _SCOPE_MODULES) if module}
    return [
        found
        for found in _objects()
        if type(found) is GeneratorType
        and inspect.getgeneratorstate(found) == inspect.GEN_SUSPENDED
        and getattr(found, "gi_frame").f_globals.get("__name__") in modules
    ]


def _objects() -> list[Any]:
    """List all tracked objects, frozen too: 20 ms, so only where something is off."""
    if gc.get_freeze_count():
        gc.unfreeze()
    return gc.get_objects()


def _tf(name: str) -> Any:
    """Return a module of TensorFlow's if it is imported, else None."""
    return sys.modules.get("tensorflow.python." + name)


def _leak(kind: str, count: int, noun: str) -> Leftover:
    text = f"{f'1 {noun} was' if count == 1 else f'{count} {noun}s were'} never left"
    if noun.endswith(" stack"):
        entries = "1 entry was" if count == 1 else f"{count} entries were"
        text = f"{entries} left on the {noun}"
    return Leftover(kind=kind, count=count, text=text, leak=True)


class _Recorders:
    """The gradient tapes and forward accumulators that record on this thread.

    TensorFlow keeps the active ones in a C++ set that cannot be listed, as handles that
    the garbage collector does not track. So pushes are noted as they happen: nothing
    else finds a tape that was entered and then dropped.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._stopped, self._empty = False, True
        self._before: weakref.WeakSet[Any] = weakref.WeakSet()
        self._noted: dict[int, tuple[Any, Any, Any]] = {}
        self._hooks: list[tuple[Any, str, Any, Any]] = []

    def remember(self) -> Iterable[Leftover]:
        if (api := _tf("pywrap_tfe")) is not None:
            self._stopped = api.TFE_Py_TapeSetIsStopped()
            self._empty = api.TFE_Py_TapeSetIsEmpty() and not self._stopped
            for row in _RECORDERS:
                self._hook(row, "_push_" + row[2], self._note)
                self._hook(row, "_pop_" + row[2], self._forget)
        return ()

    def put_back(self) -> Iterator[Leftover]:
        for owner, name, original, hook in self._hooks:
            if owner.__dict__[name] is hook:
                setattr(owner, name, original)
        api = _tf("pywrap_tfe")
        if api.TFE_Py_TapeSetIsStopped() != self._stopped:
            text = "recording on gradient tapes was left stopped or restarted"
            yield Leftover(kind="recording", count=1, text=text, leak=True)
        api.TFE_Py_TapeSetRestartOnThread()  # while stopped, the set calls itself empty
        if api.TFE_Py_TapeSetIsEmpty():
            self._noted.clear()
        elif not self._hooks:  # TensorFlow was imported since
            self._note_living()
        for _, _, word, c_name, kind, noun in _RECORDERS:
            mine = [noted for noted in self._noted.values() if noted[0] == word]
            for _, reference, handle in mine:
                # Removing drops a reference even if nothing is removed, so add first.
                with suppress(Exception):
                    getattr(api, f"TFE_Py_{c_name}SetAdd")(handle)
                getattr(api, f"TFE_Py_{c_name}SetRemove")(handle)
                if (owner := reference()) is not None:
                    owner._recording = False
            if mine:
                yield _leak(kind, len(mine), noun)
        self._noted.clear()
        if self._empty and not api.TFE_Py_TapeSetIsEmpty():
            yield _leak("tapes", 1, "gradient tape that still records")
        if self._stopped:
            api.TFE_Py_TapeSetStopOnThread()

    def _hook(self, row: Any, name: str, tell: Callable[[str, Any], None]) -> None:
        owner = getattr(_tf("eager." + row[0]), row[1])
        original = getattr(owner, name)

        def hook(recorder: Any) -> None:
            original(recorder)
            if threading.get_ident() == self._thread:
                tell(row[2], recorder)

        setattr(owner, name, hook)
        self._hooks.append((owner, name, original, hook))

    def _note(self, word: str, owner: Any) -> None:
        if owner not in self._before:
            handle = getattr(owner, "_" + word)
            handle = getattr(handle, "_tape", handle)
            self._noted[id(owner)] = (word, weakref.ref(owner), handle)

    def _forget(self, word: str, owner: Any) -> None:
        if self._noted.pop(id(owner), None) is None:
            self._before.add(owner)  # it was entered before, and may be again

    def _note_living(self) -> None:
        kinds = {getattr(_tf("eager." + row[0]), row[1]): row[2] for row in _RECORDERS}
        for found in _objects():
            for kind, word in kinds.items():
                if issubclass(type(found), kind) and found._recording:
                    self._note(word, found)


class _Attributes:
    """The attributes in ``_WATCHED``; those of graphs hold the scopes that are open."""

    def __init__(self) -> None:
        self.is_open = False
        self.entered: list[Any] = []
        self._before: dict[int, tuple[Callable[[], Any], dict[str, Any]]] = {}
        self._changed: list[tuple[Any, str, Any, list[int] | None]] = []
        self._scoped_graph: Callable[[], Any] = lambda: None

    def remember(self) -> Iterable[Leftover]:
        for kind, owner in _owners(None):
            values = {name: _read(owner, name) for name, *_ in _WATCHED[kind]}
            self._before[id(owner)] = (weakref.ref(owner), values)
            for name, fresh, what, _ in _WATCHED[kind]:
                now = values[name]
                if what and what not in _SETTINGS:
                    is_open = _differs(now, _fresh(owner, name, now, fresh))
                    self.is_open |= is_open
                    if is_open and kind == "graph" and owner is _global_graph():
                        self._scoped_graph = weakref.ref(owner)
        return ()

    def find(self) -> Iterable[Leftover]:
        left: dict[str, Leftover] = {}
        closed = False
        for kind, owner in _owners(self._before):
            reference, values = self._before.get(id(owner), (lambda: None, {}))
            values = values if reference() is owner else {}
            for name, fresh, what, noun in _WATCHED[kind]:
                now = _read(owner, name)
                then = values.get(name) or _fresh(owner, name, now, fresh)
                kept = _kept(now[1], then[1])
                # Of what was entered before, the test left some: nobody else will.
                closed |= kind == "graphs" and kept < len(then[1] or ())
                if not _differs(now, then) or (name == "is_eager" and closed):
                    continue
                self._changed.append((owner, name, *then))
                if kind == "mode":  # the fresh value of is_eager goes by it
                    setattr(owner, name, then[0])
                if kind in ("graphs", "sessions"):
                    self.entered += now[0][kept:]
                elif kind == "graph":
                    self.entered.append(owner)
                if what in _SETTINGS:
                    text = f"the {noun} was changed and not put back"
                    left[what] = Leftover(kind=what, count=1, text=text, leak=False)
                elif what and what not in left:
                    left[what] = _leak(what, max(len(now[1] or ()) - kept, 1), noun)
        for what in [brought for kind in left for brought in _BRINGS.get(kind, ())]:
            left.pop(what, None)
        if "eager_mode" in left:
            self.entered.append(_tf("eager.context")._context)
        return left.values()

    def put_back(self) -> Iterable[Leftover]:
        for owner, name, value, entries in self._changed:
            if value is _MISSING:
                delattr(owner, name)
                continue
            if entries is not None:
                listed = getattr(value, "_stack", value)
                del listed[_kept([*map(id, listed)], entries) :]
            setattr(owner, name, value)
        if (graph := self._scoped_graph()) is not None:
            # Clearing the Keras session took a fixture's scopes away with the graph.
            _tf("framework.ops")._default_graph_stack._global_default_graph = graph
        return ()


def _owners(known: Container[int] | None) -> Iterator[tuple[str, Any]]:
    """Yield what has watched attributes: of the graphs, the known and the global."""
    yield "interpreter", sys
    module, ops = _tf("eager.context"), _tf("framework.ops")
    if module is None or ops is None:
        return
    yield "mode", module
    yield "graphs", ops._default_graph_stack
    yield "sessions", _tf("framework.stack")._default_session_stack
    if (context := module._context) is not None:  # never make it
        yield "switches", context.context_switches
        yield "context", context
        yield "thread", context._thread_local_data
    last = _global_graph()
    for graph in (*ops._default_graph_stack.stack, *([] if last is None else [last])):
        if known is None or id(graph) in known or graph is last:
            yield "graph", graph
            for store in graph._collections.get(("__varscope",), ()):
                yield "variables", store


def _global_graph() -> Any:
    return _tf("framework.ops")._default_graph_stack._global_default_graph


def _read(owner: Any, name: str) -> tuple[Any, list[int] | None]:
    """Return an attribute and, if it is a stack, the identities of its entries."""
    value = getattr(owner, name, _MISSING)
    listed = getattr(value, "_stack", value)
    return value, [*map(id, listed)] if isinstance(listed, list) else None


def _fresh(owner: Any, name: str, now: Any, fresh: Any) -> tuple[Any, list[int] | None]:
    """Return what an attribute is in a fresh process."""
    value, entries = now
    if fresh is _AS_IT_IS or value is _MISSING:
        return value, entries
    if fresh is not _EMPTY:
        return fresh, None
    if entries is not None:
        # The switch to eager mode at the bottom is there from the start.
        own = takewhile(lambda entry: hasattr(entry, "enter_context_fn"), value)
        return value, entries[: len([e for e in [*own][:1] if e.device_stack is None])]
    if name == "is_eager":
        module = _tf("eager.context")
        return module.default_execution_mode == module.EAGER_MODE, None
    if name == "current_scope":
        used = value.name or value.custom_getter is not None
        return (type(owner)().current_scope if used else value), None
    return type(value)(), None


def _differs(now: Any, then: Any) -> bool:
    """Compare stacks by their entries, plain values by equality, others by identity."""
    if now[1] is not None:
        return bool(now[1] != then[1] or (now[1] and now[0] is not then[0]))
    # A seed may be an array, which does not compare to one truth.
    plain = isinstance(now[0], (int, str)) or hasattr(now[0], "device_index")
    same = now[0] is then[0] or (plain and bool(now[0] == then[0]))
    return not same


def _kept(now: list[int] | None, then: list[int] | None) -> int:
    """Count the entries at the bottom of a stack that were there before."""
    pairs = zip(now or (), then or ())
    return len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
