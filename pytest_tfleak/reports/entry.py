"""What a page shows of one test, as text: figures and words are those of the terminal.

All text is safe to show and cut to a length; the page that shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_tfleak.ledger import closeness
from pytest_tfleak.ledger import is_total
from pytest_tfleak.reports.allow import how_to_allow
from pytest_tfleak.reports.curves import Curve
from pytest_tfleak.reports.evidence import LONGEST_NAME
from pytest_tfleak.reports.evidence import LONGEST_TEXT
from pytest_tfleak.reports.evidence import FindingEntry
from pytest_tfleak.reports.evidence import SignalEntry
from pytest_tfleak.reports.evidence import curve_of
from pytest_tfleak.reports.evidence import cut
from pytest_tfleak.reports.evidence import describe_finding
from pytest_tfleak.reports.evidence import describe_signal
from pytest_tfleak.reports.evidence import figures_of
from pytest_tfleak.reports.evidence import without_what_is_in
from pytest_tfleak.reports.known import known_growth
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.message import reason_texts
from pytest_tfleak.reports.message import stands_on
from pytest_tfleak.reports.order import ordered
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import percent
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.where import place_of
from pytest_tfleak.reports.words import REASONS
from pytest_tfleak.reports.words import rank
from pytest_tfleak.reports.words import words_for
from pytest_tfleak.units import format_count
from pytest_tfleak.units import format_quantity
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One test, in words."""

    verdict: Verdict
    file: str  # of the node id, what comes before "::"
    name: str
    growth: str  # of the most telling signal, or of the one closest to its allowance
    signal: str
    curve: Curve | None
    memory: float | None  # bytes per iteration, None where not measured
    brief: str  # what a reader wants to know first
    headline: str
    failing: tuple[FindingEntry, ...]
    accepted: tuple[FindingEntry, ...]
    known: tuple[str, ...]
    look_for: str
    remedy: str
    allow: str
    signals: tuple[SignalEntry, ...]
    level: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    ran: str


def make_entry(verdict: Verdict) -> Entry:
    """Return one test in words."""
    failing = ordered(verdict.failing)
    growth, lead = _lead(verdict, failing)
    moved, level, missing = _sort_out(verdict)
    look_for = ""
    if failing and not (failing[0].advice or failing[0].origin):
        look_for = words_for(failing[0].signal, failing[0].unit).look_for
    whole = shorten(safe(verdict.nodeid[:LONGEST_TEXT]), LONGEST_NAME)
    file, colons, name = whole.partition("::")
    return Entry(
        verdict=verdict,
        file=file if colons else "",
        name=(name if colons else whole) or "(no name)",
        growth=growth,
        signal=short_name(lead) if lead else "",
        curve=curve_of(verdict, lead),
        memory=_memory(verdict),
        brief=" · ".join(_brief(verdict, failing)),
        headline=cut(headline(verdict)),
        failing=_described(failing, verdict),
        accepted=_described(ordered(verdict.accepted), verdict),
        known=tuple(_accepted(verdict)),
        look_for=look_for,
        remedy=REASONS[verdict.reason].remedy if verdict.reason else "",
        allow=cut(how_to_allow(verdict, failing)) if failing else "",
        signals=tuple(moved),
        level=tuple(level),
        missing=tuple(missing),
        notes=tuple(map(cut, verdict.notes)),
        ran=stands_on(verdict) if verdict.iterations or verdict.warmup else "",
    )


def _lead(verdict: Verdict, failing: Sequence[Finding]) -> tuple[str, str | None]:
    """Return the figure that stands for a test, and the name of its signal."""
    if failing:
        lead = failing[0]
        if lead.per_iteration is None:
            state = words_for(lead.signal, lead.unit).state
            return f"{format_count(lead.total)} {state}", lead.signal
        if is_total(lead):
            return f"{signed(lead.total, lead.unit)} in all", lead.signal
        return signed(lead.per_iteration, lead.unit), lead.signal
    closest = closeness(verdict)
    if closest is None or not closest[1]:
        return "", None
    return signed(closest[0].per_iteration or 0.0, closest[0].unit), closest[0].name


