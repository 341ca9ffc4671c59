"""Make lines for pytest's terminal: the header, and the section at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from typing import NamedTuple

from pytest_tfleak.quantities import format_count
from pytest_tfleak.quantities import format_quantity
from pytest_tfleak.quantities import format_seconds
from pytest_tfleak.reports.leaks import Leak
from pytest_tfleak.reports.leaks import entries_by_leak
from pytest_tfleak.reports.leaks import leaks_in
from pytest_tfleak.reports.message import closest_text
from pytest_tfleak.reports.message import count_of
from pytest_tfleak.reports.message import draw_curve
from pytest_tfleak.reports.message import figures_alone
from pytest_tfleak.reports.message import is_of_calls
from pytest_tfleak.reports.message import known_growth
from pytest_tfleak.reports.message import lead_figures
from pytest_tfleak.reports.message import lead_text
from pytest_tfleak.reports.message import of_allowance
from pytest_tfleak.reports.message import place_of
from pytest_tfleak.reports.message import place_of_leak
from pytest_tfleak.reports.message import reason_texts
from pytest_tfleak.reports.message import took_by_part
from pytest_tfleak.reports.text import NARROWEST
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import first_that_fits
from pytest_tfleak.reports.text import pad
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.text import wrap
from pytest_tfleak.reports.words import REASONS
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.signals import rank
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Ledger
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import has_total

Markup = Literal["leak", "warn", "clean", "dim", "plain"]
LONGEST_SIGNAL = 32  # columns
_MOST_SLOW = 3  # tests
_MOST_TESTS = 10  # of one leak, besides the worst
_MOST_FURTHER = 3  # leaks of one test, besides the first

_MARKUP: dict[Status, Markup] = {
    Status.LEAK: "leak",
    Status.INCONCLUSIVE: "warn",
    Status.NOT_MEASURED: "warn",
    Status.CLEAN: "clean",
}


class Line(NamedTuple):
    """One line and its markup."""

    text: str
    markup: Markup


def summary_lines(
    ledger: Ledger, verbosity: int = 0, width: int = 80, unicode: bool = True
) -> list[Line]:
    """Return the lines of the section at the end: leaks with their tests, worst first.

    Tests without a verdict follow, and with ``-v`` those that are clean.
    """
    width = max(width, NARROWEST)
    verdicts = ledger.verdicts()
    listed = [v for v in verdicts if _is_listed(v, verbosity)]
    folded = _folded(listed) if verbosity <= 0 else {}
    shown = [v for v in listed if _why_unmeasured(v) not in folded]
    words = max((len(STATUSES[verdict.status]) for verdict in shown), default=0)
    options = verbosity, width, unicode
    lines: list[Line] = []
    for leak in entries_by_leak(shown):
        lines += _leak_lines(leak, words, *options)
    for verdict in shown:
        if verdict.status is not Status.LEAK:
            lines += _entry(verdict, _start(verdict, words, verbosity), *options)
            lines += _details(verdict, *options)
    lines += [
        Line(text, "warn")
        for why, number in folded.items()
        for text in wrap(
            f"{format_count(number)} not measured: {why}", width, "", " " * 4
        )
    ]
    if verbosity >= 0:
        lines += _counted(ledger, [v for v in verdicts if v not in listed])
    return lines


def _folded(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Return how many tests were not measured for each reason, if several were."""
    reasons = Counter(filter(None, map(_why_unmeasured, verdicts)))
    return {why: number for why, number in reasons.items() if number > 1}


def _why_unmeasured(verdict: Verdict) -> str | None:
    """Return why a test was not measured, as a reason that tests can share."""
    if verdict.status is not Status.NOT_MEASURED or verdict.reason is None:
        return None
    if verdict.reason is Reason.UNSUPPORTED and verdict.detail:
        return safe(verdict.detail)
    return REASONS[verdict.reason].why


def _start(verdict: Verdict, words: int, verbosity: int) -> str:
    word = STATUSES[verdict.status]
    return f"{word}  " if verbosity < 0 else f"{word:<{words}}  "


