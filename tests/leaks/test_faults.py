"""A sweep makes each TensorFlow call fail, and judges what that leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import FaultSummary
from pytest_tfleak.verdict import Reason

RunPlanted = Callable[..., dict[str, Verdict]]

PLANTED = Path(__file__).parent / "planted" / "faults.py"
LEAKS = {
    "test_leaks_a_session": "tf.sessions",
    "test_leaks_a_tape": "tf.tapes",
    "test_leaks_at_its_second_call": "tf.sessions.closed",
}
#: How many calls a body makes, and how many of them were made to fail.
CALLS = {
    "test_leaks_a_session": (2, 2),
    "test_swallows": (2, 2),
    "test_many_calls": (31, 10),
    "test_tear_down_cleans": (1, 1),
    "test_a_fixture_cleans": (1, 1),
}
ERROR = "ResourceExhaustedError"


def line_of(text: str) -> int:
    lines = PLANTED.read_text("utf-8").splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if text in line)
    return number


def test_what_a_failing_call_leaves(run_planted: RunPlanted) -> None:
    """All run in one process: no fault may affect a later test."""
    verdicts = run_planted("faults")
    assert len(verdicts) == 14
    leaks = {name for name, v in verdicts.items() if v.status is Status.LEAK}
    assert leaks == set(LEAKS)
    for name, signal in LEAKS.items():
        assert ordered(verdicts[name].failing)[0].signal == signal

    for name, (calls, failed) in CALLS.items():
        summary = FaultSummary(calls=calls, failed=failed, error=ERROR)
        assert verdicts[name].faults == summary
    for name in ("test_no_calls", "test_without"):
        assert verdicts[name].status is Status.CLEAN
        assert verdicts[name].faults is None

    session = ordered(verdicts["test_leaks_a_session"].failing)[0]
    assert session.failing is not None
    assert (session.failing.count, session.failing.total) == (2, 2)
    call = session.failing.first
    assert call.operation == "Session.run"
    assert call.origin is not None
    assert call.origin.line == line_of("# the run")
    assert session.stored is not None
    assert session.stored.function == "Scorer.__enter__"
    text = failure_text(verdicts["test_leaks_a_session"], 200)
    assert "only when    any of the 2 TensorFlow calls fails" in text

    second = ordered(verdicts["test_leaks_at_its_second_call"].failing)[0]
    assert second.failing is not None
    assert (second.failing.count, second.failing.first.number) == (1, 2)

    damaged = verdicts["test_state_that_a_fault_damages"]
    assert (damaged.status, damaged.reason) == (
        Status.INCONCLUSIVE,
        Reason.NOT_REPEATABLE,
    )

    swallowed = notes_of(verdicts["test_swallows"])
    assert f"test_faults.py:{line_of('# swallows')} swallows the error" in swallowed
    assert "swallows" not in notes_of(verdicts["test_asserts_on_the_error"])
    afterwards = notes_of(verdicts["test_fails_afterwards"])
    line = line_of("# fails afterwards")
    assert f"failed by itself: AssertionError at test_faults.py:{line}" in afterwards
    handled = notes_of(verdicts["test_handles_another_error"])
    assert "swallows the error: `except tf.errors.UnavailableError:`" in handled
    assert "iterations=31 tries all" in notes_of(verdicts["test_many_calls"])


def notes_of(verdict: Verdict) -> str:
    return "\n".join(verdict.notes)


@pytest.mark.slow
def test_thirty_context_managers(run_planted: RunPlanted) -> None:
    verdicts = run_planted("context_managers", diagnose=False)
    assert len(verdicts) == 30
    for name, verdict in verdicts.items():
        # without a diagnosis, growth of tensors alone is a doubt
        is_found = verdict.status is Status.LEAK or verdict.reason is Reason.UNEXPLAINED
        assert is_found == name.startswith("test_leaks_"), (name, verdict)
