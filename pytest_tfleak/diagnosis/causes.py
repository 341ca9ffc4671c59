"""The table of causes: the first row whose rule holds, the most specific first.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from pytest_tfleak.diagnosis import growth_causes
from pytest_tfleak.diagnosis import holder_causes
from pytest_tfleak.diagnosis import known_causes
from pytest_tfleak.diagnosis import object_causes
from pytest_tfleak.diagnosis import session_causes
from pytest_tfleak.diagnosis import stdlib_causes
from pytest_tfleak.diagnosis import system_causes
from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import Evidence

CAUSES: tuple[Cause, ...] = (
    *known_causes.CAUSES,
    *holder_causes.CAUSES,
    *stdlib_causes.CAUSES,
    *system_causes.CAUSES,
    *session_causes.CAUSES,
    *growth_causes.CAUSES,
    *stdlib_causes.OF_RESULTS,
    *object_causes.CAUSES,
    *session_causes.OF_FUNCTIONS,
    *object_causes.OF_DATA,
    *session_causes.OF_CONCRETE_FUNCTIONS,
    *object_causes.OF_TENSORS,
    *object_causes.GENERAL,
    *system_causes.OF_MEMORY,
)


def find_cause(evidence: Evidence) -> Cause | None:
    """Return the cause that the evidence points to, None where it points to none."""
    return next((cause for cause in CAUSES if cause.rule(evidence)), None)


def cause_named(slug: str) -> Cause | None:
    """Return the row of this name."""
    return next((cause for cause in CAUSES if cause.slug == slug), None)
