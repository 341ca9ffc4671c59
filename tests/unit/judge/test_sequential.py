"""A run at quick depth stops as soon as nothing has grown for long enough."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_tfleak.judge.sequential import LAST
from pytest_tfleak.judge.sequential import is_settled
from pytest_tfleak.judge.sequential import warmup_of
from pytest_tfleak.plan import Plan
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from tests.quality.simulate import HEAP
from tests.quality.simulate import RSS
from tests.quality.simulate import TENSORS
from tests.quality.simulate import trace_of

OBJECTS = make_signal("python.objects")
USS = make_signal("host.uss")
KIB = 1024
PLAN = Plan(depth="quick")


def stops_after(
    readings: Sequence[int | None], signal: Signal = TENSORS, plan: Plan = PLAN
) -> int | None:
    """Return after how many judged iterations a run would stop, None if it goes on."""
    trace = trace_of({signal: readings}, measured=0, confirmed=0)
    for measured in range(1, len(readings) + 1):
        trace.measured = measured
        if is_settled(trace, plan):
            return measured
    return None


def test_six_equal_counts_are_enough() -> None:
    assert stops_after([4] * 30) == 6


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([0] + [1] * 29, 7),
        ([0, 1] + [2] * 28, 8),
        ([0, 1, 2] + [3] * 27, 9),
        ([0] * 4 + [1] * 26, 12),
        ([0] * 5 + [1] * 25, 15),
        ([3] * 2 + [1] * 28, 8),
    ],
)
def test_what_took_a_while_to_settle_must_stay_level_for_twice_as_long(
    readings: list[int], expected: int
) -> None:
    assert stops_after(readings) == expected


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5])
def test_a_leak_in_every_few_calls_is_never_settled(every: int) -> None:
    for phase in range(every):
        assert stops_after([(row + phase) // every for row in range(60)]) is None


def test_a_run_that_has_not_settled_early_goes_on_to_its_end() -> None:
    assert stops_after([*range(LAST - 5), *[99] * 100]) is None


@pytest.mark.parametrize(
    ("step", "expected"), [(1 * KIB, 6), (2 * KIB, 6), (4 * KIB, None), (6 * KIB, None)]
)
def test_memory_may_use_up_half_of_its_allowance(
    step: int, expected: int | None
) -> None:
    assert stops_after([step * row for row in range(30)], HEAP) == expected


def test_noise_that_could_hide_the_allowance_is_not_level() -> None:
    assert stops_after([0, 40 * KIB] * 15, HEAP) is None


def test_a_limit_for_the_whole_run_is_shared_out() -> None:
    plan = Plan(depth="quick", host_total=50 * KIB)  # 1 KiB per iteration
    assert stops_after([2 * KIB * row for row in range(30)], HEAP, plan) is None
    assert stops_after([KIB // 4 * row for row in range(30)], HEAP, plan) == 6


def test_resident_memory_that_the_heap_does_not_explain_is_not_level() -> None:
    columns = {
        HEAP: [0] * 30,
        RSS: [256 * KIB * row for row in range(30)],
    }
    trace = trace_of(columns, measured=12, confirmed=0)
    assert not is_settled(trace, PLAN)


def test_objects_that_are_added_in_each_iteration_are_worth_a_full_run() -> None:
    assert stops_after(list(range(60)), OBJECTS) is None
    assert stops_after([0, 3, 1, 5, 2, 4, 1, 2, 6, 1], OBJECTS) == 6


def test_signals_that_are_not_read_in_each_iteration_do_not_matter() -> None:
    assert stops_after([5, *[None] * 29], USS) == 6
    assert stops_after([None] * 30) == 6


def test_a_signal_that_appears_later_must_be_level_as_long() -> None:
    assert stops_after([None] * 3 + [1] * 20) == 9


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(), 5),
        (Plan(depth="quick"), 2),
        (Plan(depth="quick", warmup=1), 1),
    ],
)
def test_a_quick_run_warms_up_for_two_iterations(plan: Plan, expected: int) -> None:
    assert warmup_of(plan) == expected
