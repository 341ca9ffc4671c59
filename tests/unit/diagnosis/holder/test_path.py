from __future__ import annotations

import contextvars
import enum
import functools
import importlib.util
import json
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any
from typing import NamedTuple

import pytest

from pytest_tfleak.diagnosis.holder.path import describe_path
from pytest_tfleak.diagnosis.holder.path import without_holder
from pytest_tfleak.diagnosis.holder.roots import Start
from pytest_tfleak.diagnosis.holder.roots import is_users_module
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.safe_read import names_in
from pytest_tfleak.diagnosis.safe_read import type_name
from pytest_tfleak.reports.held_by import ROOTS
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.run.budget import NO_DEADLINE

MODULE = Root(kind="module", name="app.cache")


class Kept:
    """The objects that leak in these tests."""


class Pair(NamedTuple):
    left: object
    right: object


class Service:
    registry: list[object] = []  # noqa: RUF012  # shared on purpose

    def __init__(self) -> None:
        self.history: list[object] = []
        self.last: object = None
        self.by_name: dict[str, list[object]] = {"loss": []}


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held


class Closed:
    """An object that runs its own code wherever it can."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __len__(self) -> int:
        raise RuntimeError("len")


@pytest.fixture
def app() -> Iterator[Any]:
    """Return a module of user code, imported as ``app.cache``."""
    module = ModuleType("app.cache")
    module.__file__ = "/home/me/app/cache.py"
    sys.modules["app.cache"] = module
    yield module
    del sys.modules["app.cache"]


def hold(kept: object, new: set[int] | None = None) -> RetainingPath:
    """Describe how ``app.cache`` holds an object, ignoring the frames of this test."""
    return held_from(Start(MODULE, vars(sys.modules["app.cache"])), kept, new)


def held_from(start: Start, kept: object, new: set[int] | None = None) -> RetainingPath:
    paths = Paths({}, NO_DEADLINE)
    paths.find_from([start], {id(kept)})
    return with_name(describe_path(paths.path_to(kept), new or {id(kept)}), kept)


def hold_anywhere(find: Callable[[], object]) -> RetainingPath:
    """Describe how any user code holds an object."""
    paths = Paths({}, NO_DEADLINE)
    paths.find([find()])
    return with_name(describe_path(paths.path_to(find()), {id(find())}), find())


def with_name(path: RetainingPath, held: object) -> RetainingPath:
    return replace(path, target=type(held).__name__)


def test_a_global_list(app: Any) -> None:
    app.HISTORY = [0] * 54 + [Kept()]

    held = hold(app.HISTORY[-1])

    assert edges_of(held) == ("app.cache.HISTORY (list of 55)", "Kept")


def test_new_objects_follow_an_arrow(app: Any) -> None:
    record = {"loss": Kept()}
    app.HISTORY = [record]

    held = hold(record["loss"], {id(record), id(record["loss"])})

    assert edges_of(held) == ("app.cache.HISTORY (list of 1)", "dict['loss']", "Kept")


def test_older_objects_form_one_expression(app: Any) -> None:
    app.service = Service()
    app.service.by_name["loss"].append(Kept())

    held = hold(app.service.by_name["loss"][0])

    assert edges_of(held) == ("app.cache.service.by_name['loss'] (list of 1)", "Kept")


def test_an_attribute_that_is_rebound(app: Any) -> None:
    app.service = Service()
    app.service.last = Kept()

    assert edges_of(hold(app.service.last)) == ("app.cache.service.last", "Kept")


def test_a_global_that_is_rebound(app: Any) -> None:
    app.LAST = Kept()

    assert edges_of(hold(app.LAST)) == ("app.cache.LAST", "Kept")


def test_a_global_of_before_the_run(app: Any) -> None:
    app.GRAPH = Kept()

    assert edges_of(hold(app.GRAPH, {0})) == ("app.cache.GRAPH", "Kept")


def test_a_class_attribute(app: Any) -> None:
    app.Service = Service
    Service.__module__ = "app.cache"
    Service.registry.append(Kept())

    held = hold(Service.registry[0])
    Service.registry.clear()
    Service.__module__ = __name__

    assert edges_of(held) == ("app.cache.Service.registry (list of 1)", "Kept")


def test_user_code_that_refers_to_a_library_s_object_is_not_its_holder(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Service()
    context.history.append(Kept())
    monkeypatch.setattr(sys.modules["json"], "context", context, raising=False)
    app.CONSTANT = Slotted(context)

    held = hold_anywhere(lambda: context.history[0])

    assert edges_of(held) == ("json.context.history (list of 1)", "Kept")


def test_an_array_that_is_a_view(app: Any) -> None:
    numpy: Any = pytest.importorskip("numpy")
    app.VIEWS = [numpy.asarray(memoryview(bytearray(8)))]

    held = hold(app.VIEWS[0].base)

    assert edges_of(held) == ("app.cache.VIEWS[0].base", "memoryview")


def test_a_module_that_loads_lazily_is_not_loaded(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "xmlrpc.server"  # a module that is not imported yet
    monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    app.LAST = Kept()

    assert edges_of(hold_anywhere(lambda: app.LAST)) == ("app.cache.LAST", "Kept")
    assert type(module) is not ModuleType


def test_a_slot(app: Any) -> None:
    app.holder = Slotted([Kept()])

    held = hold(app.holder.held[0])

    assert edges_of(held) == ("app.cache.holder.held (list of 1)", "Kept")


def test_a_closure(app: Any) -> None:
    def make() -> Callable[[], list[object]]:
        history: list[object] = [Kept()]
        return lambda: history

    app.step = make()

    held = hold(app.step()[0])

    assert edges_of(held) == (
        "app.cache.step",
        "variable history of its closure (list of 1)",
        "Kept",
    )


def test_a_default_of_an_argument(app: Any) -> None:
    shared: list[object] = [Kept()]

    def step(x: int, seen: list[object] = shared) -> list[object]:
        return seen

    app.step = step

    assert edges_of(hold(shared[0])) == (
        "app.cache.step",
        "default of its argument seen (list of 1)",
        "Kept",
    )


def test_an_lru_cache(app: Any) -> None:
    @functools.cache
    def load(n: int) -> Kept:
        return Kept()

    app.load = load
    first = load(1)
    load(2)

    held = hold(first)

    assert edges_of(held) == ("app.cache.load (lru_cache of 2)", "Kept")
    assert held.passes_through("functools._lru_cache_wrapper", new=False)


def test_a_named_tuple_a_deque_and_a_set(app: Any) -> None:
    app.PAIRS = [Pair(None, Kept())]
    app.QUEUE = deque([Kept()])
    app.SEEN = {Kept()}

    pair = app.PAIRS[0]

    assert edges_of(hold(pair.right, {id(pair), id(pair.right)})) == (
        "app.cache.PAIRS (list of 1)",
        "Pair.right",
        "Kept",
    )
    assert edges_of(hold(app.QUEUE[0]))[0] == "app.cache.QUEUE (deque of 1)"
    assert edges_of(hold(next(iter(app.SEEN))))[0] == "app.cache.SEEN (set of 1)"


@pytest.mark.layout
def test_an_exception_that_is_kept(app: Any) -> None:
    def load() -> None:
        batch = Kept()
        raise ValueError(id(batch))

    app.ERRORS = []
    try:
        load()
    except ValueError as caught:
        app.ERRORS.append(caught)
    error = app.ERRORS[0]
    deepest = error.__traceback__.tb_next
    batch = deepest.tb_frame.f_locals["batch"]
    between = (error, error.__traceback__, deepest, deepest.tb_frame, batch)
    new = {id(o) for o in between}

    held = hold(batch, new)

    assert edges_of(held)[0] == "app.cache.ERRORS (list of 1)"
    assert edges_of(held)[1] == "ValueError"
    assert edges_of(held)[2].startswith("local variable batch of load() (test_path.py:")
    assert edges_of(held)[3] == "Kept"
    assert held.passes_through("exception", new=True)
    assert held.passes_through("builtins.frame", new=True)


def test_the_last_exception_of_the_interpreter(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "last_value", ValueError(Kept()), raising=False)
    monkeypatch.setattr(sys, "last_exc", None, raising=False)

    held = hold_anywhere(lambda: getattr(sys.last_value, "args")[0])  # noqa: B009

    assert edges_of(held)[0].startswith("sys.last_value")
    assert held.root.kind == "exception"


def test_a_suspended_generator(app: Any) -> None:
    def read() -> Generator[int, None, None]:
        batch = Kept()
        yield id(batch)

    app.reader = read()
    next(app.reader)

    held = hold(app.reader.gi_frame.f_locals["batch"])

    assert "local variable batch of the suspended read()" in edges_of(held)[1]
    assert held.passes_through("builtins.generator", new=False)


def test_a_local_variable_of_a_running_function() -> None:
    history = [Kept()]

    held = hold_anywhere(lambda: history[0])

    name = "local variable history of test_a_local_variable_of_a_running_function()"
    assert edges_of(held) == (f"{name} (list of 1)", "Kept")


@pytest.mark.parametrize("name", ["server", "job {id}"])
def test_a_local_variable_of_another_thread(name: str) -> None:
    ready, done = threading.Event(), threading.Event()
    made: list[weakref.ref[Kept]] = []

    def serve() -> None:
        batch = Kept()
        made.append(weakref.ref(batch))
        ready.set()
        done.wait()

    thread = threading.Thread(target=serve, name=name)
    thread.start()
    ready.wait()
    try:
        held = hold_anywhere(made[0])
    finally:
        done.set()
        thread.join()

    assert edges_of(held)[0] == f"local variable batch of serve() in thread {name!r}"


def test_what_a_thread_object_keeps() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="w")
    thread.kept = Kept()  # type: ignore[attr-defined]
    made = weakref.ref(thread.kept)  # type: ignore[attr-defined]
    thread.start()
    del thread
    try:
        held = hold_anywhere(made)
    finally:
        done.set()

    assert edges_of(held) == ("thread 'w'.kept", "Kept")
    assert held.root.kind == "threads"


def test_a_parameter() -> None:
    values = [Kept()]
    start = Start(Root(kind="parameter", name="values"), [values])

    assert edges_of(held_from(start, values[0])) == (
        "parameter values (list of 1)",
        "Kept",
    )


def test_a_fixture() -> None:
    service = [Service()]
    service[0].history.append(Kept())
    kept = service[0].history[0]

    held = held_from(Start(Root(kind="fixture", name="service"), [service.pop()]), kept)

    assert edges_of(held) == ("fixture service.history (list of 1)", "Kept")


def test_a_value_that_refers_to_its_weak_key(app: Any) -> None:
    cache: weakref.WeakKeyDictionary[Kept, Slotted] = weakref.WeakKeyDictionary()
    key = Kept()
    cache[key] = Slotted(key)
    app.CACHE = cache

    held = hold(key)

    assert edges_of(held)[0].startswith("app.cache.CACHE")
    assert held.passes_through("weakref.WeakKeyDictionary", new=False)


def test_no_code_of_an_object_runs_on_the_way(app: Any) -> None:
    closed = object.__new__(Closed)
    app.HISTORY = [[closed]]

    held = hold(closed)

    assert edges_of(held) == ("app.cache.HISTORY[0] (list of 1)", "Closed")


def test_a_place_has_no_indexes_and_no_sizes(app: Any) -> None:
    app.CACHE = {}
    app.CACHE[1] = [Kept()]
    app.CACHE[23] = [Kept(), Kept()]

    first, second = hold(app.CACHE[1][0]), hold(app.CACHE[23][1])

    assert edges_of(first) != edges_of(second)
    assert first.place == second.place
    assert "CACHE" in first.place and first.place[-1] == f"{__name__}.Kept"


def test_an_object_without_a_path_is_held_by_native_code() -> None:
    native = describe_path([], set())

    found = without_holder(Kept(), is_searched=True)
    assert edges_of(native) == edges_of(found) == (ROOTS["native"],)
    assert found.is_native
    unsought = without_holder(Kept(), is_searched=False)
    assert edges_of(unsought) == (ROOTS["unsought"],)
    assert unsought.place == found.place  # a fingerprint does not depend on the time
    assert native.is_native


def test_what_a_test_holds_is_not_taken_for_ours() -> None:
    kept = Kept()
    paths = Paths({}, NO_DEADLINE)

    paths.find([kept])

    assert paths.path_to(kept)
    assert not paths.is_ours(kept)


def test_what_only_pytest_holds_is_recognised(request: pytest.FixtureRequest) -> None:
    key = pytest.StashKey[Kept]()
    request.node.stash[key] = Kept()
    made = weakref.ref(request.node.stash[key])
    del request
    paths = Paths({}, NO_DEADLINE)

    paths.find([made()])

    start = paths.path_to(made())[0]
    assert paths.is_ours(made()) or start.root.name.startswith("test_")


def test_what_locals_returned_stays_as_it_is() -> None:
    history = [Kept()]
    config = locals()

    hold_anywhere(lambda: history[0])

    assert config["history"] is history


def test_no_snapshot_keeps_the_variables_of_a_generator(app: Any) -> None:
    made: list[weakref.ref[Kept]] = []

    def read() -> Generator[None, None, None]:
        batch = Kept()
        made.append(weakref.ref(batch))
        yield
        del batch
        yield

    app.reader = read()
    next(app.reader)
    hold(made[0]())
    next(app.reader)

    assert made[0]() is None


def test_a_context_variable() -> None:
    variable = contextvars.ContextVar[tuple[Kept, ...]]("history")
    token = variable.set((Kept(), Kept()))

    held = hold_anywhere(lambda: variable.get()[1])
    variable.reset(token)

    assert edges_of(held) == ("context variable history (tuple of 2)", "Kept")


def test_what_a_thread_has_for_itself(app: Any) -> None:
    class Local(threading.local):
        def __init__(self) -> None:
            starts.append(threading.get_ident())

    starts: list[int] = []
    app.STATE = Local()
    app.STATE.last = Kept()
    found: list[RetainingPath] = []
    kept = app.STATE.last

    thread = threading.Thread(target=lambda: found.append(hold(kept)))
    thread.start()
    thread.join()

    assert edges_of(found[0]) == ("app.cache.STATE.last", "Kept")
    assert starts == [threading.get_ident()]


def test_a_property_of_the_name_of_the_dict_does_not_run(app: Any) -> None:
    class Odd:
        __slots__ = ("held",)

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("ran")

    app.ODD = Odd()
    app.ODD.held = [[Kept()]]

    held = hold(app.ODD.held[0][0])

    assert edges_of(held) == ("app.cache.ODD.held[0] (list of 1)", "Kept")


def test_an_exception_s_own_properties_do_not_run(app: Any) -> None:
    class OddError(Exception):
        @property
        def __context__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("ran")

    app.ERROR = OddError()
    app.ERROR.held = Kept()

    assert edges_of(hold(app.ERROR.held)) == ("app.cache.ERROR.held", "Kept")


def test_a_class_that_cannot_be_compared(app: Any) -> None:
    class Odd(type):
        def __eq__(cls, other: object) -> bool:
            raise RuntimeError("ran")

        # Python would do this itself, but here the class has no hash
        __hash__ = None  # type: ignore[assignment]

    class Holder(metaclass=Odd):
        pass

    app.ODD = Holder()
    app.ODD.held = Kept()

    assert edges_of(hold(app.ODD.held)) == ("app.cache.ODD.held", "Kept")


def test_a_dictionary_that_is_changed_while_it_is_read(app: Any) -> None:
    class Held:
        def __init__(self) -> None:
            self.kept = Kept()

    app.CACHE = {k: Held() for k in range(2000)}
    stop = threading.Event()

    def change() -> None:
        k = 10_000
        while not stop.is_set():
            app.CACHE[k] = app.CACHE.pop(k - 1, None)
            k += 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            held = hold(app.CACHE[1999].kept)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)

    assert edges_of(held) == ("app.cache.CACHE[1999].kept", "Kept")


def test_a_member_of_an_enumeration_as_a_key(app: Any) -> None:
    class Split(enum.Enum):
        TRAIN = "train"

    app.CACHE = {Split.TRAIN: [Kept()]}

    held = hold(app.CACHE[Split.TRAIN][0])

    assert edges_of(held) == ("app.cache.CACHE[Split.TRAIN] (list of 1)", "Kept")


@pytest.fixture
def unready() -> Any:
    """Return a type from C that was never made ready: no ``__dict__``, no bases."""
    testcapi = pytest.importorskip("_testcapi")
    namespace_of = type.__dict__["__dict__"].__get__
    for found in vars(testcapi).values():
        if type(found) is type and namespace_of(found) is None:
            return found
    return pytest.skip("this Python makes all its types ready")


def test_a_type_that_was_never_made_ready_ends_no_search(
    app: Any, unready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ModuleType("box")  # a library
    box.__file__ = json.__file__
    monkeypatch.setitem(sys.modules, "box", box)
    box.kept = [unready, [Kept()]]  # type: ignore[attr-defined]
    paths = Paths({}, NO_DEADLINE)

    held = hold_anywhere(lambda: box.kept[1][0])

    assert edges_of(held) == ("box.kept[1] (list of 1)", "Kept")
    assert not list(paths.held_by(unready))
    assert type_name(unready) == unready.__qualname__


def test_an_object_that_cannot_be_looked_into_is_skipped(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(cls: type) -> Any:
        if cls is Slotted:
            raise RuntimeError("unreadable")
        return names_in(cls)

    module = "pytest_tfleak.diagnosis.holder.search"
    monkeypatch.setattr(f"{module}.names_in", fail)
    monkeypatch.setattr(Slotted, "__module__", "app.cache")
    app.ODD = Slotted
    app.HISTORY = [Kept()]

    assert edges_of(hold(app.HISTORY[0]))[0] == "app.cache.HISTORY (list of 1)"


def test_an_entry_of_a_weak_dictionary_belongs_to_what_keeps_its_key(app: Any) -> None:
    app.LOADED = [[[[Kept()]]]]  # a longer path than that through the dictionary
    app.COPIES = weakref.WeakKeyDictionary()

    def key() -> Any:
        return app.LOADED[0][0][0][0]

    def value() -> Any:
        return next(iter(app.COPIES.values()))

    app.COPIES[key()] = Slotted(None)
    paths = Paths({}, NO_DEADLINE)

    paths.find([key(), value()])

    held = describe_path(paths.path_to(value()), {id(key()), id(value())})
    assert edges_of(held)[0] == "app.cache.LOADED[0][0][0] (list of 1)"
    assert [step.short_type for step in held.steps][-2:] == ["Kept", "Slotted"]


def test_the_module_of_a_script_that_was_piped_in_is_user_code() -> None:
    script = ModuleType("__main__")
    script.__file__ = "<stdin>"
    assert is_users_module(script)
    library = ModuleType("lib")
    library.__file__ = "<frozen lib>"
    assert not is_users_module(library)
