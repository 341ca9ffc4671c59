"""Restore the process-wide TensorFlow state that a test found; report what it left.

Scopes that the test entered are left; those from before it (a fixture's session) stay
open. Sessions and the suspended generators behind ``Graph.as_default()`` leave their
scope once more when they die, so they are closed first. Then the state is written back.

Each attribute and each tape has a guard of its own, so that one failure does not keep
the others from being restored.

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
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from itertools import takewhile
from types import GeneratorType
from typing import Any

from pytest_tfleak.probes.census import thawed
from pytest_tfleak.run.entered_scopes import Entered
from pytest_tfleak.run.entered_scopes import EnteredScopes
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import note_rpc
from pytest_tfleak.tf.names import MissingNameError
from pytest_tfleak.tf.names import Name
from pytest_tfleak.tf.patch import Patch
from pytest_tfleak.tf.patch import Patches
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.user_code import users_frames
from pytest_tfleak.verdict import Origin

_MISSING: Any = object()
_EMPTY: Any = object()  # stands for an empty value of the attribute's type


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One kind of state that a test changed and did not restore."""

    kind: str
    count: int
    text: str
    leak: bool
    #: The line that entered it, or made what was entered, and the lines that called it.
    origin: Origin | None = None
    stack: tuple[Origin, ...] = ()

    @property
    def lines(self) -> tuple[Origin, ...]:
        """Return that line, if it is known, and the lines that called it."""
        return (*filter(None, [self.origin]), *self.stack)

    @property
    def note(self) -> str:
        """Return a sentence for the user about a leftover that is not a leak."""
        sentence = self.text[0].upper() + self.text[1:]
        if self.kind == "unrestored":
            return f"{sentence}."
        return f"{sentence}; it was put back after the test."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """An attribute to restore, without mention if it has no kind."""

    owner: str
    name: str
    initial: Any = _EMPTY  # its value in a new process
    kind: str = ""
    noun: str = ""
    is_setting: bool = False  # changing it is untidy, but no leak
    brings: tuple[str, ...] = ()  # kinds and names of others that change with it

    @property
    def words(self) -> str:
        """Return how a message calls it."""
        return self.noun or f"{self.owner}.{self.name}"


def _stored(part: str, kind: str = "") -> _Watched:
    return _Watched(
        owner="interpreter",
        name=f"last_{part}",
        initial=_MISSING,
        kind=kind,
        noun=f"sys.last_{part}",
        is_setting=True,
    )


def _of_graph(name: str, kind: str, noun: str, *brings: str) -> _Watched:
    return _Watched(owner="graph", name=name, kind=kind, noun=noun, brings=brings)


def _behaviour(owner: str, name: str) -> _Watched:
    """Return a switch of ``tf.compat.v1.disable_v2_behavior()``."""
    return _Watched(
        owner=owner,
        name=name,
        initial=True,
        kind="behaviour",
        noun="the behaviour of TensorFlow 1 or 2",
        is_setting=True,
    )


