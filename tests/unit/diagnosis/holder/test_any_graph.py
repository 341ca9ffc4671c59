"""Any graph of objects is searched and described, and none of its own code runs."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import traceback
import types
import weakref
from collections import OrderedDict
from collections import defaultdict
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_tfleak import find_leaks
from pytest_tfleak.diagnosis.holder.path import describe_path
from pytest_tfleak.diagnosis.holder.roots import Start
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.safe_read import content_of
from pytest_tfleak.diagnosis.safe_read import last_of
from pytest_tfleak.diagnosis.safe_read import sizes_of
from pytest_tfleak.diagnosis.what.facts import facts_of
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.held_object import words_of
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.verdict import Status

RAN: list[str] = []
#: What looking at an object might call.
METHODS = """
    __getattribute__ __getattr__ __setattr__ __delattr__ __eq__ __ne__ __hash__ __bool__
    __len__ __repr__ __str__ __format__ __iter__ __next__ __contains__ __getitem__
    __reversed__ __call__ __dir__ __sizeof__ __index__ __int__ __float__ __enter__
    __exit__ __reduce_ex__ __length_hint__ __fspath__ __lt__ __get__ __missing__ keys
    values items close closed name shape dtype _name
"""
OF_METACLASS = """
    __getattribute__ __getattr__ __eq__ __hash__ __bool__ __len__ __repr__ __iter__
    __instancecheck__ __subclasscheck__ __call__ __dir__ mro
