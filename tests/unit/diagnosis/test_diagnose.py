"""The notes of a diagnosis."""

from __future__ import annotations

from pytest_tfleak.diagnosis.diagnose import Insights
from pytest_tfleak.diagnosis.diagnose import _unseen
from pytest_tfleak.retaining_path import RetainingPath
from tests.builders import NOBODY
from tests.builders import make_group
from tests.builders import make_part
from tests.builders import path_to


def test_a_note_on_memory_does_not_deny_the_holder_that_was_found() -> None:
    nothing = "No Python object explains it; no memray."
    assert _unseen(Insights(), "no memray") == nothing
    assert _unseen(having(NOBODY), "no memray") == nothing
    text = "The objects found explain only part of the memory; no memray."
    assert _unseen(having(path_to()), "no memray") == text


def having(path: RetainingPath) -> Insights:
    """Return insights with one group of objects, one in each iteration."""
    part = make_part(path, "app.Thing", "1 Thing per iteration")
    return Insights(groups=[make_group(path, {"": part})])
