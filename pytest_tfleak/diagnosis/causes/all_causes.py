"""All causes, most specific first; the first one whose rule holds explains a leak.

They are written in the files beside this one, by subject, and only put in order here.
"""

from __future__ import annotations

from pytest_tfleak.diagnosis.causes import growth
from pytest_tfleak.diagnosis.causes import managers
from pytest_tfleak.diagnosis.causes import proven
from pytest_tfleak.diagnosis.causes import python
from pytest_tfleak.diagnosis.causes import sessions
from pytest_tfleak.diagnosis.causes import system
from pytest_tfleak.diagnosis.causes import tensorflow_objects
from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence

_SUBJECTS = (proven, managers, python, system, sessions, growth, tensorflow_objects)

#: In order of priority; rows of the same priority stay in the order of their file.
CAUSES: tuple[Cause, ...] = tuple(
    sorted(
        (cause for subject in _SUBJECTS for cause in subject.CAUSES),
        key=lambda cause: cause.priority,
    )
)


def find_cause(evidence: Evidence) -> Cause | None:
    """Return the cause that the evidence points to, if any."""
    return next((cause for cause in CAUSES if cause.rule(evidence)), None)


def cause_named(slug: str) -> Cause | None:
    """Return the cause of this name, if there is one."""
    return next((cause for cause in CAUSES if cause.slug == slug), None)
