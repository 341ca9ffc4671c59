"""The allocator probe on real TensorFlow; CPU:0 has the same allocator as a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict

RunPlanted = Callable[..., dict[str, Verdict]]

pytestmark = pytest.mark.skipif(
    os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0",
    reason="without oneDNN the CPU's allocator keeps no statistics",
)

KEPT = 300 * 300 * 4  # bytes in a float32 square
RESULT = 600 * 600 * 4


def growth(verdict: Verdict) -> float | None:
    found = {finding.signal: finding.per_iteration for finding in verdict.findings}
    return found.get("host.allocator")


def assert_charged(verdict: Verdict, size: int) -> None:
    """Assert that the allocator counts a size in pieces of 256 B, at most doubled."""
    assert verdict.status is Status.LEAK
    charged = growth(verdict)
    assert charged is not None and size <= charged < 2 * size, verdict.nodeid


def assert_clean_are_clean(verdicts: dict[str, Verdict]) -> None:
    wrong = {
        name: verdict
        for name, verdict in verdicts.items()
        if name.endswith("_is_clean") and verdict.status is not Status.CLEAN
    }
    assert not wrong


def test_the_allocator_shows_what_is_kept(run_planted: RunPlanted) -> None:
    verdicts = run_planted("allocator", diagnose=False)
    assert_clean_are_clean(verdicts)
    for name in (
        "test_kept_tensor_leaks",
        "test_kept_variable_leaks",
        "test_unclosed_session_with_a_variable_leaks",
    ):
        assert_charged(verdicts[name], KEPT)
    report = verdicts["test_dropped_tensor_is_clean"].signal("host.allocator")
    assert (report.status, report.total) == ("measured", 0)


@pytest.mark.slow
def test_a_value_that_gets_longer_is_found_to_the_byte(
    run_planted: RunPlanted,
) -> None:
    verdicts = run_planted("allocator", "-k", "length or longer", diagnose=False)
    assert_clean_are_clean(verdicts)
    rows = 8 * 300 * 4  # bytes; the pool counts whole chunks, so figures vary
    for name in (
        "test_tensor_that_gets_longer_leaks",
        "test_variable_that_gets_longer_leaks",
    ):
        assert verdicts[name].status is Status.LEAK
        assert verdicts[name].signal("host.tensors").per_iteration == rows


@pytest.mark.slow
def test_without_a_gpu_nothing_is_said_of_when_devices_started(
    run_planted: RunPlanted,
) -> None:
    verdicts = run_planted("allocator", "-k", "appears or dropped", diagnose=False)
    assert {verdict.notes for verdict in verdicts.values()} == {()}


def test_pending_work_is_waited_for(run_planted: RunPlanted) -> None:
    verdicts = run_planted("asynchronous", diagnose=False)
    assert_clean_are_clean(verdicts)
    for name in (
        "test_pending_work_is_clean",
        "test_pending_work_beside_an_open_graph_is_clean",
    ):
        assert len(set(verdicts[name].signal("host.allocator").series)) == 1, name
    assert_charged(verdicts["test_result_of_pending_work_kept_leaks"], RESULT)


@pytest.mark.slow
def test_tensorflow_s_devices_are_never_initialised_by_us(
    run_planted: RunPlanted,
) -> None:
    verdicts = run_planted("untouched", diagnose=False)
    assert_clean_are_clean(verdicts)
    for name in ("test_imports_tensorflow_only_is_clean", "test_session_only_is_clean"):
        for signal in ("host.allocator", "gpu.allocator"):
            report = verdicts[name].signal(signal)
            assert report.code == "tf_not_initialised"
            assert set(report.series) == {None}
    started = verdicts["test_figures_of_a_started_context_is_clean"]
    assert started.signal("host.allocator").status == "measured"
    assert started.signal("gpu.allocator").code == "no_gpu"
