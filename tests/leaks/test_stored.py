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

#: What is replaced by a longer one in each call, by its holder.
LONGER = {
    "test_dataclass": "test_stores.AGENT.episode",
    "test_ragged": "test_stores.AGENT.ragged",
}


def marked(word: str) -> int:
    return next(n for n, text in enumerate(LINES, 1) if text.endswith(f"# {word}"))


def test_the_line_that_stores_leads(run_planted: RunPlanted) -> None:
    verdicts = run_planted("stores")
    lines = {}
    for name, verdict in verdicts.items():
        lead = ordered(verdict.failing)[0]
        if name not in LONGER:
            assert lead.origin is not None, name
            assert lead.origin.line == marked("made: all"), name
        lines[name] = lead.stored.line if lead.stored else None
    assert lines == {
        "test_dataclass": marked("stored: dataclass"),
        "test_ragged": marked("stored: ragged"),
        "test_chain": marked("stored: chain"),
        "test_list": marked("stored: list"),
        "test_attribute": marked("stored: attribute"),
        "test_library": marked("stored: library"),
    }
    for name, holder in LONGER.items():
        lead = ordered(verdicts[name].failing)[0]
        assert lead.cause == "value-grows" and lead.path is not None
        assert edges_of(lead.path)[0] == holder
        assert f"`self.{holder.rpartition('.')[2]} = " in (lead.advice or "") or (
            name == "test_dataclass"  # which is no sequence
        )
    text = failure_text(verdicts["test_list"])
    assert f" at test_stores.py:{marked('stored: list')}" in text.splitlines()[0]
    assert text.index("  stored at  ") < text.index("  made at  ")
