"""How often the judge is wrong, on simulated traces through both looks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from itertools import accumulate
from random import Random

import pytest

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import judge
from pytest_tfleak.plan import Plan
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Status
from tests.quality.simulate import BLOCKS
from tests.quality.simulate import CLEAN
from tests.quality.simulate import HEAP
from tests.quality.simulate import LEAKS
from tests.quality.simulate import RSS
from tests.quality.simulate import SCALES
from tests.quality.simulate import TENSORS
from tests.quality.simulate import WARMUP
from tests.quality.simulate import Family
from tests.quality.simulate import allocator_jitter
from tests.quality.simulate import bounded_walk
from tests.quality.simulate import clean_drift
from tests.quality.simulate import constant_leak
from tests.quality.simulate import drift_and_steps
from tests.quality.simulate import fill_until
from tests.quality.simulate import growing_leak
from tests.quality.simulate import late_leak
from tests.quality.simulate import leak_on_drift
from tests.quality.simulate import level
from tests.quality.simulate import look_twice
from tests.quality.simulate import noisy_leak
from tests.quality.simulate import one_off_step
from tests.quality.simulate import readings_of
from tests.quality.simulate import sawtooth
from tests.quality.simulate import sawtooth_of
from tests.quality.simulate import sparse_leak_of

PLAN = Plan()
EXACT = (HEAP, BLOCKS, TENSORS)
#: Any growth of a count is a leak, so there is no clean drift of counts.
NOT_OF_COUNTS = (clean_drift, drift_and_steps)
#: 95 % upper bounds of how many to expect, by how many were seen (Poisson).
UPPER_BOUND = (3.0, 4.75, 6.3, 7.76, 9.16, 10.52, 11.85, 13.15, 14.44, 15.71)
each_number = pytest.mark.parametrize("iterations", [20, 30, 100, 200])


def statuses(
    family: Family, signals: Iterable[Signal], trials: int, plan: Plan = PLAN
) -> Counter[Status]:
    return Counter(
        look_twice({signal: readings_of(family, signal, rng, plan)}, plan).status
        for signal in signals
        if signal is not TENSORS or family not in NOT_OF_COUNTS
        for rng in (
            Random(f"{family.__name__} {signal.name} {n}") for n in range(trials)
        )
    )


def status_of(
    readings: Sequence[float], signal: Signal = TENSORS, plan: Plan = PLAN
) -> Status:
    column = [round(SCALES[signal] * reading) for reading in readings]
    return look_twice({signal: column}, plan).status


def test_fewer_than_one_clean_trace_in_1000_is_called_a_leak() -> None:
    alarms: Counter[str] = Counter()
    trials = 0
    for family in CLEAN:
        counted = statuses(family, EXACT, 900)
        alarms[family.__name__] += counted[Status.LEAK]
        trials += counted.total()
        assert counted[Status.LEAK] / counted.total() < 0.001, family.__name__
    assert trials > 30_000
    assert UPPER_BOUND[alarms.total()] / trials < 0.0005, alarms


@pytest.mark.parametrize("family", LEAKS, ids=lambda family: family.__name__)
def test_of_100_leaks_at_least_99_are_found(family: Family) -> None:
    for signal in EXACT:
        counted = statuses(family, [signal], 400)
        assert counted[Status.LEAK] / counted.total() >= 0.99, signal.name


@pytest.mark.parametrize("family", CLEAN, ids=lambda family: family.__name__)
def test_a_noisy_signal_raises_no_more_false_alarms(family: Family) -> None:
    assert statuses(family, [RSS], 300)[Status.LEAK] == 0


@pytest.mark.parametrize("family", [constant_leak, growing_leak, noisy_leak])
def test_a_noisy_signal_finds_leaks_too(family: Family) -> None:
    assert statuses(family, [RSS], 200)[Status.LEAK] >= 198


@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_steady_leak_of_one_object_is_found_at_any_number_of_iterations(
    every: int,
) -> None:
    # a first look at a leak of every fourth iteration wants a few of them
    for iterations in range(5 if every == 1 else 6 * every, 201):
        plan = Plan(iterations=iterations)
        for phase in range(every):
            rows = range(phase, phase + WARMUP + 2 * iterations)
            readings = [row // every for row in rows]
            assert status_of(readings, plan=plan) is Status.LEAK, (iterations, phase)


@each_number
@pytest.mark.parametrize("family", [constant_leak, growing_leak, late_leak])
def test_other_numbers_of_iterations_find_leaks(
    family: Family, iterations: int
) -> None:
    counted = statuses(family, EXACT, 50, Plan(iterations=iterations))
    assert counted[Status.LEAK] == counted.total()


@each_number
@pytest.mark.parametrize(
    "family", [level, one_off_step, sawtooth, allocator_jitter, clean_drift]
)
def test_other_numbers_of_iterations_raise_no_false_alarms(
    family: Family, iterations: int
) -> None:
    trials = 12_000 // iterations
    assert not statuses(family, EXACT, trials, Plan(iterations=iterations))[Status.LEAK]


def test_a_bounded_walk_seldom_looks_like_a_leak_in_20_iterations() -> None:
    counted = statuses(bounded_walk, EXACT, 500, Plan(iterations=20))
    assert counted[Status.LEAK] / counted.total() < 0.02


@pytest.mark.parametrize("begins", [0, 10, 20, 30, 35])
def test_a_leak_may_begin_late(begins: int) -> None:
    readings = [max(0, row - WARMUP - begins) for row in range(105)]
    assert status_of(readings) is Status.LEAK
    assert status_of([1.1 * reading for reading in readings], HEAP) is Status.LEAK


def test_a_leak_of_every_10th_iteration_is_found_in_30() -> None:
    plan = Plan(iterations=30)
    for seed in range(40):
        readings = sparse_leak_of(10, 1.2, Random(seed), 30)
        assert status_of(readings, HEAP, plan) is Status.LEAK
        assert status_of(readings, TENSORS, plan) is Status.LEAK
        wavering = [
            used + Random(row).uniform(0, 0.5) for row, used in enumerate(readings)
        ]
        assert status_of(wavering, HEAP, plan) is Status.LEAK


@pytest.mark.parametrize(("share", "found"), [(0.5, 0.98), (0.3, 0.93), (0.2, 0.85)])
def test_an_object_kept_in_some_calls_at_random_is_found(
    share: float, found: float
) -> None:
    counted: Counter[Status] = Counter()
    for seed in range(300):
        rng = Random(seed)
        kept = accumulate(rng.random() < share for _ in range(WARMUP + 100))
        counted[status_of(list(kept))] += 1
    assert counted[Status.LEAK] >= found * 300
    assert counted[Status.CLEAN] <= 0.06 * 300


def test_a_sawtooth_of_any_period_and_phase_is_clean() -> None:
    for period in range(2, 41):
        for phase in range(period):
            readings = sawtooth_of(period, phase, 50, PLAN.iterations)
            assert status_of(readings) is Status.CLEAN, (period, phase)


def test_a_sawtooth_that_wavers_is_clean_in_20_iterations() -> None:
    plan = Plan(iterations=20)
    for seed in range(3000):
        rng = Random(seed)
        wavering = [used + rng.uniform(0, 0.5) for used in sawtooth(rng, 20)]
        assert status_of(wavering, HEAP, plan) is Status.CLEAN, seed


@pytest.mark.parametrize("full", [10, 24, 50, 60, 70, 80, 90, 94, 97])
def test_a_cache_that_fills_within_the_confirmation_is_clean(full: int) -> None:
    readings = fill_until(full, 1, PLAN.iterations)
    assert status_of(readings) is Status.CLEAN
    assert status_of([4 * reading for reading in readings], HEAP) is Status.CLEAN


@pytest.mark.parametrize("full", [60, 80, 90])
def test_jitter_does_not_make_a_full_cache_a_leak(full: int) -> None:
    for seed in range(200):
        rng = Random(seed)
        filled = fill_until(full, 4, PLAN.iterations)
        readings = [reading + rng.uniform(0, 4) for reading in filled]
        assert status_of(readings, HEAP) is not Status.LEAK


@pytest.mark.parametrize("share", [0.8, 0.99, 1])
@pytest.mark.parametrize(
    "changes",
    [[1], [0, 2], [2, 1, 0], [0, 0, 0, 0, 5], [0.5, 1.5], [3, -1], [0] * 9 + [10]],
    ids=str,
)
def test_growth_without_noise_may_be_as_large_as_the_allowance(
    changes: Sequence[float], share: float
) -> None:
    rows = range(WARMUP + 2 * PLAN.iterations)
    readings, used = [], 0.0
    for row in rows:
        used += share * changes[row % len(changes)]
        readings.append(1200 / SCALES[HEAP] * used)
    plan = Plan(host_per_iteration=1200)
    assert status_of(readings, HEAP, plan) is Status.CLEAN
    tighter = Plan(host_per_iteration=round(1200 * share) - 12)
    assert status_of(readings, HEAP, tighter) is Status.LEAK


@pytest.mark.parametrize("family", [level, clean_drift])
def test_clean_code_does_not_pay_for_a_confirmation(family: Family) -> None:
    for seed in range(300):
        column = readings_of(family, HEAP, Random(seed), PLAN)
        assert look_twice({HEAP: column}, PLAN).confirmation == 0


def test_a_leak_is_found_among_30_signals_in_a_few_milliseconds() -> None:
    signals = [
        Signal(name=f"signal {n}", unit="B", allowance="host_per_iteration")
        for n in range(30)
    ]
    trace = Trace(signals, PLAN.warmup, 2 * PLAN.iterations)
    for column in range(30):
        readings = readings_of(leak_on_drift, HEAP, Random(column), PLAN)
        for row, reading in enumerate(readings):
            trace.buffer[row * trace.width + column] = reading
    trace.warmed_up, trace.measured = PLAN.warmup, PLAN.iterations
    assert is_suspicious(trace, PLAN)
    trace.confirmed = PLAN.iterations
    seconds = []
    for _ in range(5):
        start = time.process_time()
        assert len(judge(trace, PLAN).findings) == 30
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.02