_WATCHED = (
    _stored("value", "stored_exception"),
    *map(_stored, ("exc", "type", "traceback")),
    _Watched(
        owner="graphs",
        name=names.STACK,
        kind="graph_stack",
        noun="default-graph stack",
        brings=("eager_mode",),
    ),
    _Watched(
        owner="sessions",
        name=names.STACK,
        kind="session_stack",
        noun="default-session stack",
    ),
    _Watched(
        owner="switches",
        name=names.STACK,
        kind="eager_mode",
        noun="switch of the eager mode",
    ),
    # Restored by attribute: tf.random.set_seed() would clear the eager kernel cache.
    _Watched(
        owner="context",
        name=names.SEED,
        initial=None,
        kind="seed",
        noun="the global seed",
        is_setting=True,
    ),
    _Watched(owner="context", name=names.RANDOM, initial=_MISSING),
    _Watched(
        owner="thread",
        name=names.IS_EAGER,
        kind="eager_mode",
        noun="switch of the eager mode",
    ),
    _Watched(
        owner="thread",
        name=names.DEVICE_NAME,
        kind="device_scope",
        noun="device scope",
    ),
    _Watched(owner="thread", name=names.DEVICE_SPEC),
    _Watched(
        owner="thread", name=names.SCOPE_NAME, kind="name_scope", noun="name scope"
    ),
    _Watched(
        owner="summaries",
        name=names.DEFAULT_WRITER,
        initial=None,
        kind="summary_writer",
        noun="the default summary writer",
    ),
    _Watched(owner="summaries", name=names.SUMMARY_STEP, initial=None),
    _Watched(owner="summaries", name=names.SUMMARY_CONDITION, initial=None),
    _Watched(
        owner="functions",
        name=names.RUN_EAGERLY.attribute,
        initial=False,
        kind="run_eagerly",
        noun="tf.config.run_functions_eagerly()",
        is_setting=True,
    ),
    _Watched(
        owner="modes",
        name=names.DEFAULT_MODE.attribute,
        kind="default_mode",
        noun="the default execution mode",
        is_setting=True,
        brings=(names.IS_EAGER,),
    ),
    _behaviour("tf2", "is_enabled"),
    _behaviour("shapes", names.SHAPES_OF_2.attribute),
    _behaviour("variables", names.RESOURCE_VARIABLES.attribute),
    _behaviour("tensors", names.TENSOR_EQUALITY.attribute),
    _behaviour("control flow", names.CONTROL_FLOW_OF_2.attribute),
    _of_graph(
        names.STRATEGIES, "strategy", "strategy scope", "creator_scope", "device_scope"
    ),
    _Watched(owner="graph", name=names.SET_STRATEGY, initial=None),
    _of_graph(names.CREATORS, "creator_scope", "variable-creator scope"),
    _of_graph(names.CONTROL, "control_scope", "dependency scope"),
    _of_graph(names.DEVICES, "device_scope", "device scope"),
    _of_graph(names.NAME_SCOPE, "name_scope", "name scope"),
    _Watched(
        owner="graph",
        name=names.SEED,
        initial=None,
        kind="seed",
        noun="the seed of the default graph",
        is_setting=True,
    ),
)


class Surroundings:
    """Remembers the process-wide state that a test found, and restores it."""

    def __init__(self, *, only_recent: bool = False) -> None:
        """Remember the state that this thread sees now.

        ``only_recent`` is for one iteration of a loop: what it makes is not frozen, so
        there is no need to look at anything else.
        """
        self._left: list[Leftover] = []
        objects = gc.get_objects if only_recent else _objects
        self._recorders, self._attributes = _Recorders(objects), _Attributes(objects)
        self._scopes = {
            "strategy": EnteredScopes(names.STRATEGY_SCOPE),
            "summary_writer": EnteredScopes(names.WRITER_SCOPE),
        }
        self._is_open = True
        note_rpc()
        with _guarded(self._left, "gradient tapes"):
            self._recorders.remember()
        for kind, scopes in self._scopes.items():
            with _guarded(self._left, f"the hooks of {kind}"):
                scopes.watch()
        with _guarded(self._left, "the state"):
            self._attributes.remember(self._left)

    def restore(self, created_at: _CreatedAt = lambda _: ()) -> tuple[Leftover, ...]:
        """Restore everything and return what the test left; never raise.

        ``created_at`` returns the lines that created a session or graph.
        """
        if not self._is_open:
            return ()
        self._is_open = False
        with _guarded(self._left, "gradient tapes"):
            self._recorders.restore(self._left)
        for kind, scopes in self._scopes.items():
            with _guarded(self._left, f"the hooks of {kind}"):
                scopes.stop()
        with _guarded(self._left, "the state"):
            entered = {kind: scopes.last for kind, scopes in self._scopes.items()}
            self._attributes.restore(self._left, created_at, entered)
        return tuple(self._left)


@contextmanager
def _guarded(left: list[Leftover], what: str) -> Iterator[None]:
    """Turn an error into a leftover that says what could not be restored."""
    try:
        yield
    except Exception as error:
        text = f"{what} could not be put back: {type(error).__name__}: {error}"
        left.append(Leftover(kind="unrestored", count=1, text=text, leak=False))


def _suspended_scopes(objects: _Objects) -> list[Any]:
    """Return TensorFlow's suspended generators, which leave a scope when they die."""
    return [
        found
        for found in objects()
        if type(found) is GeneratorType
        and inspect.getgeneratorstate(found) == inspect.GEN_SUSPENDED
        and "tensorflow" in found.gi_code.co_filename
    ]


_Objects = Callable[[], list[Any]]
#: Returns the lines that created a session or graph.
_CreatedAt = Callable[[object], Sequence[Frame]]
#: The last scope of some kinds that was entered and not left.
_Scopes = Mapping[str, Entered | None]


