"""Leaks on a card are found in each mode in which TensorFlow manages its memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict

RunOnCard = Callable[..., dict[str, Verdict]]
SQUARE = 512 * 512 * 4
ALLOCATOR = "gpu.allocator[GPU:0]"
LEAKS = (
    "test_kept_tensor_leaks",
    "test_kept_variable_leaks",
    "test_unclosed_session_leaks",
    "test_fit_with_a_kept_tensor_leaks",
)


def growth(verdict: Verdict, signal: str) -> float | None:
    found = {finding.signal: finding.per_iteration for finding in verdict.findings}
    return found.get(signal)


@pytest.mark.parametrize("mode", ["growth", "preallocation", "async", "virtual"])
def test_leaks_are_found_and_clean_twins_are_clean(
    run_on_card: RunOnCard, mode: str
) -> None:
    verdicts = run_on_card(mode, "--tfleak-require-gpu")
    clean = {n: v for n, v in verdicts.items() if n.endswith("_is_clean")}
    assert len(verdicts) == len(clean) + len(LEAKS)
    wrong = {n: v for n, v in clean.items() if v.status is not Status.CLEAN}
    assert not wrong
    for name in LEAKS:
        assert verdicts[name].status is Status.LEAK, name
        charged = growth(verdicts[name], ALLOCATOR)
        assert charged is not None and SQUARE <= charged < 2 * SQUARE, name


def test_cuda_malloc_keeps_no_statistics_and_the_report_says_so(
    run_on_card: RunOnCard,
) -> None:
    verdicts = run_on_card("malloc", "-k", "dropped")
    (verdict,) = verdicts.values()
    report = verdict.signal(ALLOCATOR)
    assert (report.status, report.code) == ("unavailable", "no_statistics")
    assert verdict.notes[0] == "GPU:0: allocator cuda_malloc."


def test_the_driver_knows_the_card_or_says_why_not(run_on_card: RunOnCard) -> None:
    verdicts = run_on_card("growth", "-k", "dropped")
    (verdict,) = verdicts.values()
    reports = [s for s in verdict.signals if s.name.startswith("gpu.process[")]
    assert reports
    for report in reports:
        if report.status == "measured":
            assert report.code is None
            assert min(v for v in report.series if v is not None) > 0
        else:
            assert report.code is not None
            assert report.reason


def test_pending_work_finishes_before_it_is_read(
    run_on_card: RunOnCard,
) -> None:
    verdicts = run_on_card("growth", "-k", "pending")
    (verdict,) = verdicts.values()
    assert not [note for note in verdict.notes if "still moved" in note]
