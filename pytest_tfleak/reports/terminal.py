"""Lines for pytest's terminal: the header, the section at the end, the message."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Literal
from typing import NamedTuple

from pytest_tfleak.ledger import Ledger
from pytest_tfleak.ledger import closeness
from pytest_tfleak.reports.known import known_growth
from pytest_tfleak.reports.message import count_of
from pytest_tfleak.reports.message import curve
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.message import lead_figures
from pytest_tfleak.reports.message import reason_texts
from pytest_tfleak.reports.text import NARROWEST
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import first_that_fits
from pytest_tfleak.reports.text import pad
from pytest_tfleak.reports.text import percent
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.text import sparkline
from pytest_tfleak.reports.text import wrap
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.reports.words import rank
from pytest_tfleak.units import format_count
from pytest_tfleak.units import format_quantity
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

__all__ = [
    "Line",
    "Markup",
    "failure_text",
    "headline",
    "sparkline",
    "summary_lines",
]

Markup = Literal["leak", "warn", "clean", "dim", "plain"]
LONGEST_SIGNAL = 32  # columns

_MARKUP: dict[Status, Markup] = {
    Status.LEAK: "leak",
    Status.INCONCLUSIVE: "warn",
    Status.NOT_MEASURED: "warn",
    Status.CLEAN: "clean",
}


class Line(NamedTuple):
    """One line, and how to mark it up."""

    text: str
    markup: Markup


def summary_lines(
    ledger: Ledger, verbosity: int = 0, width: int = 80, unicode: bool = True
) -> list[Line]:
    """Return the section at the end: measured tests, worst first."""
    width = max(width, NARROWEST)
    shown = [v for v in ledger.verdicts() if _is_listed(v, verbosity)]
    words = max((len(STATUSES[verdict.status]) for verdict in shown), default=0)
    lines: list[Line] = []
    for verdict in shown:
        word = STATUSES[verdict.status]
        start = f"{word}  " if verbosity < 0 else f"{word:<{words}}  "
        lines += _entry(verdict, start, verbosity, width, unicode)
        if verbosity > 1:
            lines += _signal_lines(verdict, width, unicode)
    if verbosity >= 0:
        lines += _counted(ledger, [v for v in ledger.verdicts() if v not in shown])
    return lines


def _is_listed(verdict: Verdict, verbosity: int) -> bool:
    if verdict.status is Status.CLEAN or verdict.reason is Reason.DISABLED:
        return verbosity > 0
    return True


def _entry(
    verdict: Verdict, start: str, verbosity: int, width: int, unicode: bool
) -> list[Line]:
    """Return the lines of one test: its name, and beside or below it what was found."""
    markup = _MARKUP[verdict.status]
    if verdict.reason is Reason.DISABLED:
        markup = "dim"
    name = start + (safe(verdict.nodeid, unicode) or "(no name)")
    texts = [safe(text, unicode) for text in _texts(verdict, verbosity)]
    room = width - columns(name) - 2
    best = next((text for text in texts if columns(text) <= room), None)
    if verbosity < 0:
        text = best or first_that_fits(texts, room)
        return [Line(f"{name}  {text}" if len(text) > 3 else name, markup)]
    if best is not None and (best == texts[0] or verdict.status is Status.LEAK):
        return [Line(f"{name}  {best}", markup)]
    below = wrap(texts[0], width, " " * 4, " " * 6)
    return [Line(name, markup), *(Line(text, "plain") for text in below)]


def _texts(verdict: Verdict, verbosity: int) -> list[str]:
    """Return what to say beside a test, in ever shorter forms."""
    if verdict.status is Status.LEAK and verdict.failing:
        texts = list(lead_figures(verdict))
        return [text for text in texts if ", seen in" not in text] or texts
    if verdict.status is not Status.CLEAN:
        texts = list(reason_texts(verdict))
        if verbosity > 0 and verdict.iterations:
            texts.insert(0, f"{_measured(verdict)}; {texts[0]}")
        return texts
    known = ", ".join(known_growth(verdict))
    if known:
        return [f"{_measured(verdict)}; known growth: {known}", _measured(verdict)]
    return [f"{_measured(verdict)}; {_closest(verdict)}", _measured(verdict)]


def _measured(verdict: Verdict) -> str:
    return count_of(verdict.iterations, "iteration")


def _closest(verdict: Verdict) -> str:
    closest = closeness(verdict)
    if closest is None:
        return "no signal decides"
    signal, share = closest
    if not share:
        return "nothing grew"
    return f"closest: {short_name(signal.name)} {_of_allowance(signal)}"


def _of_allowance(signal: SignalReport, per: str = "") -> str:
    """Return growth beside what is allowed: ``1.2 KiB of 6 KiB (20 %)``."""
    assert signal.per_iteration is not None and signal.allowance is not None
    rate, limit = compared(signal.per_iteration, signal.allowance, signal.unit)
    if not signal.allowance:
        return f"{rate}{per}, none allowed"
    share = max(signal.per_iteration, 0.0) / signal.allowance
    return f"{rate} of {limit}{per} ({percent(share)})"


def _counted(ledger: Ledger, unlisted: Sequence[Verdict]) -> list[Line]:
    cleans = [verdict for verdict in unlisted if verdict.status is Status.CLEAN]
    clean, known = len(cleans), sum(bool(verdict.known) for verdict in cleans)
    recorded = sum(bool(verdict.recorded) for verdict in cleans)
    parts = [f"{format_count(clean)} clean"] if clean else []
    if known:
        parts.append(f"{format_count(known)} of them with known growth of TensorFlow")
    if recorded:
        parts.append(f"{format_count(recorded)} of them with leaks of the baseline")
    if len(unlisted) > clean:
        parts.append(f"{format_count(len(unlisted) - clean)} disabled")
    if not parts:
        return []
    counts = ledger.counts()
    bad = counts[Status.LEAK] or counts[Status.INCONCLUSIVE]
    return [Line(", ".join(parts), "clean" if clean and not bad else "plain")]


def _signal_lines(verdict: Verdict, width: int, unicode: bool) -> list[Line]:
    signals = sorted(verdict.signals, key=lambda signal: rank(signal.name, signal.unit))
    names = [shorten(safe(signal.name, unicode), LONGEST_SIGNAL) for signal in signals]
    widest = max((columns(name) for name in names), default=0)
    lines = []
    for name, signal in zip(names, signals, strict=True):
        start = f"      {pad(name, widest)}  "
        if columns(start) > width // 2:
            start = f"      {shorten(name, width - 8)}: "
        parts = list(_signal_parts(signal, verdict))
        text = "; ".join(parts)
        if columns(start) + columns(text) > width:
            text = "; ".join(part for part in parts if not part.endswith(" in all"))
        below = wrap(safe(text, unicode), width, start, " " * 8)
        room = width - columns(below[0]) - 2
        if len(below) == 1 and signal.status != "unavailable" and room >= 5:
            below[0] = _with_curve(below[0], verdict, signal, width, unicode)
        lines += [Line(text, "dim") for text in below]
    return lines


def _signal_parts(signal: SignalReport, verdict: Verdict) -> Iterator[str]:
    if signal.status != "measured":
        yield f"{signal.status}: {signal.reason or 'no reason given'}"
    if signal.status == "unavailable":
        return
    readings = {value for value in signal.series[verdict.warmup :] if value is not None}
    if signal.per_iteration is None or signal.total is None:
        yield "read once"
    elif len(readings) == 1:
        yield f"level at {format_quantity(readings.pop(), signal.unit)}"
    else:
        if signal.decides and signal.allowance is not None:
            yield _of_allowance(signal, " per iteration")
        else:
            yield f"{format_quantity(signal.per_iteration, signal.unit)} per iteration"
        yield f"{signed(signal.total, signal.unit)} in all"
    if signal.status == "measured" and not signal.decides:
        yield "not judged"


def _with_curve(
    text: str, verdict: Verdict, signal: SignalReport, width: int, unicode: bool
) -> str:
    if not signal.total:
        return text
    bars = curve(verdict, signal, width - columns(text) - 2, unicode)
    return f"{text}  {bars}" if columns(text) + 2 + columns(bars) <= width else text
