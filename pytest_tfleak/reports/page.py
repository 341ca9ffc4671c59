"""Turn one test into texts for a web page, with the same wording as the terminal.

Each text is safe to show and limited in length; the page's template escapes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple

from pytest_tfleak.quantities import format_count
from pytest_tfleak.quantities import format_quantity
from pytest_tfleak.reports.curves import Curve
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.leaks import group_by_leak
from pytest_tfleak.reports.leaks import leaks_in
from pytest_tfleak.reports.links import cause_page
from pytest_tfleak.reports.message import SHORTEST_FIGURES
from pytest_tfleak.reports.message import cause_rows
from pytest_tfleak.reports.message import closest_text
from pytest_tfleak.reports.message import count_of
from pytest_tfleak.reports.message import each
from pytest_tfleak.reports.message import explained_part
from pytest_tfleak.reports.message import failing_calls
from pytest_tfleak.reports.message import figures_alone
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.message import holder_of_leak
from pytest_tfleak.reports.message import is_stored_apart
from pytest_tfleak.reports.message import known_growth
from pytest_tfleak.reports.message import parts_of_allowing
from pytest_tfleak.reports.message import place_of
from pytest_tfleak.reports.message import reason_texts
from pytest_tfleak.reports.message import remedy_of
from pytest_tfleak.reports.message import same_as
from pytest_tfleak.reports.message import stands_on
from pytest_tfleak.reports.message import took_by_part
from pytest_tfleak.reports.message import what_of
from pytest_tfleak.reports.message import where_to_look
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import percent
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.signals import rank
from pytest_tfleak.signals import row_of
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import closeness
from pytest_tfleak.verdict import has_total
from pytest_tfleak.verdict import is_total

_LONGEST_NAME = 300
_LONGEST_TEXT = 2_000
_MOST_LINES = 30  # of a retaining path or a stack
_MOST_READINGS = 500
_BASELINE = {
    "new": "not in the baseline",
    "worse": "clearly worse than in the baseline",
    "accepted": "in the baseline: it does not fail the test",
}
_LINES = ("stored", "origin")  # None if unknown
_EXPLANATIONS = (
    "only_when",
    "what",
    "holder",
    "stored",
    "origin",
    "stack",
    "native",
    "baseline",
    "fingerprint",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One test, as texts."""

    verdict: Verdict
    file: str  # the part of the node id before "::"
    name: str
    growth: str  # of the most important signal, or of that closest to its allowance
    signal: str
    rate: float | None  # the same as a number, to sort by
    unit: str  # only numbers of the same unit can be compared
    curve: Curve | None
    memory: float | None  # bytes per iteration, None if not measured
    brief: str  # the most important facts
    headline: str
    leaks: tuple[OwnLeak, ...]
    accepted: tuple[OwnLeak, ...]
    known: tuple[str, ...]
    remedy: str
    allow: str
    allow_notes: tuple[str, ...]
    signals: tuple[SignalEntry, ...]
    level: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    ran: str
    took: str  # seconds by part
    same_as: str  # an earlier test with the same leak, and the line there


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLeak:
    """One leak of a test, as texts: what moved, why, and what to do."""

    lead: FindingEntry
    others: tuple[FindingEntry, ...]
    why: tuple[tuple[str, str], ...]  # a label and a text
    more: str  # the address of the page on the cause


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingEntry:
    """One finding, as texts."""

    title: str
    figure: str
    limit: str
    only_when: str  # the TensorFlow calls of which any has to fail
    curve: Curve | None
    readings: tuple[tuple[str, str], ...]  # name and readings of each part of the curve
    what: str
    holder: tuple[str, ...]
    #: The lines that store it and make it: place and source line.
    stored: tuple[str, str] | None
    origin: tuple[str, str] | None
    stack: tuple[tuple[str, str], ...]
    native: tuple[str, ...]
    python: str  # how much of it Python objects explain
    baseline: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalEntry:
    """One signal that changed, as texts."""

    name: str
    growth: str
    allowance: str
    total: str
    first: str
    last: str
    curve: Curve


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakEntry:
    """One leak and the tests that it fails, as texts."""

    title: str
    what: str
    holder: str
    where: str  # the line to look at first
    why: tuple[tuple[str, str], ...]  # a label and a text
    more: str  # the address of the page on the cause
    fingerprint: str
    tests: tuple[tuple[int, str, str], ...]  # place in the list, name and growth