def _brief(verdict: Verdict, failing: Sequence[Finding]) -> Iterator[str]:
    """Say what piles up, where it was made and who holds it, or why nothing is said."""
    if failing:
        lead = failing[0]
        # what a signal cannot tell, another one that the same leak moves may
        what = next((f.what for f in failing if f.what), None)
        origin = next((f.origin for f in failing if f.origin), None)
        holder = next((f.holder for f in failing if f.holder), None)
        yield cut(what, 120) if what else next(figures_of(lead, verdict))
        if origin is not None:
            yield f"made at {cut(place_of(origin), LONGEST_NAME)}"
        if holder:
            yield f"held by {cut(holder[0], 120)}"
    elif verdict.status is not Status.CLEAN:
        yield cut(next(reason_texts(verdict)), 300)
    elif verdict.accepted:
        yield ", ".join(_accepted(verdict))
    else:
        closest = closeness(verdict)
        if closest is None:
            yield "no signal decides"
        elif not closest[1]:
            yield "nothing grew"
        else:
            signal = closest[0]
            yield f"closest: {short_name(signal.name)} {_of_allowance(signal)}"


def _of_allowance(signal: SignalReport) -> str:
    assert signal.per_iteration is not None and signal.allowance is not None
    rate, limit = compared(signal.per_iteration, signal.allowance, signal.unit)
    if not signal.allowance:
        return f"{rate}, none allowed"
    share = max(signal.per_iteration, 0.0) / signal.allowance
    return f"{rate} of {limit} ({percent(share)})"


def _accepted(verdict: Verdict) -> Iterator[str]:
    """Say which growth does not fail the test, and why."""
    for text in known_growth(verdict):
        yield f"known growth: {cut(text)}"
    for finding in ordered(verdict.recorded):
        yield f"in the baseline: {cut(next(figures_of(finding, verdict)))}"


def _described(
    findings: Sequence[Finding], verdict: Verdict
) -> tuple[FindingEntry, ...]:
    """Return findings in words; what one says is not said again by the next."""
    entries: list[FindingEntry] = []
    for finding in findings:
        entry = describe_finding(finding, verdict)
        for before in entries:
            entry = without_what_is_in(entry, before)
        entries.append(entry)
    return tuple(entries)


def _memory(verdict: Verdict) -> float | None:
    """Return the growth of the host memory that decides, of RSS where none does."""
    rates = {
        signal.name: signal.per_iteration
        for signal in verdict.signals
        if signal.status == "measured"
    }
    for name in ("host.heap", "host.rss"):
        if rates.get(name) is not None:
            return rates[name]
    return None


def _sort_out(
    verdict: Verdict,
) -> tuple[list[SignalEntry], list[str], list[tuple[str, str]]]:
    """Return the signals that moved, the level ones, and why others were not read."""
    moved: list[SignalEntry] = []
    level: list[str] = []
    missing: dict[str, list[str]] = {}
    for signal in sorted(verdict.signals, key=lambda s: rank(s.name, s.unit)):
        name = short_name(signal.name)
        if signal.status != "measured":
            reason = cut(signal.reason or "no reason given", 300)
            missing.setdefault(f"{signal.status}: {reason}", []).append(name)
        curve = curve_of(verdict, signal.name)
        readings = {value for value in signal.series if value is not None}
        if curve is not None:
            moved.append(describe_signal(signal, curve, name))
        elif readings and signal.status != "unavailable":
            last = next(v for v in reversed(signal.series) if v is not None)
            level.append(f"{name} {format_quantity(last, signal.unit)}")
    return moved, level, [(why, ", ".join(names)) for why, names in missing.items()]
