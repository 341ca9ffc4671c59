"""A failing probe affects only its own signals."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes.base import GuardedProbe
from pytest_tfleak.probes.base import ProbeError
from pytest_tfleak.probes.census import Census
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.run.snapshot import take_snapshot
from pytest_tfleak.testing import FakeProbe
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

#: Methods that a verdict depends on, and those that only inform or clean up.
JUDGED = ("signals", "has_more_signals", "settle", "read", "untrusted", "still_there")
TOLD = ("notes", "reasons", "codes", "close")
METHODS = (*JUDGED, *TOLD, "why_off", "remark")


def failing(method: str) -> FakeProbe:
    """Return a probe whose readings are level and that fails in one of its methods."""

    def fail(*_: object) -> Any:
        raise LookupError("no such\nsensor")

    probe = FakeProbe({"sensor": itertools.repeat(1)})
    probe.name = "broken"
    setattr(probe, method, fail)
    return probe


def measure(
    *probes: FakeProbe, body: Callable[[], object] = lambda: None, **options: Any
) -> Verdict:
    return Measurement(
        body,
        make_plan(**{"iterations": 10, "warmup": 1, **options}),
        Setting(nodeid="x", probes=lambda census: probes),
    ).run()


@pytest.mark.parametrize("method", METHODS)
def test_the_leak_that_another_probe_sees_stands(method: str) -> None:
    leaking = FakeProbe({"fake": itertools.count()})
    verdict = measure(failing(method), leaking, diagnose="off")
    assert verdict.status is Status.LEAK
    assert [finding.signal for finding in verdict.failing] == ["fake"]


@pytest.mark.parametrize("method", JUDGED)
def test_a_failure_that_affects_readings_leaves_the_verdict_open(
    method: str,
) -> None:
    verdict = measure(failing(method), FakeProbe({"fake": itertools.repeat(1)}))
    assert verdict.status is Status.INCONCLUSIVE
    why = "LookupError: no such sensor"
    assert verdict.detail == f"not read to the end: broken ({why})"
    if method != "signals":
        sensor = verdict.signal("sensor")
        assert (sensor.status, sensor.reason) == ("untrusted", why)


@pytest.mark.parametrize("method", TOLD)
def test_a_failure_that_does_not_affect_readings_is_a_note(method: str) -> None:
    verdict = measure(failing(method), FakeProbe({"fake": itertools.repeat(1)}))
    assert verdict.status is Status.CLEAN
    note = f"The probe 'broken' failed in {method}: LookupError: no such sensor."
    assert verdict.notes == (note,)


@pytest.mark.parametrize("method", TOLD)
def test_a_leak_stands_after_a_failure_that_does_not_affect_readings(
    method: str,
) -> None:
    probe = FakeProbe({"fake": itertools.count()})
    setattr(probe, method, getattr(failing(method), method))
    assert measure(probe, diagnose="off").status is Status.LEAK


@pytest.mark.parametrize("method", METHODS)
def test_a_snapshot_is_taken_all_the_same(method: str) -> None:
    other = FakeProbe({"fake": itertools.repeat(7)})
    snapshot = take_snapshot(lambda census: [failing(method), other])
    assert snapshot.objects["fake"] == 7
    if method in ("signals", "settle", "read"):
        assert snapshot.objects.get("sensor") is None
        assert snapshot.failures == {"broken": "LookupError: no such sensor"}


@pytest.mark.parametrize(
    ("method", "returned"),
    [
        ("signals", None),
        ("signals", ["host.heap"]),
        ("untrusted", 3),
        ("still_there", ["x"]),
        ("reasons", [1]),
        ("notes", 5),
    ],
)
def test_what_a_method_must_not_return_is_a_failure(
    method: str, returned: object
) -> None:
    probe = failing(method)
    setattr(probe, method, lambda: returned)
    guarded = GuardedProbe(probe)
    getattr(guarded, method)()
    assert guarded.failure or guarded.take_complaints()


def test_a_probe_without_a_method_fails_like_one_that_raises() -> None:
    class Bare:
        name = "bare"

        def signals(self) -> list[Signal]:
            return [Signal(name="bare", unit="things")]

        def read(self, buffer: array[int], start: int, deep: bool) -> None:
            buffer[start] = 1

    guarded = GuardedProbe(Bare())  # type: ignore[arg-type]
    assert guarded.signals()
    assert not guarded.has_more_signals()
    assert guarded.failure is not None and "AttributeError" in guarded.failure


def test_an_interrupt_in_a_probe_passes_through() -> None:
    class Interrupted(FakeProbe):
        def read(self, buffer: array[int], start: int, deep: bool) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(Interrupted({"sensor": []}))


def test_a_signal_that_two_probes_read_is_an_error() -> None:
    first, second = (FakeProbe({"same": itertools.repeat(1)}) for _ in range(2))
    second.name = "other"
    calls = itertools.count()
    with pytest.raises(ProbeError, match="named 'same': 'fake' and 'other'"):
        measure(first, second, body=lambda: next(calls))
    assert next(calls) == 0


def test_a_late_signal_of_the_same_name_drops_its_probe() -> None:
    class Late(FakeProbe):
        def signals(self) -> Any:
            late = Signal(name="fake", unit="things")
            return [*super().signals(), late] if late_ones else super().signals()

        def has_more_signals(self) -> bool:
            return bool(late_ones)

    late_ones: list[int] = []
    probes = [
        FakeProbe({"fake": itertools.repeat(1)}),
        Late({"own": itertools.repeat(1)}),
    ]
    plan = Plan(iterations=6, warmup=0)
    with Loop(lambda: None, plan, probes, Census()) as loop:
        loop.warm_up()
        late_ones.append(1)
        loop.measure()
    assert loop.trace.judged_series("fake") == [1] * 6
    assert "two probes read a signal named 'fake'" in loop.failures["fake"]