def make_leak_entries(
    verdicts: Sequence[Verdict], places: dict[str, int]
) -> list[LeakEntry]:
    """Return the leaks of a run as texts, worst first.

    ``places`` says where the list of all tests has the test of a name.
    """
    entries = []
    for leak in group_by_leak(verdicts):
        lead, first = leak.lead, leak.verdicts[0]
        entry = LeakEntry(
            title=_title(lead),
            what=cut(what_of(lead) or next(figures_alone(lead, first)), 300),
            holder=cut(holder_of_leak(lead), 300),
            where=cut(where_to_look(lead), 300),
            why=_why(ordered(first.findings)),
            more=cause_page(lead.cause) or "",
            fingerprint=cut(leak.fingerprint, 100),
            tests=tuple(
                (
                    places[verdict.nodeid],
                    cut(verdict.nodeid, _LONGEST_NAME),
                    cut(_short_figure(ordered(verdict.findings)[0], verdict)),
                )
                for verdict in leak.verdicts
            ),
        )
        entries.append(entry)
    return entries


def _short_figure(finding: Finding, verdict: Verdict) -> str:
    return [*figures_alone(finding, verdict)][-SHORTEST_FIGURES:][0]


def make_entry(verdict: Verdict) -> Entry:
    """Return one test as texts."""
    failing = ordered(verdict.failing)
    figure = _main_figure(verdict, failing)
    moved, level, missing = _sort_out(verdict)
    allow = [cut(text) for text in parts_of_allowing(verdict, failing)]
    whole = shorten(safe(verdict.nodeid[:_LONGEST_TEXT]), _LONGEST_NAME)
    file, colons, name = whole.partition("::")
    return Entry(
        verdict=verdict,
        file=file if colons else "",
        name=(name if colons else whole) or "(no name)",
        growth=figure.text,
        signal=short_name(figure.signal),
        rate=figure.rate,
        unit=safe(figure.unit),
        curve=_curve_of(verdict, figure.signal),
        memory=_memory(verdict),
        brief=" · ".join(_brief(verdict, failing)),
        headline=cut(headline(verdict)),
        leaks=_describe_leaks(leaks_in(failing), verdict),
        accepted=_describe_leaks([[f] for f in ordered(verdict.accepted)], verdict),
        known=tuple(_accepted(verdict)),
        remedy=remedy_of(verdict),
        allow=allow[0] if allow else "",
        allow_notes=tuple(allow[1:]),
        signals=tuple(moved),
        level=tuple(level),
        missing=tuple(missing),
        notes=tuple(map(cut, verdict.notes)),
        ran=stands_on(verdict) if verdict.iterations or verdict.warmup else "",
        took=took_by_part([verdict]),
        same_as=cut(same_as(verdict)),
    )


class _Figure(NamedTuple):
    """The figure that represents a test, and its signal."""

    text: str = ""
    signal: str = ""
    rate: float | None = None
    unit: str = ""


def _main_figure(verdict: Verdict, failing: Sequence[Finding]) -> _Figure:
    if failing:
        lead = failing[0]
        name, unit = lead.signal, lead.unit
        if lead.per_iteration is None:
            state = row_of(name, unit).state
            text = f"{format_count(lead.total)} {state}"
            return _Figure(text, name, lead.total, f"{unit} {state}")
        if is_total(lead):
            text = f"{signed(lead.total, unit)} in all"
            return _Figure(text, name, lead.total, f"{unit} in all")
        return _Figure(signed(lead.per_iteration, unit), name, lead.per_iteration, unit)
    closest = closeness(verdict)
    if closest is None or not closest[1]:
        return _Figure()
    signal, rate = closest[0], closest[0].per_iteration or 0.0
    return _Figure(signed(rate, signal.unit), signal.name, rate, signal.unit)


def _memory(verdict: Verdict) -> float | None:
    """Return the growth of the heap, or of RSS if the heap was not measured."""
    rates = {
        signal.name: signal.per_iteration
        for signal in verdict.signals
        if signal.status == "measured"
    }
    for name in ("host.heap", "host.rss"):
        if rates.get(name) is not None:
            return rates[name]
    return None


