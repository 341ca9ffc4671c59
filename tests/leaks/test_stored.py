"""A leak on real TensorFlow names the line that stores, beside the one that makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_tfleak import Verdict
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.words import ordered

RunPlanted = Callable[..., dict[str, Verdict]]

LINES = (Path(__file__).parent / "planted" / "stores.py").read_text().splitlines()


def marked(word: str) -> int:
    return next(n for n, text in enumerate(LINES, 1) if text.endswith(f"# {word}"))


def test_the_line_that_stores_leads(run_planted: RunPlanted) -> None:
    verdicts = run_planted("stores")
    lines = {}
    for name, verdict in verdicts.items():
        lead = ordered(verdict.failing)[0]
        if name != "test_ragged":  # no objects pile up
            assert lead.origin is not None, name
            assert lead.origin.line == marked("made: all"), name
        lines[name] = lead.stored.line if lead.stored else None
    assert lines == {
        "test_ragged": marked("stored: ragged"),
        "test_chain": marked("stored: chain"),
        "test_list": marked("stored: list"),
        "test_attribute": marked("stored: attribute"),
        "test_library": marked("stored: library"),
        "test_two_lines": marked("stored: two lines"),
        "test_reserved": marked("stored: reserved"),
    }
    [longer] = verdicts["test_ragged"].failing[:1]
    assert longer.cause == "value-grows" and longer.path is not None
    assert edges_of(longer.path)[0] == "test_stores.AGENT.ragged"
    assert "`self.ragged = self.ragged[-100:]`" in (longer.advice or "")
    text = failure_text(verdicts["test_list"])
    assert f" at test_stores.py:{marked('stored: list')}" in text.splitlines()[0]
    assert text.index("  stored at  ") < text.index("  made at  ")
