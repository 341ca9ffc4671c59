"""How often a run at quick depth stops though something leaks, and how soon if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from pytest_tfleak.judge.sequential import LAST
from pytest_tfleak.judge.sequential import WARMUP as QUICK_WARMUP
from pytest_tfleak.judge.sequential import is_settled
from pytest_tfleak.plan import Plan
from pytest_tfleak.trace import Signal
from tests.quality.simulate import BLOCKS
from tests.quality.simulate import FALLING
from tests.quality.simulate import HEAP
from tests.quality.simulate import LEAKS
from tests.quality.simulate import TENSORS
from tests.quality.simulate import WARMUP
from tests.quality.simulate import Family
from tests.quality.simulate import clean_drift
from tests.quality.simulate import late_leak
from tests.quality.simulate import level
from tests.quality.simulate import one_off_step
from tests.quality.simulate import readings_of
from tests.quality.simulate import sparse_leak
from tests.quality.simulate import sparse_leak_and_fall
from tests.quality.simulate import trace_of
from tests.quality.simulate import wavering_sparse_leak

PLAN = Plan(depth="quick")
EXACT = (HEAP, BLOCKS, TENSORS)
TRIALS = 200
#: Families that leave nothing in some calls, or nothing until some call.
NOT_IN_EACH_CALL = (sparse_leak, wavering_sparse_leak, late_leak)
IN_EACH_CALL = [family for family in LEAKS if family not in NOT_IN_EACH_CALL]
FALLING_TOO = [family for family in FALLING if family is not sparse_leak_and_fall]


def stops_after(readings: Sequence[int], signal: Signal) -> int:
    """Return after how many judged iterations a run would stop, 0 if it goes on."""
    trace = trace_of({signal: readings}, warmup=QUICK_WARMUP, measured=0, confirmed=0)
    for measured in range(1, LAST + 1):
        trace.measured = measured
        if is_settled(trace, PLAN):
            return measured
    return 0


def stops(family: Family, signal: Signal) -> Counter[int]:
    counted: Counter[int] = Counter()
    for trial in range(TRIALS):
        rng = Random(f"{family.__name__} {signal.name} {trial}")
        readings = readings_of(family, signal, rng, PLAN)
        counted[stops_after(readings[WARMUP - QUICK_WARMUP :], signal)] += 1
    return counted


@pytest.mark.parametrize("family", IN_EACH_CALL, ids=lambda family: family.__name__)
def test_what_leaks_in_each_call_gets_a_full_run(family: Family) -> None:
    for signal in EXACT:
        assert stops(family, signal)[0] / TRIALS >= 0.97, signal.name


@pytest.mark.parametrize("family", FALLING_TOO, ids=lambda family: family.__name__)
def test_a_fall_hides_no_leak_of_each_call_from_a_quick_run(family: Family) -> None:
    for signal in EXACT:
        assert stops(family, signal)[0] / TRIALS >= 0.97, signal.name


@pytest.mark.parametrize(
    ("every", "missed"),
    [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 4), (7, 5), (8, 7), (10, 10)],
)
def test_a_leak_in_every_few_calls_is_missed_as_often_as_the_docs_say(
    every: int, missed: int
) -> None:
    phases = [[(row + phase) // every for row in range(60)] for phase in range(every)]
    assert sum(stops_after(phase, TENSORS) > 0 for phase in phases) == missed


@pytest.mark.parametrize("family", [level, one_off_step], ids=lambda f: f.__name__)
def test_clean_code_is_mostly_done_after_six_iterations(family: Family) -> None:
    for signal in EXACT:
        assert stops(family, signal)[6] / TRIALS >= 0.9, signal.name


def test_a_drift_within_the_allowance_is_no_reason_to_go_on() -> None:
    for signal in (HEAP, BLOCKS):
        assert stops(clean_drift, signal)[6] / TRIALS >= 0.9