def _brief(verdict: Verdict, failing: Sequence[Finding]) -> Iterator[str]:
    """Yield what piles up, where it was made and what holds it, or why nothing does."""
    if failing:
        lead = failing[0]
        # if the first finding lacks it, another one of the same leak may have it
        what = next(filter(None, map(what_of, failing)), None)
        where = next(filter(None, map(where_to_look, failing)), "")
        path = next((f.path for f in failing if f.path), None)
        yield cut(what, 120) if what else next(figures_alone(lead, verdict))
        if where:
            yield cut(where, _LONGEST_NAME)
        if path is not None:
            yield f"held by {cut(edges_of(path)[0], 120)}"
        if more := len(leaks_in(failing)) - 1:
            yield count_of(more, "more leak")
    elif verdict.status is not Status.CLEAN:
        yield cut(next(reason_texts(verdict)), 300)
    elif verdict.accepted:
        yield ", ".join(_accepted(verdict))
    else:
        yield closest_text(verdict)


def _accepted(verdict: Verdict) -> Iterator[str]:
    """Yield the growth that does not fail the test, and why."""
    for text in known_growth(verdict):
        yield f"known growth: {cut(text)}"
    for finding in ordered(verdict.recorded):
        yield f"in the baseline: {cut(next(figures_alone(finding, verdict)))}"


def _describe_leaks(
    leaks: Sequence[Sequence[Finding]], verdict: Verdict
) -> tuple[OwnLeak, ...]:
    """Return leaks as texts, each finding without what an earlier one already says."""
    before: list[FindingEntry] = []
    described: list[OwnLeak] = []
    for findings in leaks:
        start = len(before)
        for finding in findings:
            entry = _describe(finding, verdict)
            for earlier in before:
                entry = _without_repeats(entry, earlier)
            before.append(entry)
        lead, *others = before[start:]
        why, more = _why(findings), cause_page(findings[0].cause) or ""
        if any((leak.why, leak.more) == (why, more) for leak in described):
            why, more = (), ""
        described.append(OwnLeak(lead=lead, others=tuple(others), why=why, more=more))
    return tuple(described)


