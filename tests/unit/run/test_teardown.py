"""Growth that the teardown of fixtures takes away, with fixtures of our own."""

from __future__ import annotations

import builtins
import io
import sys
from array import array
from collections.abc import Collection
from math import inf
from typing import Any
from typing import ClassVar

import numpy
import pytest

from pytest_tfleak.judge import judge
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.census import Census
from pytest_tfleak.run import teardown
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.confirm import go_on
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.run.teardown import _size_of
from pytest_tfleak.run.teardown import judge_torn_down
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

OVER = Deadline(0.0)
OUTSIDE = (KeyboardInterrupt(), SystemExit(1))


class Failed(BaseException):
    """Is no Exception, like that of pytest.fail()."""


class Fixtures:
    """A registry that a teardown empties, and a value that is made again."""

    def __init__(self, names: int = 1, error: BaseException | None = None) -> None:
        self.registry: list[bytearray] = []
        self.value: Any = []
        self.kept: list[object] = []
        self.is_renewed = False
        self.keeps: frozenset[str] = frozenset()
        self.torn_down = 0
        self._names = names
        self._error = error

    def call(self, *, into: str) -> None:
        self.add(into)
        if self.is_renewed:
            self.kept += [getattr(self, name) for name in self.keeps]
            self.registry.clear()
            self.value = type(self.value)()
            self.torn_down += 1
            if self._error is not None:
                raise self._error

    def add(self, into: str) -> None:
        getattr(self, into).append(bytearray(20_000))

    def names(self) -> list[str]:
        return [f"fixture{number}" for number in range(self._names)]

    def values(self) -> dict[str, object]:
        return {"value": self.value, "nothing": None}

    def begin(self, keep: Collection[str]) -> None:
        self.is_renewed, self.keeps = True, frozenset(keep)

    def stop_keeping(self) -> None:
        self.keeps = frozenset()
        self.kept.clear()

    def end(self) -> None:
        self.stop_keeping()
        self.is_renewed = False


def measure(fixtures: Fixtures, into: str, **options: object) -> Verdict:
    return Measurement(
        lambda: fixtures.call(into=into),
        make_plan(diagnose="off", **options),
        Setting(nodeid="x", teardown=fixtures),
    ).run()


def test_what_a_teardown_takes_away_is_clean() -> None:
    verdict = measure(Fixtures(names=5), "registry")
    assert verdict.status is Status.CLEAN, verdict.findings
    assert "(fixture0, fixture1, fixture2 and 2 more): judged" in verdict.notes[0]
    assert verdict.warmup == 107


def test_what_goes_with_a_fixtures_value_is_a_leak() -> None:
    fixtures = Fixtures()
    verdict = measure(fixtures, "value")
    assert verdict.status is Status.LEAK
    assert (verdict.warmup, verdict.notes) == (5, ())
    assert not fixtures.is_renewed
    assert not fixtures.kept


def test_without_growth_nothing_is_torn_down() -> None:
    fixtures = Fixtures()
    assert (
        measure(fixtures, "registry", host_per_iteration=10**6).status is Status.CLEAN
    )
    assert fixtures.torn_down == 0


@pytest.mark.parametrize("error", [ValueError("late"), Failed("late")])
def test_a_leak_stands_if_the_teardown_fails(error: BaseException) -> None:
    verdict = measure(Fixtures(error=error), "registry")
    assert verdict.status is Status.LEAK
    assert f"cut short: {type(error).__name__}: late" in verdict.notes[0]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="has no groups")
def test_a_leak_stands_if_several_teardowns_fail() -> None:
    group = vars(builtins)["BaseExceptionGroup"]
    error = group("late", [ValueError("one"), Failed("two")])
    assert measure(Fixtures(error=error), "registry").status is Status.LEAK
    with pytest.raises(group):
        measure(Fixtures(error=group("late", [error, *OUTSIDE])), "registry")


@pytest.mark.parametrize("error", OUTSIDE, ids=["ctrl-c", "exit"])
def test_what_ends_the_run_ends_it(error: BaseException) -> None:
    with pytest.raises(type(error)):
        measure(Fixtures(error=error), "registry")


class Unhashable(type):
    """A class of classes that cannot be hashed or compared."""

    def __hash__(cls) -> int:
        raise AssertionError("hashed")

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("compared")