def _leak_lines(
    leak: Leak, words: int, verbosity: int, width: int, unicode: bool
) -> list[Line]:
    """Return the lines of a leak: those of the worst test, and the others below."""
    first, *others = leak.verdicts
    start = _start(first, words, verbosity)
    further = [] if others else leaks_in(first.failing)[1:]
    if verbosity < 0:
        more = f" and {format_count(len(others))} more" if others else ""
        if further:
            more = f" ({count_of(len(further), 'more leak')})"
        return _entry(first, start, verbosity, width, unicode, more, with_line=True)
    # if others have it too, the line of code stands below
    lines = _entry(first, start, verbosity, width, unicode, with_line=not others)
    lines += _further_lines(first, further, verbosity, width, unicode)
    lines += _details(first, verbosity, width, unicode)
    if others:
        noun = "test" if len(leak.tests) == len(leak.verdicts) else "check"
        more = f"also in {count_of(len(others), noun)}:"
        text = "; ".join(filter(None, (place_of_leak(leak.lead), more)))
        below = wrap(safe(text, unicode), width, " " * 4, " " * 6)
        lines += [Line(text, "plain") for text in below]
    listed = others if verbosity > 0 else others[:_MOST_TESTS]
    for verdict in listed:
        name = f"      {safe(verdict.nodeid, unicode) or '(no name)'}"
        texts = figures_alone(ordered(verdict.findings)[0], verdict)
        room = width - columns(name) - 2
        text = next((t for t in map(safe, texts) if columns(t) <= room), "")
        lines.append(Line(f"{name}  {text}".rstrip(), _MARKUP[verdict.status]))
        lines += _details(verdict, verbosity, width, unicode)
    if len(others) > len(listed):
        rest = format_count(len(others) - len(listed))
        lines.append(Line(f"      and {rest} more, which -v lists", "plain"))
    return lines


def _further_lines(
    verdict: Verdict,
    leaks: Sequence[Sequence[Finding]],
    verbosity: int,
    width: int,
    unicode: bool,
) -> list[Line]:
    """Return a line for each leak of a test but the first, which follows its name."""
    listed = leaks if verbosity > 0 else leaks[:_MOST_FURTHER]
    start = " " * 4 + "and "
    lines = []
    for found in listed:
        alone = replace(verdict, findings=tuple(found))
        text = safe(lead_text(alone, width - columns(start)), unicode)
        lines.append(Line(start + text, _MARKUP[verdict.status]))
    if len(leaks) > len(listed):
        rest = format_count(len(leaks) - len(listed))
        lines.append(Line(f"{start}{rest} more, which -v lists", "plain"))
    return lines


def _details(verdict: Verdict, verbosity: int, width: int, unicode: bool) -> list[Line]:
    lines = _signal_lines(verdict, width, unicode) if verbosity > 1 else []
    return lines + (_note_lines(verdict, width, unicode) if verbosity > 0 else [])


def _is_listed(verdict: Verdict, verbosity: int) -> bool:
    if verdict.status is Status.CLEAN or verdict.reason is Reason.DISABLED:
        return verbosity > 0
    return True


def _entry(
    verdict: Verdict,
    start: str,
    verbosity: int,
    width: int,
    unicode: bool,
    more: str = "",
    with_line: bool = False,
) -> list[Line]:
    """Return the lines of one test: its name, and what was found after or below it.

    ``more`` follows the name. ``with_line`` never leaves out the line of code.
    """
    markup = _MARKUP[verdict.status]
    if verdict.reason is Reason.DISABLED:
        markup = "dim"
    name = start + (safe(verdict.nodeid, unicode) or "(no name)") + more
    texts = [safe(text, unicode) for text in _texts(verdict, verbosity)]
    room = width - columns(name) - 2
    line = ordered(verdict.failing)[0].line if with_line and verdict.failing else None
    if line is not None:
        place = safe(place_of(line), unicode)
        with_place = [text for text in texts if place in text]
        if verbosity < 0:  # one line, even if it is long
            text = safe(lead_text(verdict, max(room, columns(place) + 3)), unicode)
            return [Line(f"{name}  {text}", markup)]
        return _with_line(verdict, Line(name, markup), with_place, width, unicode)
    best = next((text for text in texts if columns(text) <= room), None)
    if verbosity < 0:
        text = best or first_that_fits(texts, room)
        return [Line(f"{name}  {text}" if len(text) > 3 else name, markup)]
    if best is not None and (best == texts[0] or verdict.status is Status.LEAK):
        return [Line(f"{name}  {best}", markup)]
    below = wrap(texts[0], width, " " * 4, " " * 6)
    return [Line(name, markup), *(Line(text, "plain") for text in below)]


def _with_line(
    verdict: Verdict, name: Line, texts: Sequence[str], width: int, unicode: bool
) -> list[Line]:
    """Return the lines of a leak in one test, always with its line of code.

    ``texts`` are the forms that may follow the name.
    """
    room = width - columns(name.text) - 2
    best = next((text for text in texts if columns(text) <= room), None)
    if best is not None:
        return [Line(f"{name.text}  {best}", name.markup)]
    whole = texts[0] if texts else ""
    if not whole or columns(texts[-1]) > width - 4:  # a long path
        whole = safe(lead_text(verdict, width - 4), unicode)
    below = wrap(whole, width, " " * 4, " " * 6)
    return [name, *(Line(text, "plain") for text in below)]


