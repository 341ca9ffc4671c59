"""RSS raises a doubt only if its growth is large, stays, and is in no exact figure."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.quality.simulate import BLOCKS
from tests.quality.simulate import HEAP
from tests.quality.simulate import RSS
from tests.quality.simulate import trace_of
from tests.quality.simulate import verdict_of

KIB = 1024
PLAN = Plan(iterations=20)


def growing(rate: float, rows: int = 40) -> list[int]:
    return [10**9 + round(rate * row) for row in range(rows)]


def traced(
    rss: float, signal: Signal | None = None, rate: float = 0, confirmed: int = 20
) -> Trace:
    """Return readings of RSS and of another signal beside a level heap."""
    columns: dict[Signal, Sequence[int]] = {HEAP: growing(0), RSS: growing(rss)}
    if signal is not None:
        columns[signal] = growing(rate)
    return trace_of(columns, confirmed=confirmed)


def outcome(verdict: Verdict) -> tuple[Status, Reason | None]:
    return verdict.status, verdict.reason


@pytest.mark.parametrize(
    ("rate", "is_doubt"), [(200 * KIB, False), (256 * KIB, True), (4096 * KIB, True)]
)
def test_growth_of_256_kib_an_iteration_is_a_doubt(rate: float, is_doubt: bool) -> None:
    verdict = verdict_of(traced(rate), PLAN)
    assert (outcome(verdict) == (Status.INCONCLUSIVE, Reason.UNEXPLAINED)) == is_doubt
    assert (verdict.status is Status.CLEAN) != is_doubt
    assert not verdict.signal("host.rss").decides


@pytest.mark.parametrize(
    ("signal", "rate"),
    [
        (make_signal("host.allocator"), 900 * KIB),
        (BLOCKS, 2_000),  # of up to 512 bytes each
        (make_signal("process.threads"), 1),  # each has a stack
    ],
    ids=lambda value: value.name if isinstance(value, Signal) else "",
)
def test_what_an_exact_figure_shows_is_no_doubt(signal: Signal, rate: float) -> None:
    allowed = make_plan(
        iterations=20, host_per_iteration="1 MiB", blocks=5_000, threads=1
    )
    assert verdict_of(traced(1100 * KIB, signal, rate), allowed).status is Status.CLEAN
    assert not is_suspicious(traced(1100 * KIB, signal, rate, confirmed=0), allowed)
    twice = verdict_of(traced(4096 * KIB, signal, 0), allowed)
    assert outcome(twice) == (Status.INCONCLUSIVE, Reason.UNEXPLAINED)


def test_what_the_user_allows_is_no_doubt() -> None:
    plan = make_plan(iterations=20, host_per_iteration="2 MiB")
    assert verdict_of(traced(1024 * KIB), plan).status is Status.CLEAN


def test_what_goes_in_a_pause_is_no_doubt() -> None:
    trace = traced(1024 * KIB)
    trace.kept["host.rss"] = 1024 * KIB
    assert verdict_of(trace, PLAN).status is Status.INCONCLUSIVE
    trace.kept["host.rss"] = 100 * KIB
    assert verdict_of(trace, PLAN).status is Status.CLEAN


def test_growth_without_time_to_confirm_it_is_out_of_time() -> None:
    trace = traced(1024 * KIB, confirmed=0)
    assert is_suspicious(trace, PLAN)
    verdict = verdict_of(trace, PLAN)
    assert outcome(verdict) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    detail = "host.rss grows, but max_time left no time to confirm it"
    assert verdict.detail == detail


def test_steps_that_came_early_are_no_doubt() -> None:
    rss = [10**9 + 8_000 * KIB * min(row, 14) for row in range(40)]
    trace = trace_of({HEAP: growing(0), RSS: rss})
    assert verdict_of(trace, PLAN).status is Status.CLEAN


def test_rss_that_decides_is_held_to_no_less_than_its_noise() -> None:
    trace = trace_of({RSS: growing(50 * KIB)})
    verdict = verdict_of(trace, make_plan(iterations=20, host_per_iteration=1))
    assert verdict.status is Status.CLEAN
    assert verdict.signal("host.rss").allowance == 64 * KIB
    (finding,) = verdict_of(trace_of({RSS: growing(70 * KIB)}), PLAN).findings
    assert (finding.signal, finding.allow) == ("host.rss", "host_per_iteration")