class Pretender(metaclass=Unhashable):
    """Says that it is of another class."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.asked = 0

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        vars(self)["asked"] += 1
        return type


def handle() -> tuple[list[int], Any]:
    held: list[int] = []

    class Client:
        __slots__ = ()

        def call(self) -> None:
            held.append(1)

    def by_closure() -> None:
        held.append(1)

    def by_default(held: list[int] = held, *, more: list[int] = held) -> None: ...
    def by_keyword(*, held: list[int] = held) -> None: ...
    def by_attribute() -> None: ...

    vars(by_attribute)["held"] = held
    values = {
        "closure": by_closure,
        "default": by_default,
        "keyword": by_keyword,
        "attribute": by_attribute,
        "method": held.append,
        "class": Client,
        "instance": Client(),
        "made by type()": type("Made", (), {"call": by_closure})(),
        "big": [[[i] for i in range(150_000)], held],
    }
    return held, values


KINDS = tuple(handle()[1])


@pytest.mark.parametrize("kind", KINDS)
def test_growth_is_seen_behind(kind: str) -> None:
    held, values = handle()
    before = _size_of([values[kind]]).references
    held.append(1)
    assert _size_of([values[kind]]).references == before + 1


class Buffers:
    """Holds one object of each kind that grows in place or is made anew."""

    def __init__(self, size: int) -> None:
        self.values: dict[str, Any] = {
            "bytearray": bytearray(size),
            "array": array("b", bytes(size)),
            "array of NumPy": numpy.zeros(size, "u1"),
            "view": numpy.zeros(size, "u1")[:1],
            "bytes": bytes(size),
            "text": "x" * size,
            "file": io.BytesIO(bytes(size)),
        }


@pytest.mark.parametrize("kind", Buffers(0).values)
def test_growth_of_a_buffer_is_seen(kind: str) -> None:
    small, large = (_size_of([Buffers(size).values[kind]]) for size in (9, 30_009))
    assert large.content - small.content == pytest.approx(30_000, abs=200)
    assert large.exceeds(small, 20_000)
    assert not large.exceeds(small, 40_000)


class Buffer(Fixtures):
    """Has one long value instead of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.value = bytearray()

    def add(self, into: str) -> None:
        vars(self)[into] += bytes(20_000)


def test_a_buffer_that_goes_with_a_fixtures_value_is_a_leak() -> None:
    assert measure(Buffer(), "value").status is Status.LEAK


class Shared:
    held: ClassVar[list[int]] = []


def test_growth_outside_a_value_is_not_seen() -> None:
    before = _size_of([Shared()]).references
    Shared.held.append(1)
    assert _size_of([Shared()]).references == before
    before = _size_of([handle]).references
    globals()["ELSEWHERE"] = object()
    assert _size_of([handle]).references == before


def test_a_value_too_big_to_count_counts_as_grown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teardown, "_MOST_BELOW", 100)
    assert _size_of([[] for _ in range(50)]).references < inf
    assert _size_of([[] for _ in range(200)]).references == inf
    fixtures = Fixtures()
    fixtures.value = [bytearray() for _ in range(200)]
    assert measure(fixtures, "value").status is Status.LEAK


def test_counting_runs_no_code_of_a_value() -> None:
    pretender = Pretender()
    count = _size_of([pretender]).references
    asked = pretender.asked
    assert asked == 0
    pretender.held.append(1)
    assert _size_of([pretender]).references == count + 1


@pytest.mark.parametrize("calls", [2, 9, 20])
def test_without_time_to_see_a_teardown_clean_up_the_result_is_open(calls: int) -> None:
    fixtures, plan = Fixtures(), make_plan(iterations=10)

    def body() -> None:
        fixtures.call(into="registry")
        # the time is up so many calls after the teardowns have begun
        if fixtures.torn_down == calls:
            loop.deadline = OVER

    census = Census()
    loop = Loop(body, plan, make_probes(census), census)
    with loop:
        loop.warm_up()
        loop.measure()
        go_on(loop, plan)
        assert judge_torn_down(loop, plan, Endings(), fixtures, fixtures.end) == []
        judged = judge(loop.trace, plan)
    assert not judged.findings
    assert {doubt.reason for doubt in judged.doubts} == {Reason.OUT_OF_TIME}
    assert not fixtures.is_renewed
