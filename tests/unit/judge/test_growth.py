"""Examples of leaks, and of series that only look like leaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge.growth import Growth
from pytest_tfleak.judge.growth import longest_gap
from pytest_tfleak.judge.growth import measure_growth
from pytest_tfleak.plan import Plan
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.quality.simulate import HEAP
from tests.quality.simulate import TENSORS
from tests.quality.simulate import trace_of
from tests.quality.simulate import verdict_of

PLAN = Plan(iterations=20)
LEAK = list(range(40))
LEVEL = [7] * 40


def verdict_on(
    readings: Sequence[int | None], signal: Signal = TENSORS, plan: Plan = PLAN
) -> Verdict:
    return verdict_of(trace_of({signal: readings}), plan)


def grow(*changes: int, rows: int = 40) -> list[int]:
    """Return readings that grow by these changes, in turn."""
    readings = [0]
    for row in range(rows - 1):
        readings.append(readings[-1] + changes[row % len(changes)])
    return readings


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param(grow(1), id="one in each iteration"),
        pytest.param(grow(0, 1), id="every second"),
        pytest.param(grow(0, 0, 0, 0, 1), id="every fifth"),
        pytest.param(grow(3, -2), id="most is given back, not all"),
        pytest.param([row * row for row in range(40)], id="more and more"),
        pytest.param([0] * 12 + grow(1, rows=28), id="begins late"),
        pytest.param([99] * 4 + grow(1, rows=36), id="after something was freed"),
        pytest.param([row + 9 * (row > 25) for row in range(40)], id="and a step"),
        pytest.param([row + (row * 7) % 3 for row in range(40)], id="and a jitter"),
        pytest.param(
            [row + round(30 * 0.6**row) * -1 for row in range(40)], id="and a warm-up"
        ),
    ],
)
def test_steady_growth_is_a_leak(readings: list[int]) -> None:
    assert verdict_on(readings).status is Status.LEAK


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param(LEVEL, id="level"),
        pytest.param([0] * 15 + [9] * 25, id="one-off step"),
        pytest.param([0] * 39 + [9], id="one-off step at the end"),
        pytest.param([0] * 12 + [4] * 12 + [9] * 16, id="two steps"),
        pytest.param([min(row, 12) for row in range(40)], id="a cache fills"),
        pytest.param([min(row, 28) for row in range(40)], id="a cache fills late"),
        pytest.param(
            [min(row, 36) for row in range(40)], id="a cache fills at the end"
        ),
        pytest.param([row % 7 for row in range(40)], id="sawtooth"),
        pytest.param([row % 2 for row in range(40)], id="to and fro"),
        pytest.param([40 - row for row in range(40)], id="shrinks"),
        pytest.param([round(99 * (1 - 0.7**row)) for row in range(40)], id="warm-up"),
        pytest.param([*range(20), *range(20)], id="all is given back once"),
    ],
)
def test_what_stops_or_is_given_back_is_clean(readings: list[int]) -> None:
    assert verdict_on(readings).status is Status.CLEAN


def test_a_table_that_doubles_is_no_leak() -> None:
    sizes = [1 << row.bit_length() for row in range(5, 45)]
    assert verdict_on(sizes).status is not Status.LEAK


def test_growth_that_still_fades_is_inconclusive() -> None:
    verdict = verdict_on([round(200 * (1 - 0.95**row)) for row in range(40)])
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, Reason.FADING)
    assert (
        verdict.detail == "tf.tensors grows less and less; more iterations would tell"
    )


def test_growth_that_fades_into_the_allowance_is_clean() -> None:
    readings = [round(90_000 * (1 - 0.9**row)) for row in range(40)]
    assert verdict_on(readings, HEAP).status is Status.CLEAN


def test_growth_at_irregular_moments_is_a_leak() -> None:
    rises = {4, 7, 8, 16, 24, 25, 28, 30, 31, 36}
    readings = [sum(rise <= row for rise in rises) for row in range(40)]
    verdict = verdict_on(readings)
    assert verdict.status is Status.LEAK
    assert verdict.findings[0].per_iteration == pytest.approx(10 / 39)


def test_growth_now_and_then_is_inconclusive() -> None:
    rises = {2, 7, 21, 35, 38}
    readings = [sum(rise <= row for rise in rises) for row in range(40)]
    verdict = verdict_on(readings)
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, Reason.UNSTEADY)
    assert verdict.detail == "tf.tensors grows now and then; more iterations would tell"


@pytest.mark.parametrize(
    ("readings", "suspicious"),
    [
        (LEVEL, False),
        (grow(1), True),
        (grow(0, 0, 0, 0, 1), True),
        ([0] * 12 + grow(1, rows=28), True),
        ([0] * 5 + [9] * 35, False),
        ([min(row, 9) for row in range(40)], False),
        ([row % 4 for row in range(40)], False),
        (grow(-1), False),
    ],
)
def test_a_first_look_suspects_what_may_go_on(
    readings: list[int], suspicious: bool
) -> None:
    trace = trace_of({TENSORS: readings}, confirmed=0)
    assert is_suspicious(trace, PLAN) is suspicious


def test_the_first_reading_is_not_growth() -> None:
    assert not is_suspicious(trace_of({TENSORS: [10**9] * 20}, confirmed=0), PLAN)


def test_growth_of_a_constant_or_an_empty_series_is_level() -> None:
    for readings in ([], [None], [3], [3, None, 3]):
        assert measure_growth(readings, 0, "exact", 5) == Growth(last=len(readings))


def test_the_rate_of_what_repeats_itself_is_exact() -> None:
    growth = measure_growth(grow(0, 0, 10), 0, "exact", 5)
    assert (growth.shape, growth.repeated, growth.uncertainty) == ("steady", True, 0)
    assert growth.per_iteration == pytest.approx(10 / 3)


def test_a_one_off_step_hardly_changes_the_rate() -> None:
    jitter = [0, 2, 1, 4, 3, 0, 1] * 6
    readings = [10 * row + jitter[row] for row in range(40)]
    stepped = [reading + 5000 * (row > 30) for row, reading in enumerate(readings)]
    rates = [
        measure_growth(r, 0, "exact", 5).per_iteration for r in (readings, stepped)
    ]
    assert rates[0] == pytest.approx(10, abs=0.2)
    assert rates[1] == pytest.approx(10, abs=6)


def test_noise_raises_the_uncertainty() -> None:
    calm = measure_growth([10 * row + row % 3 * row % 2 for row in LEAK], 0, "exact", 5)
    wild = measure_growth([10 * row + row**3 % 31 for row in LEAK], 0, "exact", 5)
    assert 0 <= calm.uncertainty < wild.uncertainty


@pytest.mark.parametrize(
    ("readings", "rate", "gap"),
    [
        (grow(1), 1, 1),
        (grow(0, 0, 0, 0, 1), 0.2, 5),
        (grow(64_000, 64_900, 63_800), 64_000, 1),
        (grow(100, 8_000), 4_050, 2),
        ([0, 1, None, 2, 3], 1, 1),
        ([0, 0, 5], 2.5, 3),
        (LEVEL, 0, 40),
    ],
)
def test_the_longest_gap_between_rises(
    readings: list[int | None], rate: float, gap: int
) -> None:
    assert longest_gap(readings, rate) == gap