def _why(findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    """Return why one leak happens and what to do, each text with a label."""
    lead = findings[0]
    rows = [(label, cut(text)) for label, text in cause_rows(findings)]
    look_for = row_of(lead.signal, lead.unit).look_for
    if look_for and not (lead.advice or lead.line):
        rows.append(("look for", look_for))
    return tuple(rows[:_MOST_LINES])


def _title(finding: Finding) -> str:
    return safe(row_of(finding.signal, finding.unit).grows[:_LONGEST_TEXT])


def _describe(finding: Finding, verdict: Verdict) -> FindingEntry:
    """Return one finding of a verdict as texts."""
    curve = _curve_of(verdict, finding.signal, finding)
    stored = finding.stored if is_stored_apart(finding) else None
    return FindingEntry(
        title=_title(finding),
        figure=cut(next(figures_alone(finding, verdict))),
        limit=_limit(finding),
        only_when=cut(failing_calls(finding.failing)) if finding.failing else "",
        curve=curve,
        readings=tuple(_readings(curve)) if curve else (),
        what=cut(what_of(finding)),
        holder=tuple(_lines(edges_of(finding.path) if finding.path else ())),
        stored=_line(stored) if stored else None,
        origin=_line(finding.origin) if finding.origin else None,
        stack=tuple(_line(line) for line in finding.stack[:_MOST_LINES]),
        native=tuple(_lines(finding.native)),
        python=cut(explained_part(finding)),
        baseline=_BASELINE.get(finding.baseline or "", ""),
        fingerprint=cut(finding.fingerprint, 100),
    )


def _limit(finding: Finding) -> str:
    if not finding.allowance:
        return "none allowed"
    if finding.per_iteration is None:
        return f"allowed: {format_quantity(finding.allowance, finding.unit)}"
    value = finding.total if is_total(finding) else finding.per_iteration
    _, limit = compared(value, finding.allowance, finding.unit)
    return f"allowed: {limit} {'in all' if is_total(finding) else each(finding)}"


def _readings(curve: Curve) -> Iterator[tuple[str, str]]:
    """Yield the readings of each part as text, for readers who cannot see the curve."""
    if len(curve.series) <= _MOST_READINGS:
        for name, start, end in curve.parts:
            values = curve.series[start:end]
            yield name, " ".join("-" if v is None else str(v) for v in values)


def _lines(lines: Sequence[str] | None) -> Iterator[str]:
    for line in (lines or ())[:_MOST_LINES]:
        yield cut(line, 500)
    if len(lines or ()) > _MOST_LINES:
        yield f"... ({len(lines or ()) - _MOST_LINES:,} more)"


def _line(line: Origin) -> tuple[str, str]:
    return f"{cut(place_of(line), _LONGEST_NAME)} in {cut(line.function, 200)}", cut(
        line.text, 300
    ).strip()


def _without_repeats(entry: FindingEntry, before: FindingEntry) -> FindingEntry:
    """Return a finding without the explanations that an earlier one already gives."""
    same: dict[str, Any] = {
        name: None if name in _LINES else type(getattr(entry, name))()
        for name in _EXPLANATIONS
        if getattr(entry, name) == getattr(before, name)
    }
    return dataclasses.replace(entry, **same)


def _sort_out(
    verdict: Verdict,
) -> tuple[list[SignalEntry], list[str], list[tuple[str, str]]]:
    """Return the signals that changed, the level ones, and why others were not read."""
    moved: list[SignalEntry] = []
    level: list[str] = []
    missing: dict[str, list[str]] = {}
    for signal in sorted(verdict.signals, key=lambda s: rank(s.name, s.unit)):
        name = short_name(signal.name)
        if signal.status != "measured":
            reason = cut(signal.reason or "no reason given", 300)
            missing.setdefault(f"{signal.status}: {reason}", []).append(name)
        curve = _curve_of(verdict, signal.name)
        readings = {value for value in signal.series if value is not None}
        if curve is not None:
            moved.append(_describe_signal(signal, curve, name))
        elif readings and signal.status != "unavailable":
            last = next(v for v in reversed(signal.series) if v is not None)
            level.append(f"{name} {format_quantity(last, signal.unit)}")
    return moved, level, [(why, ", ".join(names)) for why, names in missing.items()]


def _describe_signal(signal: SignalReport, curve: Curve, name: str) -> SignalEntry:
    """Return one signal that changed as texts."""
    first, last = compared(curve.judged[0], curve.judged[-1], signal.unit)
    growth = signal.per_iteration
    text = "not judged"
    if signal.decides and growth is not None and signal.allowance is not None:
        text = "none"
        if signal.allowance:
            shown = signal.total if has_total(signal) else growth
            limit = compared(shown or 0.0, signal.allowance, signal.unit)[1]
            limit += " in all" if has_total(signal) else ""
            text = f"{limit} ({percent(max(shown or 0.0, 0.0) / signal.allowance)})"
    return SignalEntry(
        name=name,
        growth="" if growth is None else signed(growth, signal.unit),
        allowance=text,
        total="" if signal.total is None else signed(signal.total, signal.unit),
        first=first,
        last=last,
        curve=curve,
    )


def cut(text: str | None, most: int = _LONGEST_TEXT) -> str:
    """Return text that is safe to show, cut to a length, with how much is left out."""
    text = text or ""
    if len(text) <= most:
        return safe(text)
    return f"{safe(text[:most])} ... ({len(text) - most:,} more characters)"


def curve_of_lead(verdict: Verdict) -> Curve | None:
    """Return the curve of the signal that represents a test, if it changed."""
    failing = ordered(verdict.failing)
    name = _main_figure(verdict, failing).signal
    return _curve_of(verdict, name, failing[0] if failing else None)


def _curve_of(
    verdict: Verdict, name: str, finding: Finding | None = None
) -> Curve | None:
    """Return the curve of a signal that changed, with a finding's allowance."""
    found = (signal for signal in verdict.signals if signal.name == name)
    signal = next(found, None)
    if signal is None or not signal.series:
        return None
    allowance, in_all = signal.allowance, has_total(signal)
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
