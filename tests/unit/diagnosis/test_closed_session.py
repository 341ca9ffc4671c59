"""Which sessions are open where a body fails."""

from __future__ import annotations

from typing import Any

from pytest_tfleak.diagnosis.closed_session import still_open
from pytest_tfleak.run.session_log import SessionLog


class FakeLog(SessionLog):
    """Remembers two sessions of one line, one of another, and a graph."""

    def left_open(self) -> list[tuple[Any, bool]]:
        return [("a", True), ("b", True), ("c", True), ("graph", False)]

    def created_at(self, created: object) -> list[tuple[str, int]]:
        return [(__file__, 10 if created == "c" else 1)]


def test_the_lines_that_made_open_sessions() -> None:
    found = still_open(FakeLog())
    assert "2 sessions made at " in found
    assert "test_closed_session.py:1," in found
    assert "a session made at " in found
    assert "graph" not in found
