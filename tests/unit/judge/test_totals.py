"""An option that says how many may be left after the run is never read as a rate."""

from __future__ import annotations

import pytest

from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.signals import SIGNALS
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Status
from tests.quality.simulate import trace_of
from tests.quality.simulate import verdict_of

TOTALS = [
    (row.name, row.allowance)
    for row in SIGNALS
    if row.allows == "total" and isinstance(row.allowance, str)
]


def one_more_each_time(signal: Signal) -> Trace:
    return trace_of({signal: list(range(40))})


@pytest.mark.parametrize(("name", "option"), TOTALS)
def test_what_piles_up_past_the_total_is_a_leak(name: str, option: str) -> None:
    trace = one_more_each_time(make_signal(name))
    for most in (0, 1, 38):
        (finding,) = verdict_of(
            trace, make_plan(iterations=20, **{option: most})
        ).findings
        assert (finding.total, finding.allowance, finding.allow) == (39, most, option)
    assert not verdict_of(trace, make_plan(iterations=20, **{option: 39})).findings


@pytest.mark.parametrize(("name", "option"), TOTALS)
def test_unsteady_growth_within_the_total_is_no_doubt(name: str, option: str) -> None:
    readings = [0] * 18 + [1, 2, 3, 4] * 2 + list(range(4, 18))
    trace = trace_of({make_signal(name): readings})
    plan = make_plan(iterations=20, **{option: 17})
    assert verdict_of(trace, plan).status is Status.CLEAN
    assert verdict_of(trace, Plan(iterations=20)).status is Status.INCONCLUSIVE


def test_a_report_shows_the_total_beside_the_growth() -> None:
    trace = one_more_each_time(make_signal("tf.sessions.closed"))
    report = verdict_of(trace, Plan(iterations=20, sessions=50)).signals[0]
    assert (report.total, report.allowance, report.decides) == (39, 50, True)


@pytest.mark.parametrize(("left", "is_leak"), [(80, False), (81, True)])
def test_a_rate_allows_as_many_left_as_it_allows_to_grow(
    left: int, is_leak: bool
) -> None:
    signal = Signal(name="pool.connections", unit="connections", allowance=2)
    trace = trace_of({signal: [7] * 40})
    trace.left[signal.name] = left
    findings = verdict_of(trace, Plan(iterations=20)).findings
    assert [finding.total for finding in findings] == [left] * is_leak


def test_what_is_left_of_a_signal_that_never_decides_is_no_leak() -> None:
    signal = Signal(name="pool.connections", unit="connections")
    trace = trace_of({signal: [7] * 40, make_signal("tf.tensors"): [7] * 40})
    trace.left[signal.name] = 5
    assert not verdict_of(trace, Plan(iterations=20)).findings
