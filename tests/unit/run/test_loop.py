"""Warm up, settle, call, read."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from unittest import SkipTest

import pytest

from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.measurement import find_leaks
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.confirm import go_on
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.testing import FakeProbe
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status

OVER = Deadline(0.0)


def measure(body: Callable[[], object], readings: Any, **options: object) -> Any:
    measurement = Measurement(
        body,
        make_plan(**options),
        Setting(nodeid="x", probes=lambda census: [FakeProbe({"fake": readings})]),
    )
    return measurement.run()


class TakingCensus(Census):
    """Adds 100 each time it looks at all objects, like the memory for their list."""

    taken = 0

    def refreeze(self, look: Callable[[list[Any]], None] | None = None) -> None:
        super().refreeze(look)
        self.taken += 100


class Taken(Probe):
    """Reads what a census has added, as memory and as tensors."""

    name = "taken"
    is_readable_anytime = True

    def __init__(self, census: TakingCensus) -> None:
        self._census = census

    def signals(self) -> tuple[Signal, ...]:
        return Signal(name="memory", unit="B"), Signal(name="count", unit="tensors")

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        buffer[start] = buffer[start + 1] = self._census.taken


def test_what_the_pause_before_the_confirmation_took_is_noted() -> None:
    census, plan = TakingCensus(), Plan(iterations=10)
    with Loop(lambda: None, plan, [Taken(census)], census) as loop:
        loop.warm_up()
        loop.measure()
        go_on(loop, plan)
    assert loop.trace.collected == {10: {"memory": -100, "count": -100}}


@pytest.mark.parametrize("plan", [Plan(iterations=7, warmup=3), Plan(warmup=0)])
def test_the_body_runs_warmup_plus_iterations_times(plan: Plan) -> None:
    calls = itertools.count()
    verdict = measure(
        lambda: next(calls),
        itertools.repeat(1),
        iterations=plan.iterations,
        warmup=plan.warmup,
    )
    assert next(calls) == plan.iterations + plan.warmup
    assert verdict.iterations == plan.iterations
    assert verdict.warmup == plan.warmup
    assert verdict.confirmation == 0


def test_a_suspicion_is_confirmed_with_as_many_iterations() -> None:
    calls = itertools.count()
    verdict = measure(
        lambda: next(calls),
        itertools.count(),
        iterations=10,
        warmup=2,
        diagnose=False,
    )
    assert next(calls) == 22
    assert (verdict.status, verdict.iterations) == (Status.LEAK, 20)
    assert verdict.confirmation == 10


@pytest.mark.parametrize(
    ("at", "depth", "confirmation"), [(4, 3, 10), (15, 8, 40), (14, 14, 50)]
)
def test_a_leak_that_fell_is_confirmed_by_more_iterations(
    at: int, depth: int, confirmation: int
) -> None:
    readings = (row - depth * (row >= at) for row in itertools.count())
    verdict = measure(lambda: None, readings, iterations=10, warmup=0, diagnose="off")
    assert verdict.status is Status.LEAK
    assert verdict.confirmation == confirmation


def test_a_buffer_that_is_emptied_again_is_clean() -> None:
    readings = (row % 14 for row in itertools.count())
    verdict = measure(lambda: None, readings, iterations=10, warmup=0)
    assert (verdict.status, verdict.confirmation) == (Status.CLEAN, 50)


def test_no_time_for_another_fall_is_inconclusive() -> None:
    calls = itertools.count(1)
    readings = (row - 8 * (row >= 15) for row in itertools.count())

    def body() -> None:
        if next(calls) > 20:
            time.sleep(0.3)

    verdict = measure(
        body, readings, iterations=10, warmup=0, diagnose="off", max_time=2
    )
    assert verdict.status is Status.INCONCLUSIVE
    # a busy machine runs out of time before the second fall could come
    assert verdict.detail is not None
    assert verdict.detail.startswith("fake grows, but ")
    assert "max_time left no time to" in verdict.detail


def test_a_cache_that_fills_in_the_confirmation_is_clean() -> None:
    filling = itertools.chain(range(70), itertools.repeat(70))
    verdict = measure(lambda: None, filling, iterations=50, warmup=0)
    assert (verdict.status, verdict.confirmation) == (Status.CLEAN, 50)


NEEDLE = """
from pytest_tfleak import find_leaks

