"""One value that grows is found, also inside of objects that each call replaces."""

from __future__ import annotations

import gc
import inspect
import io
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_tfleak.diagnosis.survivors.longer_values import LongerValue
from pytest_tfleak.diagnosis.survivors.longer_values import Searched
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop

MORE = 50_000  # bytes, or items, that each call adds
BEFORE = 4  # calls before the search


class Repeats:
    """A loop that only calls the body."""

    def __init__(self, body: Callable[[], object]) -> None:
        self._body = body
        self.trace = SimpleNamespace(rows=BEFORE)
        self.ran_again = 0
        self.repeat(BEFORE, [])

    def repeat(
        self,
        iterations: int,
        after: Sequence[Callable[[], None]],
        deadline: Deadline = NO_DEADLINE,
    ) -> int:
        for _ in range(iterations):
            self._body()
            for call in after:
                call()
        return iterations

    def refreeze(self, look: Callable[[list[Any]], None]) -> None:
        gc.collect()
        look(gc.get_objects())


def search(
    body: Callable[[], object],
    *,
    rate: int = MORE,
    in_blocks: bool = False,
    deadline: Deadline = NO_DEADLINE,
) -> Searched:
    loop = cast(Loop, Repeats(body))
    search = LongerValue(loop, {}, rate, 3, [], deadline, in_blocks=in_blocks)
    return search.find()


@dataclass(frozen=True)
class Rollout:
    states: bytes = b""
    actions: bytes = b""


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class Agent:
    text = ""

    def __init__(self) -> None:
        self.rollout = Rollout()
        self.first, self.second = b"", b""
        self.wrapped = Slotted(Slotted([bytearray()]))
        self.file = io.TextIOWrapper(io.BytesIO(), write_through=True)
        self._values = b""

    @property
    def values(self) -> bytes:
        return self._values

    @values.setter
    def values(self, values: bytes) -> None:
        self._values = values


@dataclass
class Box:
    """What the bodies add to; a fresh one for each test."""

    agent: Agent = field(default_factory=Agent)
    by_name: dict[str, bytes] = field(default_factory=lambda: {"x": b"", "y": b""})
    state: dict[str, Any] = field(default_factory=lambda: {"seen": ()})
    view: memoryview = field(default_factory=lambda: memoryview(b""))


BOX = Box()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    vars(BOX).update(vars(Box()))
    Agent.text = ""


def several_fields_replaced() -> None:
    half = b"x" * (MORE // 2)
    old = BOX.agent.rollout
    new = replace(old, states=old.states + half, actions=old.actions + half)
    BOX.agent.rollout = new  # stored


def several_entries_replaced() -> None:
    for name in ("x", "y"):
        BOX.by_name[name] = BOX.by_name[name] + b"x" * (MORE // 2)  # stored


def several_attributes_replaced() -> None:
    agent = BOX.agent
    agent.first += b"x" * (MORE // 2)
    agent.second += b"x" * (MORE // 2)


def deep_inside() -> None:
    old = BOX.agent.wrapped.inner.inner[0]
    BOX.agent.wrapped = Slotted(Slotted([old + b"x" * MORE]))  # stored


def in_place() -> None:
    BOX.agent.wrapped.inner.inner[0].extend(b"x" * MORE)  # stored


def in_a_file() -> None:
    BOX.agent.file.write("x" * MORE)  # stored


def through_a_property() -> None:
    def put(values: bytes) -> None:
        BOX.agent.values = values

    put(BOX.agent.values + b"x" * MORE)


def in_a_class() -> None:
    Agent.text = Agent.text + "x" * MORE  # stored


def by_a_view() -> None:
    BOX.view = memoryview(bytes(BOX.view) + b"x" * MORE)  # stored


def numbers_in_a_tuple() -> None:
    new = tuple(float(n) for n in range(MORE // 32))
    BOX.state["seen"] = BOX.state["seen"] + new  # stored


@pytest.mark.parametrize(
    ("body", "holder", "kind"),
    [
        (several_fields_replaced, "BOX.agent.rollout", "Rollout"),
        (several_entries_replaced, "BOX.by_name", "dict"),
        (several_attributes_replaced, "BOX.agent", "Agent"),
        (deep_inside, "BOX.agent.wrapped", "Slotted"),
        (in_place, "BOX.agent.wrapped.inner.inner[0]", "bytearray"),
        (in_a_file, "BOX.agent.file.buffer", "BytesIO"),
        (through_a_property, "BOX.agent._values", "bytes"),
        (in_a_class, "Agent.text", "str"),
        (by_a_view, "BOX.view", "memoryview"),
        (numbers_in_a_tuple, "BOX.state['seen']", "tuple"),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_the_holder_of_a_growing_value_is_found(
    body: Callable[[], object], holder: str, kind: str
) -> None:
    searched = search(body)

    group = searched.group
    assert searched.is_complete and group is not None
    assert edges_of(group.path)[0] == f"{__name__}.{holder}"
    assert group.whole.kind.endswith(f".{kind}")
    assert group.bytes == pytest.approx(MORE, rel=0.3)
    assert group.stored is not None and group.stored.file == __file__
    assert "stored" not in source_of(body) or "# stored" in group.stored.text


def source_of(body: Callable[[], object]) -> str:
    return inspect.getsource(body)


def test_numbers_count_as_blocks() -> None:
    searched = search(numbers_in_a_tuple, rate=MORE // 32, in_blocks=True)

    group = searched.group
    assert group is not None and group.bytes == 0
    assert edges_of(group.path)[0] == f"{__name__}.BOX.state['seen']"


def test_what_is_only_replaced_does_not_grow() -> None:
    def body() -> None:
        BOX.agent.rollout = Rollout(states=b"x" * (10 * MORE))

    assert search(body) == Searched(is_excluded=True)


def test_a_large_value_beside_the_growing_one_is_not_named() -> None:
    BOX.state["large"] = b"x" * (50 * MORE)

    searched = search(numbers_in_a_tuple)

    assert searched.group is not None
    assert searched.group.path.steps[-1].name == "'seen'"


def test_a_search_that_is_cut_short_says_so() -> None:
    searched = search(deep_inside, deadline=Deadline(at=0.0, latest=0.0))

    assert searched == Searched(is_complete=False)
