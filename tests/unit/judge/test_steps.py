"""Examples of growth with a single fall or rise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import iterations_wanted
from pytest_tfleak.judge.growth import Growth
from pytest_tfleak.judge.growth import measure_growth
from pytest_tfleak.judge.steps import Step
from pytest_tfleak.judge.steps import find_falls
from pytest_tfleak.judge.steps import find_rises
from pytest_tfleak.judge.steps import see_through
from pytest_tfleak.judge.steps import take_out
from pytest_tfleak.plan import Plan
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from tests.quality.simulate import HEAP
from tests.quality.simulate import TENSORS
from tests.quality.simulate import trace_of
from tests.quality.simulate import verdict_of

PLAN = Plan(iterations=20)
FALL = [row - 10 * (row >= 25) for row in range(140)]
ALL_BACK = [row - 25 * (row >= 25) for row in range(140)]
EMPTIED = [row % 25 for row in range(140)]


def seen_through(readings: Sequence[int]) -> Growth:
    measure = partial(measure_growth, allowance=0, nature="exact", windows=5)
    return see_through(measure(readings), readings, measure, 0, 20)


@pytest.mark.parametrize(
    ("readings", "falls"),
    [
        (list(range(9)), []),
        ([7, 7, 7], []),
        ([0, 1, 2, 0, 1, 2, 3], [Step(before=2, after=3, size=2)]),
        ([9, 9, 5, 4, 4, 5], [Step(before=1, after=3, size=5)]),
        (
            [0, 9, 1, 2, 3, 1, 2],
            [Step(before=1, after=2, size=8), Step(before=4, after=5, size=2)],
        ),
        ([0, 20, *[10, 12] * 5], [Step(before=1, after=2, size=10)]),
        ([row % 3 for row in range(30)], []),
    ],
)
def test_a_few_falls_stand_out(readings: list[int], falls: list[Step]) -> None:
    assert find_falls(readings) == falls


def test_a_few_rises_stand_out() -> None:
    assert find_rises([0, 1, 2, 9, 10, 11]) == [Step(before=2, after=3, size=7)]
    assert find_rises(list(range(30))) == []


def test_a_step_is_replaced_by_the_mean_change() -> None:
    readings = [0, 1, 2, 0, 1, 2]
    assert take_out(readings, find_falls(readings)) == [0, 1, 2, 3, 4, 5]


def test_a_fall_needs_more_iterations() -> None:
    assert [seen_through(FALL[:rows]).decided_after for rows in (40, 100)] == [100, 0]
    assert seen_through(FALL[:100]).shape == "steady"


def test_a_fall_to_the_start_needs_even_more_iterations() -> None:
    assert [seen_through(ALL_BACK[:rows]).decided_after for rows in (40, 120)] == [
        120,
        0,
    ]
    assert seen_through(ALL_BACK[:120]).shape == "steady"


def test_a_fall_long_ago_is_no_proof_that_it_was_the_last() -> None:
    # a buffer of 30, of which 22 were there before
    readings = [(row + 22) % 30 for row in range(37)]
    plain = measure_growth(readings, 0, "exact", 5)
    assert plain.shape == "steady"
    assert seen_through(readings).shape == "unsteady"
    assert seen_through(readings).decided_after > 40


def test_a_fall_without_growth_before_it_is_no_emptied_buffer() -> None:
    readings = [99] * 8 + list(range(32))
    assert seen_through(readings).shape == "steady"


def test_falls_to_one_level_are_those_of_a_buffer() -> None:
    growth = seen_through(EMPTIED[:55])
    assert (growth.shape, growth.decided_after) == ("level", 0)


def test_a_late_fall_does_not_prolong_the_run() -> None:
    late = [row - 10 * (row >= 139) for row in range(140)]
    assert seen_through(late).decided_after == 0
    assert seen_through(late).shape == "unsteady"


@pytest.mark.parametrize("size", [40, -10])
def test_one_rise_or_fall_does_not_hide_a_leak(size: int) -> None:
    readings = [row + size * (row >= 36) for row in range(140)]
    first = trace_of({TENSORS: readings}, confirmed=0)
    assert is_suspicious(first, PLAN)
    assert iterations_wanted(trace_of({TENSORS: readings}), PLAN) == (
        80 if size < 0 else 0
    )
    whole = trace_of({TENSORS: readings}, confirmed=120)
    assert iterations_wanted(whole, PLAN) == 0
    (finding,) = verdict_of(whole, PLAN).findings
    assert (finding.per_iteration, finding.total) == (1, 139 + size)


def test_a_fall_without_more_iterations_is_no_leak() -> None:
    assert verdict_of(trace_of({TENSORS: FALL}), PLAN).status is not Status.LEAK


def test_no_time_for_more_iterations_is_inconclusive() -> None:
    trace = trace_of({TENSORS: FALL})
    trace.unconfirmed = "time was up"
    verdict = verdict_of(trace, PLAN)
    assert (verdict.status, verdict.reason) == (
        Status.INCONCLUSIVE,
        Reason.OUT_OF_TIME,
    )
    assert verdict.detail == "tf.tensors grows, but time was up"


def test_another_leak_makes_more_iterations_unnecessary() -> None:
    columns = {TENSORS: list(range(140)), HEAP: [9000 * value for value in FALL]}
    assert iterations_wanted(trace_of({HEAP: columns[HEAP]}), PLAN) == 60
    assert iterations_wanted(trace_of(columns), PLAN) == 0