def _objects() -> list[Any]:
    """Return all tracked objects, even frozen ones; this takes some 20 ms."""
    with thawed():
        return gc.get_objects()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of gradient recorder, and how to start and stop it."""

    word: str
    cls: Name
    push: str
    pop: str
    add: Name
    remove: Name
    handle: Callable[[Any], Any]  # returns its C++ object


_RECORDERS = (
    _Kind(
        word="tape",
        cls=names.GRADIENT_TAPE,
        push=names.PUSH_TAPE,
        pop=names.POP_TAPE,
        add=names.ADD_TAPE,
        remove=names.REMOVE_TAPE,
        handle=lambda tape: names.TAPE_HANDLE.of(names.TAPE_HANDLE.of(tape)),
    ),
    _Kind(
        word="accumulator",
        cls=names.ACCUMULATOR,
        push=names.PUSH_ACCUMULATOR,
        pop=names.POP_ACCUMULATOR,
        add=names.ADD_ACCUMULATOR,
        remove=names.REMOVE_ACCUMULATOR,
        handle=names.ACCUMULATOR_HANDLE.of,
    ),
)
_Notify = Callable[[_Kind, Any], None]


class _Recorders:
    """The gradient tapes and forward accumulators that record on this thread.

    TensorFlow keeps the active ones in a C++ set that cannot be listed, and the garbage
    collector does not track them. So hooks note each one that starts or stops; without
    them, a tape that the test dropped while it recorded could not be found.
    """

    def __init__(self, objects: _Objects) -> None:
        self._objects = objects
        self._thread, self._was_empty = threading.get_ident(), True
        self._before: weakref.WeakSet[Any] = weakref.WeakSet()
        self._entered: dict[int, tuple[_Kind, Any, Any, list[Frame]]] = {}
        self._patches = Patches()
        self._is_hooked = False

    def remember(self) -> None:
        self._was_empty = _records_nothing()
        for kind in _RECORDERS:
            cls = kind.cls.find()
            if cls is not None:
                self._is_hooked = True
                with suppress(AttributeError):  # this TensorFlow lacks the method
                    self._hook(kind, cls, kind.push, self._enter)
                    self._hook(kind, cls, kind.pop, self._leave)

    def restore(self, left: list[Leftover]) -> None:
        self._thread = -1  # turns off hooks that stay because another patch wraps them
        self._patches.undo()
        if not self._is_hooked and not _records_nothing():
            self._find_living()  # the test was the first to import TensorFlow
        for kind, reference, handle, _ in self._entered.values():
            with _guarded(left, f"a gradient {kind.word}"):
                _stop_recording(kind, reference(), handle)
        words = Counter(kind.word for kind, *_ in self._entered.values())
        lines = {kind.word: lines for kind, *_, lines in self._entered.values()}
        left.extend(
            _leftover(f"{word}s", count, f"gradient {word}", lines=lines[word])
            for word, count in words.items()
        )
        self._entered.clear()  # hooks that stay would keep the handles alive
        if self._was_empty and not _records_nothing():
            left.append(_leftover("tapes", 1, "gradient tape that still records"))

    def _hook(self, kind: _Kind, cls: type, method: str, notify: _Notify) -> None:
        def make(original: Callable[[Any], None]) -> Callable[[Any], None]:
            def hook(recorder: Any) -> None:
                if self._thread == -1:
                    patch.undo()  # the patch that wrapped it may be gone by now
                original(recorder)
                if threading.get_ident() == self._thread:
                    with suppress(Exception):  # our errors must not fail the test
                        notify(kind, recorder)

            return hook

        patch = Patch(cls, method, make)
        self._patches.add(patch)

    def _enter(self, kind: _Kind, recorder: Any) -> None:
        if recorder not in self._before:
            handle = kind.handle(recorder)
            lines = users_frames(sys._getframe(1))
            self._entered[id(handle)] = (kind, weakref.ref(recorder), handle, lines)

    def _leave(self, kind: _Kind, recorder: Any) -> None:
        if self._entered.pop(id(kind.handle(recorder)), None) is None:
            self._before.add(recorder)  # entered before the test, and may be again

    def _find_living(self) -> None:
        kinds = [(kind, kind.cls.find()) for kind in _RECORDERS]
        for found in self._objects():
            for kind, cls in kinds:
                if cls is not None and issubclass(type(found), cls):
                    if names.RECORDING.of(found):
                        self._enter(kind, found)


def _records_nothing() -> bool:
    is_empty = names.TAPES_ARE_NONE.find()
    return is_empty is None or bool(is_empty())


def _stop_recording(kind: _Kind, recorder: Any, handle: Any) -> None:
    # TensorFlow drops a reference even if there is nothing to remove, so add first.
    with suppress(Exception):
        kind.add.get()(handle)
    kind.remove.get()(handle)
    if recorder is not None:
        setattr(recorder, names.RECORDING, False)


@dataclass(frozen=True, slots=True)
class _State:
    """An attribute's value and, if it is a stack, the ids of its entries."""

    value: Any
    entries: list[int] | None