"""


def note(name: str) -> None:
    """Note the call with the line of the package that led to it."""
    lines = traceback.extract_stack()
    ours = [line for line in lines if "pytest_tfleak" in line.filename]
    RAN.append(f"{name}: {ours[-1].filename}:{ours[-1].lineno}" if ours else name)


def trap(name: str) -> Callable[..., Any]:
    def run(*_: object, **__: object) -> Any:
        note(name)
        raise RuntimeError(f"{name} ran")

    return run


def lie(name: str) -> property:
    """Return a property that is of another type than it says, and notes its use."""

    def run(_: object) -> Any:
        note(name)
        return int

    return property(run)


def traps(names: str) -> dict[str, Any]:
    return {name: trap(name) for name in names.split() if name != "mro"}


LIES = {name: lie(name) for name in ("__class__", "__dict__")}
#: Not while a class is made: only then Python itself needs them.
Meta: Any = type("Meta", (type,), {})


def hostile_class(base: type, *, lies: bool) -> Any:
    names = traps(METHODS) | (LIES if lies else {})
    name = f"Hostile{base.__name__.title()}"
    return Meta(name, (base,), {**names, "__module__": "app"})


HOSTILE: dict[tuple[Any, bool], Any] = {
    (base, lies): hostile_class(base, lies=lies)
    for base in (object, dict, list, tuple, set, deque, Exception, types.ModuleType)
    for lies in (False, True)
}
for _name, _trap in traps(OF_METACLASS).items():
    type.__setattr__(Meta, _name, _trap)


class Plain:
    pass


class Slotted:
    __slots__ = ("one", "two")


class Thing:
    """What is looked for."""


def hostile(base: Any, *, lies: bool, held: list[Any]) -> Any:
    """Return an object of a hostile class that holds others, made without its code."""
    cls = HOSTILE[base, lies]
    if base is tuple:
        return tuple.__new__(cls, held)
    made = base.__new__(cls)
    if base is list:
        list.extend(made, held)
    elif base is deque:
        deque.extend(made, held)
    elif base is dict:
        for number, one in enumerate(held):
            dict.__setitem__(made, number, one)
    elif base is Exception:
        Exception.__init__(made, *held)
    for number, one in enumerate(held):
        object.__setattr__(made, f"field{number}", one)
    return made


def generator(held: list[Any]) -> Any:
    def values() -> Iterator[Any]:
        inside = held
        yield 1
        del inside

    made = values()
    next(made)
    return made


def closure(held: list[Any]) -> Any:
    def inner(argument: Any = held[-1:]) -> Any:
        return held, argument

    return inner


def raised(held: list[Any]) -> Any:
    def fail() -> None:
        inside = held
        raise ValueError(inside[:1])

    try:
        fail()
    except ValueError as error:
        return error


def instance(held: list[Any]) -> Any:
    made = Plain()
    vars(made).update({f"field{number}": one for number, one in enumerate(held)})
    return made


def slotted(held: list[Any]) -> Any:
    made: Any = Slotted()
    if held:
        made.one = held
    return made


def local(held: list[Any]) -> Any:
    made = threading.local()
    made.held = held
    return made


def weak(held: list[Any]) -> Any:
    made: Any = weakref.WeakKeyDictionary()
    key = Plain()
    made[key] = held
    return [made, key]


def cached(held: list[Any]) -> Any:
    @functools.lru_cache(4)
    def results(number: int) -> Any:
        return held

    results(1)
    return results


def module(held: list[Any]) -> Any:
    made = types.ModuleType("app.made")
    made.held = held  # type: ignore[attr-defined]
    return made


def array(held: list[Any]) -> Any:
    numpy = pytest.importorskip("numpy")
    made = numpy.empty(len(held), object)
    for number, one in enumerate(held):
        made[number] = one
    return made


KINDS: tuple[Callable[[list[Any]], Any], ...] = (
    *(list, tuple, deque, closure, generator, raised, instance, slotted, local, weak),
    *(cached, module, array),
    lambda held: dict(enumerate(held)),
    lambda held: {("key", number): one for number, one in enumerate(held)},
    lambda held: OrderedDict(enumerate(held)),
    lambda held: defaultdict(list, enumerate(held)),
    lambda held: functools.partial(print, *held),
    lambda held: types.MethodType(print, held),
    lambda held: types.MappingProxyType({"held": held}),
    lambda held: type("Made", (), {"held": held, "__module__": "app"}),
    lambda held: property(functools.partial(print, held)),
    iter,
    lambda held: map(print, held),
    *(
        functools.partial(_make, base, lies)
        for base, lies in HOSTILE
        for _make in (lambda base, lies, held: hostile(base, lies=lies, held=held),)
    ),
)
#: Each node: its kind, and which earlier nodes it holds.
recipes = st.lists(
    st.tuples(st.integers(0, len(KINDS) - 1), st.lists(st.integers(0, 99), max_size=4)),
    min_size=1,
    max_size=12,
)


def build(recipe: list[tuple[int, list[int]]], thing: object) -> list[Any]:
    """Return the nodes of a graph; some are in a cycle."""
    knot: list[Any] = []
    nodes: list[Any] = [thing, knot]
    for kind, holds in recipe:
        nodes.append(KINDS[kind]([nodes[number % len(nodes)] for number in holds]))
    knot.append(nodes[-1])
    return nodes


def is_reachable(start: object, wanted: object) -> bool:
    seen, pending = {id(start): start}, [start]
    while pending:
        holder = pending.pop()
        if holder is wanted:
            return True
        for held in gc.get_referents(holder):
            if id(held) not in seen and not is_imported(held):
                seen[id(held)] = held
                pending.append(held)
    return False


def is_imported(held: object) -> bool:
    return type(held) is types.ModuleType and held.__name__ in sys.modules


@given(recipes)
def test_any_graph_is_searched(recipe: list[tuple[int, list[int]]]) -> None:
    thing = Thing()
    nodes = build(recipe, thing)
    last = nodes[-1]
    RAN.clear()
    paths = Paths({}, NO_DEADLINE)
    start = Start(Root(kind="fixture", name="graph"), [last])
    seen = paths.find_from([start], {id(thing)})
    chain = paths.path_to(thing)
    if chain:
        path = describe_path(chain, {id(thing)})
        assert all(isinstance(edge, str) for edge in edges_of(path))
        assert is_reachable(last, thing)
    for node in [*nodes, *seen]:
        words_of(facts_of(node))
        content_of(node)
        last_of(node, 2)
        chain = paths.path_to(node)
        if chain:
            edges_of(describe_path(chain, ()))
    sizes_of(nodes)
    assert RAN == []


@settings(max_examples=settings().max_examples // 2)
@given(st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=6))
def test_what_lies_behind_any_objects_is_found(kinds: list[int]) -> None:
    """A chain of objects, each of which holds the next."""
    thing = Thing()
    node: Any = thing
    for kind in kinds:
        node = KINDS[kind]([node])
    reachable = is_reachable(node, thing)
    RAN.clear()
    paths = Paths({}, NO_DEADLINE)
    start = Start(Root(kind="fixture", name="graph"), [node])
    paths.find_from([start], {id(thing)})
    found = bool(paths.path_to(thing))
    assert found or not reachable
    assert RAN == []


KEPT: list[Any] = []


@pytest.mark.parametrize("lies", [False, True])
def test_a_leak_of_hostile_objects_is_explained(lies: bool) -> None:
    bases = {base for base, _ in HOSTILE}

    def body() -> None:
        KEPT.append([hostile(base, lies=lies, held=[Plain()]) for base in bases] * 9)

    RAN.clear()
    verdict = find_leaks(body, iterations=10, warmup=1, diagnose_time=5, blocks=9)
    assert verdict.status is Status.LEAK
    assert "KEPT" in str(verdict)
    KEPT.clear()
    assert RAN == []
