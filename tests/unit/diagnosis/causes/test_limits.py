"""How to limit a container: code for its type, under the name that its code uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_tfleak.diagnosis.causes.limits import container_code
from pytest_tfleak.diagnosis.causes.limits import limit_of
from pytest_tfleak.diagnosis.origin.source_hints import Filling
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import CLOSURE
from pytest_tfleak.retaining_path import ENTRY
from pytest_tfleak.retaining_path import ITEM
from pytest_tfleak.retaining_path import KEY
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import VALUE
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from tests.builders import in_frame
from tests.builders import path_to

INSTANCE = Step(kind=ATTRIBUTE, name="TRACKER", types=("app.Tracker",))
CLASS = Step(kind=ATTRIBUTE, name="Tracker", types=("builtins.type",))
FUNCTION = Step(kind=ATTRIBUTE, name="work", types=("builtins.function",))
PROPERTY = Step(kind=ATTRIBUTE, name="speed", types=("builtins.property",))
JOBS = Step(kind=ATTRIBUTE, name="JOBS", types=("builtins.dict",))
SEEN_OF_IT = Step(kind=ATTRIBUTE, name="seen")
INNER = Step(kind=ATTRIBUTE, name="state", types=("types.SimpleNamespace",))
PLAIN = Step(kind=ATTRIBUTE, name="STATE", types=("types.SimpleNamespace",))


@pytest.mark.parametrize(
    ("container", "code"),
    [
        ("list", "`del SEEN[:-10]`"),
        ("dict", "`while len(SEEN) > 10: SEEN.pop(next(iter(SEEN)))`"),
        ("set", "`SEEN.discard(x)`"),
        ("deque", "`collections.deque(maxlen=10)`"),
        ("tuple", "`SEEN = SEEN[-10:]`"),
        ("TrackedList", "`del SEEN[:-10]`"),
        ("lru_cache", "remove the old ones"),
    ],
)
def test_the_code_fits_the_type_of_the_container(container: str, code: str) -> None:
    path = kept_in(Step(kind=ATTRIBUTE, name="SEEN"), container=container)
    assert code in limit(path)


@pytest.mark.parametrize(
    ("container", "full", "left"),
    [
        ("list", list(range(300)), list(range(290, 300))),
        ("tuple", tuple(range(300)), tuple(range(290, 300))),
        ("dict", dict.fromkeys(range(300)), dict.fromkeys(range(290, 300))),
        ("set", {1, 2}, {2}),
    ],
)
def test_the_code_limits_the_container(container: str, full: Any, left: Any) -> None:
    path = kept_in(Step(kind=ATTRIBUTE, name="SEEN"), container=container)
    names = {"SEEN": full, "x": 1}
    exec(limit(path).split("`")[1], names)
    assert names["SEEN"] == left


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([Step(kind=ATTRIBUTE, name="SEEN")], "SEEN"),
        ([INSTANCE, Step(kind=ATTRIBUTE, name="items")], "self.items"),
        ([CLASS, Step(kind=ATTRIBUTE, name="items")], "Tracker.items"),
        ([FUNCTION, Step(kind=ATTRIBUTE, name="seen")], "work.seen"),
        ([PLAIN, Step(kind=ATTRIBUTE, name="seen")], "STATE.seen"),
        (
            [JOBS, Step(kind=ITEM, name="'a'", types=INNER.types), SEEN_OF_IT],
            "JOBS['a'].seen",
        ),
        ([CLASS, PROPERTY, Step(kind=ATTRIBUTE, name="fget")], "Tracker.speed.fget"),
        ([INSTANCE, INNER, Step(kind=ATTRIBUTE, name="seen")], "self.state.seen"),
        (
            [Step(kind=ATTRIBUTE, name="SEEN"), Step(kind=ITEM, name="'loss'")],
            "SEEN['loss']",
        ),
        ([Step(kind=ATTRIBUTE, name="f"), Step(kind=CLOSURE, name="seen")], "seen"),
    ],
)
def test_the_name_is_the_one_that_the_code_uses(steps: list[Step], name: str) -> None:
    assert f"`del {name}[:-10]`" in limit(kept_in(*steps))


@pytest.mark.parametrize(
    "steps",
    [
        [Step(kind=ATTRIBUTE, name="SEEN"), Step(kind=KEY)],
        [Step(kind=ATTRIBUTE, name="SEEN"), Step(kind=ITEM, name="...")],
        [Step(kind=ATTRIBUTE, name="SEEN"), Step(kind=ITEM, name="'aaaaaaaa...")],
        [Step(kind=ATTRIBUTE, name="SEEN"), Step(kind=ITEM, name="<Color.RED: 1>")],
        [Step(kind=CLOSURE, name="...")],
        [Step(kind=VALUE)],
    ],
)
def test_code_that_would_not_work_is_not_printed(steps: list[Step]) -> None:
    assert "`" not in limit(kept_in(*steps))


def test_what_a_fixture_returns_has_the_name_of_the_fixture() -> None:
    path = kept_in(Step(kind=VALUE))
    of_fixture = replace(path, root=Root(kind="fixture", name="seen"))
    assert "`del seen[:-10]`" in limit(of_fixture)

    job = Step(kind=ITEM, name="'job'", types=INNER.types)
    within = replace(kept_in(Step(kind=VALUE), job, SEEN_OF_IT), root=of_fixture.root)
    assert "`del seen['job'].seen[:-10]`" in limit(within)


def test_a_local_variable_has_its_own_name() -> None:
    path = in_frame("seen", "serve")
    assert "remove the old ones" in limit(path)  # nothing that grows is known


def test_a_cache_that_the_collector_does_not_list_has_its_name() -> None:
    steps = [
        CLASS,
        Step(kind=ATTRIBUTE, name="get", types=("functools._lru_cache_wrapper",)),
        Step(kind=UNKNOWN, types=("builtins.dict",)),
    ]
    root = Root(kind="module", name="app")
    assert container_code(RetainingPath(root=root, steps=tuple(steps))) == "Tracker.get"


def test_without_a_container_no_code_is_made_up() -> None:
    assert "`" not in limit(None)
    assert "`" not in limit(path_to(size=None))


@pytest.mark.parametrize(
    ("container", "filling", "code"),
    [
        ("list", Filling(is_appended=False), "`del SEEN[:-10]` after each append"),
        ("list", Filling(is_at_start=True), "`del SEEN[10:]` after each insert"),
        (
            "list",
            Filling(pops="heapq.heappop"),
            "`while len(SEEN) > 10: heapq.heappop(SEEN)` after each push",
        ),
        (
            "dict",
            Filling(is_by_length=True),
            "`SEEN.clear()` when its entries are done",
        ),
    ],
)
def test_the_code_fits_how_the_container_is_filled(
    container: str, filling: Filling, code: str
) -> None:
    path = kept_in(Step(kind=ATTRIBUTE, name="SEEN"), container=container)
    assert limit_of(path, "SEEN", "x", filling).startswith(code)


def limit(path: RetainingPath | None) -> str:
    """Return how to limit a container under the name that its path gives it."""
    return limit_of(path, container_code(path), "x", Filling())


def kept_in(*steps: Step, container: str = "list") -> RetainingPath:
    """Return the path to an object in a container that the last step leads to."""
    last = replace(steps[-1], container=container, size=9)
    held = Step(kind=ENTRY, types=("app.Thing",), is_new=True)
    return RetainingPath(
        root=Root(kind="module", name="app"), steps=(*steps[:-1], last, held)
    )