@dataclass(frozen=True, slots=True)
class _Compared:
    """An attribute of one object, before and after the test."""

    owner: Any
    watched: _Watched
    then: _State
    now: _State

    @property
    def kept(self) -> int:
        """Return how many entries at the bottom of a stack are still the same."""
        return _count_kept(self.now.entries or (), self.then.entries or ())

    @property
    def lost(self) -> int:
        """Return how many earlier entries the test removed."""
        return len(self.then.entries or ()) - self.kept

    @property
    def count(self) -> int:
        """Return how many entries the test never left, or 1 for a changed value."""
        if not _differs(self.now, self.then):
            return 0
        return 1 if self.now.entries is None else len(self.now.entries) - self.kept


@dataclass(slots=True)
class _Remembered:
    """The attributes of one object before the test, and a weak reference to it."""

    owner: Callable[[], Any]
    states: dict[str, _State] = field(default_factory=dict)


class _Attributes:
    """The attributes in ``_WATCHED``; open scopes are kept in those of graphs."""

    def __init__(self, objects: _Objects) -> None:
        self._objects = objects
        self._before: dict[int, _Remembered] = {}
        #: Generators suspended before the test: they belong to fixtures.
        self._suspended: weakref.WeakSet[Any] = weakref.WeakSet()
        self._scoped: Callable[[], Any] = lambda: None
        self._was_eager = True

    def remember(self, left: list[Leftover]) -> None:
        has_scopes = False
        self._was_eager = names.DEFAULT_MODE.find() == names.EAGER_MODE.find()
        for key, owner in _owners():
            before = self._before[id(owner)] = _Remembered(weakref.ref(owner))
            for watched in _watched_of(key):
                with _guarded(left, watched.words):
                    now = before.states[watched.name] = _read(owner, watched.name)
                    if _is_open(watched, now, self._was_eager):
                        has_scopes = True
                        if owner is _default_graph():
                            self._scoped = weakref.ref(owner)
        if has_scopes:
            self._suspended = weakref.WeakSet(_suspended_scopes(self._objects))

    def restore(
        self,
        left: list[Leftover],
        created_at: _CreatedAt,
        scopes: _Scopes,
    ) -> None:
        compared = self._compare(left)
        found = list(_leftovers(compared, created_at, scopes))
        left.extend(found)
        entered = list(_entered(compared))
        if any(leftover.kind == "eager_mode" for leftover in found):
            entered.append(names.CONTEXT.find())
        with _guarded(left, "sessions and scopes that were left"):
            self._disarm(entered)
        for one in compared:
            with _guarded(left, one.watched.words):
                _put_back(one)
        with _guarded(left, "eager mode"):
            _begin_eagerly(compared)
        graph = self._scoped()
        if graph is not None:
            # Clearing the Keras session replaced the graph in which a fixture has
            # scopes open.
            setattr(names.GRAPH_STACK.find(), names.DEFAULT_GRAPH, graph)

    def _compare(self, left: list[Leftover]) -> list[_Compared]:
        compared = []
        for key, owner in _owners(self._before):
            before = self._before.get(id(owner))
            states = before.states if before and before.owner() is owner else {}
            for watched in _watched_of(key):
                with _guarded(left, watched.words):
                    now = _read(owner, watched.name)
                    then = states.get(watched.name)
                    then = then or _initial(watched, now, self._was_eager)
                    compared.append(_Compared(owner, watched, then, now))
        # Do not enter an earlier graph again that the test itself left.
        if any(one.lost for one in compared if one.watched.owner == "graphs"):
            compared = [one for one in compared if one.watched.name != names.IS_EAGER]
        return compared

    def _disarm(self, entered: Sequence[Any]) -> None:
        """Close the sessions and generators that would leave a scope once more."""
        for owner in reversed(entered):
            if hasattr(owner, names.INTERACTIVE_CLOSED):
                with suppress(Exception):
                    owner.close()
        targets = {id(owner) for owner in entered}
        for scope in _suspended_scopes(self._objects) if targets else ():
            if scope not in self._suspended and scope.gi_frame is not None:
                local = scope.gi_frame.f_locals
                if id(local.get("default", local.get("self"))) in targets:
                    with suppress(Exception):
                        scope.close()


