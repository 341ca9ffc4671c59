"""Turn a verdict into properties of a JUnit file: what people read, and the whole."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_tfleak.reports.document import document_entry
from pytest_tfleak.reports.json import compact
from pytest_tfleak.reports.message import holder_of_leak
from pytest_tfleak.reports.message import place_of
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Verdict

PREFIX = "tfleak."
VERDICT = "verdict"
#: Names of properties, and the keys of these values in the JSON file.
_FIELDS = (
    ("status", "status"),
    ("reason", "reason"),
    ("detail", "detail"),
    ("door", "via"),
    ("depth", "depth"),
    ("seconds", "seconds"),
)
_Pair = tuple[str, object]


def properties(verdict: Verdict, number: int = 1) -> list[tuple[str, str]]:
    """Return the properties of a test's verdict, with figures as in the JSON file.

    The names of a second verdict of the same test begin with ``tfleak.2.``.
    """
    start = PREFIX if number == 1 else f"{PREFIX}{number}."
    entry = document_entry(verdict)
    pairs: list[_Pair] = [(name, entry[key]) for name, key in _FIELDS]
    if verdict.failing:
        pairs += _lead_pairs(ordered(verdict.failing)[0])
    pairs.append((VERDICT, compact(entry)))
    return [(start + name, _text(value)) for name, value in pairs if value is not None]


def _lead_pairs(lead: Finding) -> Iterator[_Pair]:
    """Yield what the most important finding says; None for what it does not know."""
    yield "signal", lead.signal
    is_left = lead.per_iteration is None
    yield ("left", lead.total) if is_left else ("rate", lead.per_iteration)
    yield "unit", lead.unit
    yield "holder", holder_of_leak(lead) or None
    yield "line", None if lead.line is None else place_of(lead.line)
    yield "cause", lead.cause


def _text(value: object) -> str:
    return safe(value if isinstance(value, str) else compact(value))