verdict = find_leaks(lambda: None, iterations=30, warmup=30)
for signal in verdict.signals:
    readings = [value for value in signal.series[30:] if value is not None]
    # the system moves pages in and out as it likes
    if not readings or signal.name in ("host.rss", "host.uss"):
        continue
    # the interpreter may drop a block or two that it has had since some import
    least = readings[0] - (3 if signal.name == "python.blocks" else 0)
    if max(readings) > readings[0] or min(readings) < least:
        print(signal.name, signal.series)
"""


@pytest.mark.layout
@pytest.mark.usefixtures("untraced")
def test_a_body_without_effect_reads_zero_on_every_signal() -> None:
    # in a process of its own, as pytest and its plugins change the figures
    done = subprocess.run(
        [sys.executable, "-c", NEEDLE], capture_output=True, check=True, text=True
    )
    assert done.stdout == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_freeze_is_undone_whatever_the_body_raises(
    error: type[BaseException],
) -> None:
    frozen = gc.get_freeze_count()
    calls = itertools.count(1)

    def body() -> None:
        if next(calls) == 8:
            raise error

    measurement = Measurement(
        body,
        Plan(),
        Setting(
            nodeid="x", probes=lambda census: [FakeProbe({"fake": itertools.count()})]
        ),
    )
    with pytest.raises(error):
        measurement.run()
    assert gc.get_freeze_count() <= frozen
    verdict = measurement.verdict
    assert verdict is not None
    assert verdict.status is Status.NOT_MEASURED
    wanted = Reason.BODY_FAILED if error is ValueError else Reason.INTERRUPTED
    assert verdict.reason is wanted
    assert verdict.signal("fake").series == (0, 1, 2, 3, 4, 5, 6)
    assert "iteration 8" in (verdict.detail or "")


def test_the_run_ends_when_time_is_up() -> None:
    verdict = measure(
        lambda: time.sleep(0.02), itertools.repeat(1), max_time=0.1, warmup=1
    )
    assert verdict.iterations < 50
    assert verdict.status in (Status.CLEAN, Status.INCONCLUSIVE)
    slow = measure(lambda: time.sleep(0.06), itertools.repeat(1), max_time=0.1)
    assert (slow.status, slow.reason) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)


def test_a_run_whose_time_is_up_ends_with_the_iteration_in_hand() -> None:
    calls = itertools.count()
    plan = Plan(iterations=5, warmup=0)
    with Loop(lambda: next(calls), plan, [], Census()) as loop:
        trace = loop.run_again(warmup=1, iterations=9, deadline=OVER)
        assert (trace.warmed_up, trace.measured) == (1, 0)
        assert loop.run_again(warmup=0, iterations=9, deadline=OVER).measured == 1
        loop.repeat(9, [], OVER)
    assert next(calls) == 3


def test_a_measurement_inside_a_measurement_is_refused() -> None:
    with pytest.raises(RuntimeError, match="already being measured"):
        find_leaks(lambda: find_leaks(lambda: None), iterations=5, warmup=0)
    assert find_leaks(lambda: None, iterations=5, warmup=0).iterations == 5


def test_signals_that_appear_in_the_warm_up_are_read_from_then_on() -> None:
    class Late(FakeProbe):
        def signals(self) -> Any:
            found = super().signals()
            return found if calls > 2 else found[:1]

        def read(self, buffer: Any, start: int, deep: bool) -> None:
            buffer[start] = 1
            if calls > 3:
                buffer[start + 1] = 2

    calls = 0

    def body() -> None:
        nonlocal calls
        calls += 1

    plan = Plan(iterations=4, warmup=3)
    census = Census()
    probe = Late({"early": [], "late": []})
    with Loop(body, plan, [probe], census) as loop:
        loop.warm_up()
        loop.measure()
    assert loop.trace.series("early") == [1] * 7
    assert loop.trace.series("late") == [None] * 3 + [2] * 4


def test_slow_signals_are_read_at_both_ends_of_the_confirmation() -> None:
    plan = Plan(iterations=20)
    with Loop(lambda: None, plan, make_probes(Census()), Census()) as it:
        it.warm_up()
        it.measure()
        uss = it.trace.judged_series("host.uss")
        assert not any(value is not None for value in uss)
        go_on(it, plan)
    uss = [value is not None for value in it.trace.judged_series("host.uss")]
    assert uss[20:] == [True, *[False] * 18, True]


def test_the_library_call_refuses_bad_options() -> None:
    with pytest.raises(ValueError, match=r"unknown keyword .iteration.*iterations"):
        find_leaks(lambda: None, iteration=5)
    with pytest.raises(ValueError, match="host_per_iteration='4 KBs'"):
        find_leaks(lambda: None, host_per_iteration="4 KBs")


class Broken(FakeProbe):
    name = "broken"

    def read(self, buffer: Any, start: int, deep: bool) -> None:
        raise RuntimeError("no such sensor")


def test_a_probe_that_fails_leaves_the_verdict_open() -> None:
    measurement = Measurement(
        lambda: None,
        make_plan(iterations=5),
        Setting(
            nodeid="x",
            probes=lambda census: [
                Broken({"sensor": []}),
                FakeProbe({"fake": itertools.repeat(1)}),
            ],
        ),
    )
    verdict = measurement.run()
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason is Reason.PROBE_FAILED
    sensor = verdict.signal("sensor")
    assert (sensor.status, sensor.decides) == ("untrusted", False)
    assert sensor.reason == "RuntimeError: no such sensor"
    wanted = "not read to the end: broken (RuntimeError: no such sensor)"
    assert verdict.detail == wanted


class Cyclic:
    """A cycle, which only the garbage collector can free."""

    def __init__(self) -> None:
        self.me = self
        self.data = [0] * 1_000


@pytest.mark.parametrize("size", [30, 48, 50, 60])
def test_a_full_cache_of_cycles_is_clean(size: int) -> None:
    cache = deque((Cyclic() for _ in range(size)), maxlen=size)
    verdict = find_leaks(lambda: cache.append(Cyclic()), blocks=1)
    assert verdict.status is Status.CLEAN, verdict.findings


def test_a_leak_beside_a_full_cache_of_cycles_is_found() -> None:
    cache = deque((Cyclic() for _ in range(48)), maxlen=48)
    kept = []

    def body() -> None:
        cache.append(Cyclic())
        kept.append(bytearray(16_000))

    verdict = find_leaks(body, diagnose="off")
    assert [finding.signal for finding in verdict.findings] == ["host.heap"]


@pytest.mark.parametrize("at", [70, 96])
def test_older_cycles_that_go_once_hide_no_leak(at: int) -> None:
    older = [Cyclic() for _ in range(60)]
    kept = []
    calls = itertools.count(1)

    def body() -> None:
        kept.append(bytearray(8_000))
        if next(calls) == at:
            older.clear()

    verdict = find_leaks(body, diagnose="off")
    assert [finding.signal for finding in verdict.findings] == ["host.heap"]
    assert verdict.findings[0].per_iteration == pytest.approx(8_100, rel=0.1)


def test_older_cycles_that_go_after_a_fall_hide_no_leak() -> None:
    older = [Cyclic() for _ in range(260)]
    plain = [bytearray(8_000) for _ in range(60)]
    kept = []
    calls = itertools.count(1)

    def body() -> None:
        kept.append(bytearray(8_000))
        call = next(calls)
        if call == 80:
            plain.clear()
        if call == 90:
            older.clear()

    verdict = find_leaks(body, diagnose="off")
    assert [finding.signal for finding in verdict.findings] == ["host.heap"]


@pytest.mark.parametrize("every", [40, 150])
def test_a_buffer_of_cycles_that_is_emptied_is_clean(every: int) -> None:
    buffer = [Cyclic() for _ in range(2 * every - 65)]

    def body() -> None:
        buffer.append(Cyclic())
        if len(buffer) > 2 * every:
            del buffer[:every]

    verdict = find_leaks(body)
    assert verdict.status is Status.CLEAN, verdict.findings


@pytest.mark.parametrize("every", [1, 2])
def test_a_cache_that_is_not_full_after_all_iterations_is_clean(every: int) -> None:
    cached = lru_cache(lambda number: bytearray(20_000))  # of 128 entries
    numbers = itertools.count()
    verdict = find_leaks(lambda: cached(next(numbers) // every))
    assert verdict.status is Status.CLEAN, verdict.findings
    assert "was filling up" in verdict.notes[0]


def test_signals_may_appear_after_a_cache_was_filled() -> None:
    class Late(FakeProbe):
        def signals(self) -> Any:
            found = super().signals()
            return found if len(recent) == 140 else found[:1]

        def has_more_signals(self) -> bool:
            return len(recent) == 140

        def read(self, buffer: Any, start: int, deep: bool) -> None:
            buffer[start] = 1

    recent = deque[bytearray](maxlen=140)
    measurement = Measurement(
        lambda: recent.append(bytearray(30_000)),
        Plan(),
        Setting(
            nodeid="x",
            probes=lambda census: [
                *make_probes(census),
                Late({"early": [], "late": []}),
            ],
        ),
    )
    verdict = measurement.run()
    assert verdict.status is Status.CLEAN, verdict.findings
    assert (verdict.warmup, verdict.iterations) == (140, 50)
    assert verdict.signal("late").status == "unavailable"


def test_signals_may_appear_while_a_leak_is_judged_again() -> None:
    class Late(FakeProbe):
        def signals(self) -> Any:
            found = super().signals()
            return found if next_call > 150 else found[:1]

        def has_more_signals(self) -> bool:
            return next_call > 150

        def read(self, buffer: Any, start: int, deep: bool) -> None:
            buffer[start] = next_call

    next_call = 0
    recent = deque[bytearray](maxlen=140)

    def body() -> None:
        nonlocal next_call
        next_call += 1
        if next_call == 170:
            raise SkipTest("enough")
        recent.append(bytearray(30_000))

    measurement = Measurement(
        body,
        make_plan(diagnose="off"),
        Setting(
            nodeid="x",
            probes=lambda census: [
                Late({"late": [], "early": []}),
                *make_probes(census),
            ],
        ),
    )
    verdict = measurement.run()  # the finding from before the cache was filled stands
    assert verdict.status is Status.LEAK
    found = {finding.signal: finding for finding in verdict.findings}
    assert found["late"].per_iteration == 1
    assert found["host.heap"].per_iteration == pytest.approx(30_000, rel=0.1)


def test_a_leak_beside_a_cache_that_fills_is_found() -> None:
    recent = deque[bytearray](maxlen=140)
    kept = []

    def body() -> None:
        recent.append(bytearray(30_000))
        kept.append(bytearray(10_000))

    verdict = find_leaks(body, diagnose="off")
    (found,) = verdict.findings
    assert found.per_iteration == pytest.approx(10_000, rel=0.1)
    assert (verdict.warmup, verdict.iterations) == (140, 100)


def test_a_cache_without_time_to_fill_is_inconclusive() -> None:
    recent = deque[bytearray](maxlen=140)

    def body() -> None:
        recent.append(bytearray(30_000))
        time.sleep(0.02)

    verdict = find_leaks(body, diagnose="off", max_time=3.8)
    assert (verdict.status, verdict.reason) == (
        Status.INCONCLUSIVE,
        Reason.OUT_OF_TIME,
    )
    # on a busy machine, there is not even enough time to confirm it
    assert "max_time left no time to" in (verdict.detail or "")


@pytest.mark.parametrize("calls", [120, 200, 250])
def test_a_leak_stands_if_the_body_ends_the_run_while_a_cache_is_filled(
    calls: int,
) -> None:
    recent = deque[bytearray](maxlen=140)
    kept = []
    numbers = itertools.count(1)

    def body() -> None:
        if next(numbers) == calls:
            raise SkipTest("enough")
        recent.append(bytearray(30_000))
        kept.append(bytearray(10_000))

    verdict = find_leaks(body, diagnose="off")
    assert verdict.status is Status.LEAK
    assert calls == 250 or "cut short" in verdict.notes[0]


def test_what_a_thread_takes_away_a_moment_later_is_clean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pytest_tfleak.run.confirm.MOMENT", 1.2)
    buffer: list[bytearray] = []
    stop = threading.Event()

    def flush() -> None:
        while not stop.wait(0.7):
            buffer.clear()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        verdict = find_leaks(lambda: buffer.append(bytearray(20_000)))
    finally:
        stop.set()
        thread.join()
    assert verdict.status is Status.CLEAN, verdict.findings


@pytest.mark.parametrize(
    ("file", "module", "is_waited_for"),
    [
        ("/lib/site-packages/pytest_rerunfailures.py", "pytest_rerunfailures", False),
        ("/lib/site-packages/app.py", "app", True),
        ("/work/pytest_app.py", "pytest_app", True),
    ],
)
def test_a_thread_of_a_plugin_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, file: str, module: str, is_waited_for: bool
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pytest_tfleak.run.confirm.sleep", pauses.append)
    stop, kept = threading.Event(), []

    names: dict[str, Any] = {"stop": stop, "__name__": module}
    exec(compile("def serve(): stop.wait()", file, "exec"), names)
    thread = threading.Thread(target=names["serve"])
    thread.start()
    try:
        find_leaks(lambda: kept.append(bytearray(20_000)), iterations=20)
    finally:
        stop.set()
        thread.join()
    assert bool(pauses) is is_waited_for


def test_a_leak_beside_a_timer_is_found() -> None:
    kept = []

    def body() -> None:
        timer = threading.Timer(0.8, len, [bytearray(12_000)])
        timer.daemon = True
        timer.start()
        kept.append(bytearray(10_000))

    verdict = find_leaks(body, iterations=20, diagnose="off", threads=5)
    for thread in threading.enumerate():  # the next test would see them end
        if isinstance(thread, threading.Timer):
            thread.join()
    assert "host.heap" in [finding.signal for finding in verdict.findings]


def test_what_survives_is_named_without_a_diagnosis() -> None:
    kept = []
    verdict = find_leaks(lambda: kept.append(Cyclic()), diagnose="off", objects=0)
    kinds = {finding.signal: finding.kind for finding in verdict.findings}
    assert kinds.get("python.objects") == "Cyclic", (
        verdict.detail,
        verdict.notes,
        kinds,
    )


def test_a_cache_of_cycles_is_no_growth_of_objects() -> None:
    cache = deque((Cyclic() for _ in range(60)), maxlen=60)
    verdict = find_leaks(lambda: cache.append(Cyclic()), objects=0)
    assert verdict.status is Status.CLEAN, verdict.findings


def test_a_full_cache_of_plain_objects_is_no_growth_of_objects() -> None:
    cache = deque(([number] for number in range(300)), maxlen=300)
    verdict = find_leaks(lambda: cache.append([1]), objects=0)
    assert verdict.status is Status.CLEAN, verdict.findings