class _Tf2:
    """The switch in C++ that says whether TensorFlow behaves as version 2."""

    @property
    def is_enabled(self) -> bool:
        return bool(names.TF2_ENABLED.get()())

    @is_enabled.setter
    def is_enabled(self, value: bool) -> None:
        (names.ENABLE_TF2 if value else names.DISABLE_TF2).get()()
        switches = names.DATA_SWITCHES.get()
        for name in switches.list():
            switches.lookup(name)()


_TF2 = _Tf2()


def _owners(known: Iterable[int] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the objects that have watched attributes, with the name of their kind.

    Of all graphs, yield the global one and those whose ids are ``known``.
    """
    context = names.CONTEXT.find()  # None until TensorFlow creates it
    found = {
        "interpreter": sys,
        "graphs": names.GRAPH_STACK.find(),
        "summaries": names.SUMMARY_STATE.find(),
        "sessions": names.SESSION_STACK.find(),
        "switches": getattr(context, names.SWITCHES, None),
        "context": context,
        "thread": getattr(context, names.THREAD_DATA, None),
        "functions": _owner_of(names.RUN_EAGERLY),
        "modes": _owner_of(names.DEFAULT_MODE),
        "shapes": _owner_of(names.SHAPES_OF_2),
        "variables": _owner_of(names.RESOURCE_VARIABLES),
        "tensors": _owner_of(names.TENSOR_EQUALITY),
        "control flow": _owner_of(names.CONTROL_FLOW_OF_2),
        "tf2": None if names.TF2_ENABLED.find() is None else _TF2,
    }
    yield from ((key, owner) for key, owner in found.items() if owner is not None)
    known = set(known)
    last = _default_graph()
    for graph in (*getattr(names.GRAPH_STACK.find(), names.STACK, ()), last):
        if graph is not None and (not known or id(graph) in known or graph is last):
            yield "graph", graph


def _owner_of(name: Name) -> Any:
    with suppress(MissingNameError):
        return name.owner()
    return None


def _default_graph() -> Any:
    return getattr(names.GRAPH_STACK.find(), names.DEFAULT_GRAPH, None)


def _watched_of(owner: str) -> list[_Watched]:
    return [watched for watched in _WATCHED if watched.owner == owner]


def _read(owner: Any, name: str) -> _State:
    value = getattr(owner, name, _MISSING)
    listed = getattr(value, names.TRACEABLE, value)  # the list in a TraceableStack
    return _State(value, [*map(id, listed)] if isinstance(listed, list) else None)


def _initial(watched: _Watched, now: _State, was_eager: bool) -> _State:
    """Return the state of an attribute in a new process or a new context."""
    if now.value is _MISSING or watched.initial is _MISSING:
        return _State(_MISSING, None)
    if watched.name == names.DEFAULT_MODE.attribute:
        return _State(names.EAGER_MODE.find(), None)
    if watched.initial is not _EMPTY:
        return _State(watched.initial, None)
    if now.entries is not None:
        # The switch to eager mode at the bottom of the stack is always there.
        bottom = now.value[0] if now.entries and watched.name == names.STACK else None
        enter = getattr(bottom, names.ENTER_SWITCH, None)
        is_switch = enter is not None and enter is names.EAGER_SCOPE.find()
        return _State(now.value, now.entries[: int(is_switch)])
    if watched.name == names.IS_EAGER:
        return _State(was_eager, None)
    return _State(type(now.value)(), None)


def _is_open(watched: _Watched, now: _State, was_eager: bool) -> bool:
    """Return whether a scope is open, so that the state differs from a new process."""
    is_scope = watched.kind and not watched.is_setting
    return bool(is_scope) and _differs(now, _initial(watched, now, was_eager))


def _differs(now: _State, then: _State) -> bool:
    """Compare stacks by their entries, plain values by equality, others by identity."""
    if now.entries is not None:
        is_other = now.entries and now.value is not then.value
        return bool(now.entries != then.entries or is_other)
    # A seed may be an array, and comparing arrays does not yield one truth value.
    plain = isinstance(now.value, (int, str)) or hasattr(now.value, "device_index")
    return now.value is not then.value and not (plain and now.value == then.value)


def _leftovers(
    compared: Sequence[_Compared], created_at: _CreatedAt, scopes: _Scopes
) -> Iterator[Leftover]:
    """Yield one leftover of each kind, except those that always follow another."""
    changed = [one for one in compared if one.count]
    brought = {name for one in changed for name in one.watched.brings}
    reported = set()
    for one in changed:
        watched = one.watched
        if watched.kind and not brought & {watched.kind, watched.name}:
            if watched.kind not in reported:
                reported.add(watched.kind)
                if watched.owner == "summaries":
                    yield from _left_writer(watched, scopes[watched.kind])
                else:
                    lines = _lines_of(one, created_at, scopes.get(watched.kind))
                    noun, is_setting = watched.noun, watched.is_setting
                    yield _leftover(watched.kind, one.count, noun, is_setting, lines)


def _left_writer(watched: _Watched, entered: Entered | None) -> Iterator[Leftover]:
    """Yield what is left of a summary writer that is still the default.

    Nothing is if the code began to leave the scope: TensorFlow flushes the writer then,
    and if that fails, keeps it. And only user code that entered a scope can leave it:
    what a library entered, such as ``set_as_default()``, is a setting.
    """
    if entered is None:
        return
    lines = entered.lines if entered.is_by_user else ()
    left = _leftover(watched.kind, 1, watched.noun, not entered.is_by_user, lines)
    if left.leak:
        left = replace(left, text="1 summary writer was left as the default")
    yield left


def _lines_of(
    one: _Compared, created_at: _CreatedAt, entered: Entered | None
) -> Sequence[Frame]:
    """Return the lines that entered a scope, or made the graph or session entered."""
    if entered is not None:
        return entered.lines
    if one.watched.owner in ("graphs", "sessions"):
        return created_at(one.now.value[-1])
    return ()


def _leftover(
    kind: str,
    count: int,
    noun: str,
    is_setting: bool = False,
    lines: Sequence[Frame] = (),
) -> Leftover:
    many = count > 1
    if is_setting:
        text = f"{noun} was changed and not put back"
    elif noun.endswith(" stack"):
        text = f"{count} {'entries were' if many else 'entry was'} left on the {noun}"
    else:
        text = f"{count} {noun}{'s were' if many else ' was'} never left"
    origin, stack = origin_of(lines)
    return Leftover(
        kind=kind,
        count=count,
        text=text,
        leak=not is_setting,
        origin=origin,
        stack=stack,
    )


def _entered(compared: Sequence[_Compared]) -> Iterator[Any]:
    """Yield the graphs and sessions that the test entered or left a scope open in."""
    for one in compared:
        if one.count and one.watched.owner in ("graphs", "sessions"):
            yield from one.now.value[one.kept :]
        elif one.count and one.watched.owner == "graph":
            yield one.owner


def _put_back(one: _Compared) -> None:
    owner, name, then = one.owner, one.watched.name, one.then
    now = _read(owner, name)  # closing sessions may have changed it
    if then.value is _MISSING:
        if now.value is not _MISSING:
            delattr(owner, name)
    elif _differs(now, then):
        if then.entries is not None:
            listed: Any = getattr(then.value, names.TRACEABLE, then.value)
            del listed[_count_kept([*map(id, listed)], then.entries) :]
        setattr(owner, name, then.value)


def _begin_eagerly(compared: Sequence[_Compared]) -> None:
    """Make eager mode the initial mode of a context that the test made in graph mode.

    In each thread, the context returns to its initial mode when all scopes are left.
    """
    has_changed = any(
        one.count
        for one in compared
        if one.watched.name == names.DEFAULT_MODE.attribute
    )
    context = names.CONTEXT.find()
    if has_changed and context is not None:
        switches = names.OWN_SWITCHES.of(context)
        if not switches.stack and names.DEFAULT_MODE.get() == names.EAGER_MODE.get():
            setattr(context, names.OWN_SWITCHES, type(switches)(True))


def _count_kept(now: Sequence[int], then: Sequence[int]) -> int:
    """Return how many entries at the bottom of a stack are still the same."""
    return sum(1 for _ in takewhile(bool, map(int.__eq__, now, then)))
