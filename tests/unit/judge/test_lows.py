"""Examples of readings of a memory pool."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_tfleak.judge.growth import measure_growth
from pytest_tfleak.judge.lows import follow_lows
from pytest_tfleak.plan import Plan
from pytest_tfleak.signals import make_signal
from pytest_tfleak.verdict import Status
from tests.quality.simulate import trace_of
from tests.quality.simulate import verdict_of

POOL = make_signal("host.allocator")
PLAN = Plan()
KIB = 1024
#: KiB in use, and what a pool with chunks of 4 MiB counts.
IN_USE = [2980 + 32 * row for row in range(100)]
COUNTED = [4096 * -(-kib // 4096) if row % 2 else kib for row, kib in enumerate(IN_USE)]


def verdict_on(readings: list[int], released: int = 0) -> Status:
    trace = trace_of({POOL: readings}, measured=50, confirmed=50)
    trace.kept = {POOL.name: (readings[-1] - readings[50]) / 50}
    trace.released = {POOL.name: released}
    return verdict_of(trace, PLAN).status


@pytest.mark.parametrize("phase", [0, 1])
def test_the_lows_of_a_pool_show_a_leak(phase: int) -> None:
    readings = [KIB * kib for kib in COUNTED[phase:] + COUNTED[:phase]][: 100 - phase]
    measure = partial(measure_growth, allowance=6 * KIB, nature="exact", windows=10)
    growth = follow_lows(measure(readings), readings, measure)
    assert growth.shape == "steady"
    assert growth.is_of_lows
    assert growth.per_iteration == pytest.approx(32 * KIB, rel=0.05)
    assert growth.total == readings[-1] - readings[0]


def test_a_pool_that_grows_is_a_leak() -> None:
    assert verdict_on([KIB * kib for kib in COUNTED]) is Status.LEAK


def test_a_high_reading_before_the_pause_and_a_low_one_after_it_hide_no_leak() -> None:
    small = [2980 + 8 * row for row in range(100)]
    readings = [KIB * (kib if row % 2 else 4096) for row, kib in enumerate(small)]
    assert (readings[-1] - readings[50]) / 50 < 0
    assert verdict_on(readings) is Status.LEAK


def test_what_the_pause_freed_was_garbage() -> None:
    readings = [KIB * kib for kib in COUNTED]
    assert verdict_on(readings, released=KIB * 32 * 50) is Status.CLEAN


@pytest.mark.parametrize(
    "in_use",
    [
        [2980] * 100,
        [2980 + 32 * (row % 9) for row in range(100)],
        [2980 + 32 * min(row, 70) for row in range(100)],
    ],
    ids=["level", "sawtooth", "cache"],
)
def test_a_pool_that_does_not_grow_is_clean(in_use: list[int]) -> None:
    readings = [KIB * (8192 if row % 2 else kib) for row, kib in enumerate(in_use)]
    assert verdict_on(readings) is Status.CLEAN


def test_readings_whose_lows_fluctuate_are_judged_as_they_are() -> None:
    readings = [row**3 * 7919 % 997 for row in range(100)]
    measure = partial(measure_growth, allowance=0, nature="exact", windows=10)
    seen = measure(readings)
    assert follow_lows(seen, readings, measure) is seen