def _texts(verdict: Verdict, verbosity: int) -> list[str]:
    """Return the text after a test's name, in ever shorter forms."""
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
    return [f"{_measured(verdict)}; {closest_text(verdict)}", _measured(verdict)]


def _measured(verdict: Verdict) -> str:
    return count_of(verdict.iterations, "call" if is_of_calls(verdict) else "iteration")


def _counted(ledger: Ledger, unlisted: Sequence[Verdict]) -> list[Line]:
    cleans = [verdict for verdict in unlisted if verdict.status is Status.CLEAN]
    clean, known = len(cleans), sum(bool(verdict.known) for verdict in cleans)
    recorded = sum(bool(verdict.recorded) for verdict in cleans)
    parts = [f"{format_count(clean)} clean"] if clean else []
    if known:
        parts.append(f"{format_count(known)} of them with known growth of TensorFlow")
    if recorded:
        parts.append(f"{format_count(recorded)} of them only because of the baseline")
    if len(unlisted) > clean:
        parts.append(f"{format_count(len(unlisted) - clean)} disabled")
    if not parts:
        return []
    counts = ledger.counts()
    bad = counts[Status.LEAK] or counts[Status.INCONCLUSIVE]
    return [Line(", ".join(parts), "clean" if clean and not bad else "plain")]


def time_lines(
    ledger: Ledger,
    verbosity: int = 0,
    width: int = 80,
    unicode: bool = True,
    workers: int = 0,
) -> list[Line]:
    """Return where the time went: all tests, the slowest, and with ``-v`` each part.

    ``workers`` is on how many processes of xdist the tests ran at the same time.
    """
    took: dict[str, float] = {}
    verdicts = ledger.verdicts()
    for verdict in verdicts:
        if verdict.seconds:
            took[verdict.nodeid] = took.get(verdict.nodeid, 0.0) + verdict.seconds
    if not took or verbosity < 0:
        return []
    bodies = sum(verdict.body_seconds for verdict in verdicts)
    where = f" on {count_of(workers, 'worker')}" if workers > 1 else ""
    text = (
        f"tfleak: {count_of(len(took), 'test')} in {_duration(sum(took.values()))}"
        f"{where}, {_duration(bodies)} of it bodies"
    )
    if len(took) > 1:
        slowest = sorted(took, key=lambda name: (-took[name], name))[:_MOST_SLOW]
        names = [f"{safe(n, unicode)} {_duration(took[n])}" for n in slowest]
        text += f"; slowest: {', '.join(names)}"
    texts = [text]
    parts = took_by_part(verdicts)
    if verbosity > 0 and parts:
        texts.append(f"tfleak: {parts}")
    return [
        Line(line, "dim")
        for text in texts
        for line in wrap(text, max(width, NARROWEST), "", " " * 4)
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else format_seconds(seconds)


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


def _note_lines(verdict: Verdict, width: int, unicode: bool) -> list[Line]:
    if verdict.status is Status.LEAK:
        return []  # the test's message shows the notes
    texts = [
        line
        for note in verdict.notes
        for line in wrap(safe(note, unicode), width, " " * 6, " " * 8)
    ]
    return [Line(text, "dim") for text in texts]


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
            yield of_allowance(signal, is_long=True)
        else:
            yield f"{format_quantity(signal.per_iteration, signal.unit)} per iteration"
        if has_total(signal):
            yield f"{format_quantity(signal.per_iteration, signal.unit)} per iteration"
        else:
            yield f"{signed(signal.total, signal.unit)} in all"
    if signal.status == "measured" and not signal.decides:
        yield "not judged"


def _with_curve(
    text: str, verdict: Verdict, signal: SignalReport, width: int, unicode: bool
) -> str:
    if not signal.total:
        return text
    bars = draw_curve(verdict, signal, width - columns(text) - 2, unicode)
    return f"{text}  {bars}" if columns(text) + 2 + columns(bars) <= width else text


def header_lines(
    probes: Sequence[tuple[str, str | None]], warning: str | None = None
) -> list[str]:
    """Return a warning if there is one, which probes are on, and why others are off."""
    names = ", ".join(safe(name) for name, why in probes if why is None)
    off: dict[str, list[str]] = {}
    for name, why in probes:
        if why is not None:
            off.setdefault(safe(why), []).append(safe(name))
    texts = [f"{', '.join(idle)} ({why})" for why, idle in off.items()]
    lines = [] if warning is None else [f"tfleak: {safe(warning)}"]
    lines.append(f"tfleak: probes: {names or 'none'}")
    return lines + [f"tfleak: off: {text}" for text in texts]
