"""How a run ends that does not come to its end, and what is said of it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import replace

from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict


def undecided(verdict: Verdict, why: str) -> Verdict:
    """Return a verdict that would be LEAK if TensorFlow had not grown by itself."""
    if verdict.status is not Status.LEAK:
        return verdict
    return replace(
        verdict, status=Status.INCONCLUSIVE, reason=Reason.OUT_OF_TIME, detail=why
    )


def why_it_ended(error: BaseException) -> tuple[Reason, str]:
    """Return the reason why the body was not run to the end, and words for it."""
    # by name: this module knows nothing of pytest
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"Skipped", "SkipTest"}:
        return Reason.BODY_SKIPPED, "the test was skipped"
    if names & {"KeyboardInterrupt", "Exit", "SystemExit", "GeneratorExit"}:
        return Reason.INTERRUPTED, "the run was interrupted"
    return Reason.BODY_FAILED, f"the test ended with {type(error).__name__}"


def is_interrupt(error: BaseException) -> bool:
    """Say whether somebody wants the whole run to end, not just the body."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"KeyboardInterrupt", "Exit"})


def cut_short(what: str, error: BaseException) -> str:
    """Return the note about a part of the diagnosis in which the body failed."""
    reason, words = why_it_ended(error)
    if reason is not Reason.BODY_SKIPPED:
        words = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"{what} was cut short: {words}."
