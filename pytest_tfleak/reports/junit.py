"""Turn the figures of a verdict into properties of a JUnit file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_tfleak.reports.document import document_entry
from pytest_tfleak.reports.json import compact
from pytest_tfleak.reports.text import safe
from pytest_tfleak.verdict import Verdict

PREFIX = "tfleak."
VERDICT = "verdict"
_FIELDS = (
    "status",
    "reason",
    "detail",
    "via",
    "depth",
    "iterations",
    "confirmation",
    "warmup",
    "seconds",
    "body_seconds",
)
_FIGURES = ("per_iteration", "total", "allowance")


def properties(verdict: Verdict, number: int = 1) -> list[tuple[str, str]]:
    """Return the properties of a test's verdict, with figures as in the JSON file.

    The names of a second verdict of the same test begin with ``tfleak.2.``.
    """
    start = PREFIX if number == 1 else f"{PREFIX}{number}."
    entry = document_entry(verdict)
    pairs = [(name, entry[name]) for name in _FIELDS]
    pairs += _signal_pairs(entry["signals"])
    failing = [f["signal"] for f in entry["findings"] if not f["accepted"]]
    accepted = [f["signal"] for f in entry["findings"] if f["accepted"]]
    pairs.append(("findings", ", ".join(failing) or None))
    pairs.append(("accepted", ", ".join(accepted) or None))
    pairs.append((VERDICT, compact(entry)))
    return [(start + safe(name), _text(v)) for name, v in pairs if v is not None]


def _signal_pairs(signals: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for signal in signals:
        if signal["status"] != "measured":
            yield f"{signal['name']}.status", signal["status"]
        for figure in _FIGURES:
            yield f"{signal['name']}.{figure}", signal[figure]


def _text(value: Any) -> str:
    return safe(value if isinstance(value, str) else compact(value))
