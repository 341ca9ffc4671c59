"""What a page shows of a finding and of a signal, as text: the terminal's figures.

All text is safe to show and cut to a length; the page that shows it escapes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_tfleak.ledger import is_total
from pytest_tfleak.reports.curves import Curve
from pytest_tfleak.reports.known import named
from pytest_tfleak.reports.message import lead_figures
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import percent
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.where import place_of
from pytest_tfleak.reports.words import words_for
from pytest_tfleak.units import format_quantity
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Verdict

LONGEST_NAME = 300
LONGEST_TEXT = 2_000
MOST_LINES = 30  # of a holder, a stack
MOST_READINGS = 500

BASELINE = {
    "new": "not in the baseline",
    "worse": "clearly worse than in the baseline",
    "accepted": "in the baseline: it does not fail the test",
}
_EXPLANATIONS = (
    "what",
    "holder",
    "origin",
    "stack",
    "native",
    "causes",
    "advice",
    "baseline",
    "fingerprint",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingEntry:
    """One finding, in words."""

    title: str
    figure: str
    limit: str
    curve: Curve | None
    readings: tuple[tuple[str, str], ...]  # of each part of the curve, as text
    what: str
    holder: tuple[str, ...]
    origin: tuple[str, str] | None  # where, and the source line
    stack: tuple[tuple[str, str], ...]
    native: tuple[str, ...]
    python: str  # how much of it Python objects explain
    experiments: tuple[str, ...]
    causes: tuple[str, ...]
    advice: str
    baseline: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalEntry:
    """One signal that moved, in words."""

    name: str
    growth: str
    allowance: str
    total: str
    first: str
    last: str
    curve: Curve


def describe_finding(finding: Finding, verdict: Verdict) -> FindingEntry:
    """Return one finding of a verdict in words."""
    words = words_for(finding.signal, finding.unit)
    curve = curve_of(verdict, finding.signal, finding)
    causes = [cut(named(finding.known))] if finding.known else []
    causes += [cut(finding.why)] if finding.why else []
    return FindingEntry(
        title=safe(words.grows[:LONGEST_TEXT]),
        figure=cut(next(figures_of(finding, verdict))),
        limit=_limit(finding),
        curve=curve,
        readings=tuple(_readings(curve)) if curve else (),
        what=cut(finding.what),
        holder=tuple(_lines(finding.holder)),
        origin=_line(finding.origin) if finding.origin else None,
        stack=tuple(_line(line) for line in finding.stack[:MOST_LINES]),
        native=tuple(_lines(finding.native)),
        python=_python(finding),
        experiments=tuple(_experiments(finding)),
        causes=tuple(causes),
        advice=cut(finding.advice),
        baseline=BASELINE.get(finding.baseline or "", ""),
        fingerprint=cut(finding.fingerprint, 100),
    )


def without_what_is_in(entry: FindingEntry, before: FindingEntry) -> FindingEntry:
    """Return a finding without the explanations that another one gives already."""
    same: dict[str, Any] = {
        name: type(getattr(entry, name))() if name != "origin" else None
        for name in _EXPLANATIONS
        if getattr(entry, name) == getattr(before, name)
    }
    return dataclasses.replace(entry, **same)


def _limit(finding: Finding) -> str:
    if not finding.allowance:
        return "none allowed"
    if finding.per_iteration is None:
        return f"allowed: {format_quantity(finding.allowance, finding.unit)}"
    value = finding.total if is_total(finding) else finding.per_iteration
    _, limit = compared(value, finding.allowance, finding.unit)
    return f"allowed: {limit}{' in all' if is_total(finding) else ' per iteration'}"


def _python(finding: Finding) -> str:
    if finding.python_bytes is None or finding.per_iteration is None:
        return ""
    explained, growth = compared(finding.python_bytes, finding.per_iteration, "B")
    return f"Python objects explain {explained} of {growth} per iteration"


def _experiments(finding: Finding) -> Iterator[str]:
    before = format_quantity(finding.per_iteration or 0.0, finding.unit)
    for experiment in finding.experiments[:MOST_LINES]:
        after = format_quantity(experiment.per_iteration, finding.unit)
        yield f"{before} becomes {after} {cut(experiment.name, 300)}"


def _lines(lines: Sequence[str] | None) -> Iterator[str]:
    for line in (lines or ())[:MOST_LINES]:
        yield cut(line, 500)
    if len(lines or ()) > MOST_LINES:
        yield f"... ({len(lines or ()) - MOST_LINES:,} more)"


def _line(line: Origin) -> tuple[str, str]:
    return f"{cut(place_of(line), LONGEST_NAME)} in {cut(line.function, 200)}", cut(
        line.text, 300
    ).strip()


def _readings(curve: Curve) -> Iterator[tuple[str, str]]:
    """Give the readings of each part as text, for who cannot see the curve."""
    if len(curve.series) <= MOST_READINGS:
        for name, start, end in curve.parts:
            values = curve.series[start:end]
            yield name, " ".join("-" if v is None else str(v) for v in values)


def describe_signal(signal: SignalReport, curve: Curve, name: str) -> SignalEntry:
    """Return one signal that moved in words."""
    first, last = compared(curve.judged[0], curve.judged[-1], signal.unit)
    growth, allowance = signal.per_iteration, signal.allowance
    text = "not judged"
    if signal.decides and growth is not None and allowance is not None:
        text = "none"
        if allowance:
            limit = compared(growth, allowance, signal.unit)[1]
            text = f"{limit} ({percent(max(growth, 0.0) / allowance)})"
    return SignalEntry(
        name=name,
        growth="" if growth is None else signed(growth, signal.unit),
        allowance=text,
        total="" if signal.total is None else signed(signal.total, signal.unit),
        first=first,
        last=last,
        curve=curve,
    )


def cut(text: str | None, most: int = LONGEST_TEXT) -> str:
    """Return text that is safe to show; of a long one the beginning, and how much."""
    text = text or ""
    if len(text) <= most:
        return safe(text)
    return f"{safe(text[:most])} ... ({len(text) - most:,} more characters)"


def curve_of(
    verdict: Verdict, name: str | None, finding: Finding | None = None
) -> Curve | None:
    """Return the curve of a signal that moved, with what a finding of it allows."""
    found = (signal for signal in verdict.signals if signal.name == name)
    signal = next(found, None)
    if signal is None or not signal.series:
        return None
    allowance, in_all = signal.allowance, False
    if finding is not None and finding.per_iteration is not None:
        allowance, in_all = finding.allowance, is_total(finding)
    curve = Curve(
        name=short_name(signal.name),
        unit=signal.unit,
        series=signal.series,
        warmup=verdict.warmup,
        confirmation=verdict.confirmation,
        allowance=allowance,
        in_all=in_all,
    )
    return curve if len(set(curve.judged)) > 1 else None


def figures_of(finding: Finding, verdict: Verdict) -> Iterator[str]:
    """Give the growth of a finding in one line, in ever shorter forms."""
    alone = dataclasses.replace(finding, accepted=False, holder=None, origin=None)
    return lead_figures(dataclasses.replace(verdict, findings=(alone,)))
