"""The message of one verdict: what, how much, why, what to do, how to allow it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_tfleak.ledger import closeness
from pytest_tfleak.ledger import is_total
from pytest_tfleak.reports.allow import how_to_allow
from pytest_tfleak.reports.known import causes
from pytest_tfleak.reports.known import known_growth
from pytest_tfleak.reports.order import ordered
from pytest_tfleak.reports.text import NARROWEST
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import first_that_fits
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.text import sparkline
from pytest_tfleak.reports.text import truncate
from pytest_tfleak.reports.text import wrap
from pytest_tfleak.reports.where import located
from pytest_tfleak.reports.where import where_rows
from pytest_tfleak.reports.words import REASONS
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.reports.words import words_for
from pytest_tfleak.units import format_count
from pytest_tfleak.units import format_quantity
from pytest_tfleak.units import format_seconds
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

HEADLINE = 80  # columns
LONGEST_LIST = 300
LONGEST_CURVE = 40
MOST_OTHERS = 5
ALLOW = "to allow it"
_LABEL = 11

Row = tuple[str, str]  # a label and a text


def headline(verdict: Verdict) -> str:
    """Return the first line of the message, enough to act on, of 80 columns or less."""
    word = STATUSES[verdict.status].upper() + ": "
    if verdict.status is Status.LEAK and verdict.failing:
        texts = list(lead_figures(verdict))
    elif verdict.status is Status.CLEAN:
        iterations = count_of(verdict.iterations, "iteration")
        texts = [f"nothing grew past its allowance in {iterations}"]
        if verdict.recorded:
            texts = [f"nothing that is not in the baseline in {iterations}"]
        elif verdict.known:
            texts = [f"nothing but known growth of TensorFlow in {iterations}"]
    else:
        texts = list(reason_texts(verdict))
    return word + first_that_fits(texts, HEADLINE - len(word))


def failure_text(
    verdict: Verdict, width: int = 80, unicode: bool = True, callers: bool = False
) -> str:
    """Return the whole message of a verdict, in lines of at most ``width`` columns.

    ``callers`` shows what called the line that leaks as well.
    """
    width = max(width, NARROWEST)
    if verdict.status is Status.LEAK and verdict.failing:
        rows = _leak_rows(verdict, width, unicode, callers)
    else:
        rows = _other_rows(verdict, width, unicode)
    lines = wrap(safe(headline(verdict), unicode), width, rest="  ")
    below: list[str] = []
    for label, text in rows:
        below += _paragraph(label, text, width, unicode)
    return "\n".join([*lines, "", *below] if below else lines)


def is_apart(finding: Finding, lead: Finding) -> bool:
    """Say whether a finding comes from elsewhere than the leading one."""
    return finding.origin != lead.origin or (
        finding.holder is not None
        and lead.holder is not None
        and finding.holder[0] != lead.holder[0]
    )


def lead_figures(verdict: Verdict) -> Iterator[str]:
    """Give the most telling finding in one line, in ever shorter forms."""
    lead = ordered(verdict.failing)[0]
    if lead.per_iteration is None:
        for where in located(lead):
            yield _still_there(lead) + where
        yield _still_there(lead)
        words = words_for(lead.signal, lead.unit)
        yield f"{format_count(lead.total)} {words.state} ({short_name(lead.signal)})"
        return
    kind = f" ({_kind(lead.kind)})" if lead.kind else ""
    iterations = count_of(lead.last - lead.first + 1, "iteration")
    if is_total(lead):
        total, limit = compared(lead.total, lead.allowance, lead.unit)
        figure = f"{short_name(lead.signal)} {_plus(total)} in {iterations}"
        seen = f", {limit} allowed"
    else:
        growth = signed(lead.per_iteration, lead.unit)
        figure = f"{short_name(lead.signal)} {growth} per iteration"
        seen = f", seen in {iterations}"
    for where in located(lead):
        yield figure + kind + where
        yield figure + where
        yield figure.replace(" per iteration", "/iteration") + where
    yield figure + kind + seen
    yield figure + kind
    yield figure
    yield figure.replace(" per iteration", "/iteration")
    yield short_name(lead.signal)


def reason_texts(verdict: Verdict) -> Iterator[str]:
    """Say why there is no verdict in one line, in ever shorter forms."""
    why = REASONS[verdict.reason].why if verdict.reason else "no reason given"
    detail = safe(verdict.detail or "").strip()
    if detail and why.casefold() not in detail.casefold():
        yield f"{why}: {detail}"
    if detail:
        yield detail
    yield why


def stands_on(verdict: Verdict) -> str:
    """Say in one line how much was run for a verdict."""
    parts = [f"{format_count(verdict.iterations - verdict.confirmation)} measured"]
    if verdict.warmup:
        parts.insert(0, f"{format_count(verdict.warmup)} warm-up")
    if verdict.confirmation:
        parts.append(f"{format_count(verdict.confirmation)} confirmation")
    return (
        f"{' + '.join(parts)} in {format_seconds(verdict.seconds)} "
        f"(body: {format_seconds(verdict.body_seconds)})"
    )


def curve(verdict: Verdict, signal: SignalReport, width: int, unicode: bool) -> str:
    """Return the judged readings of a signal: the first, a sparkline, the last."""
    series = signal.series[verdict.warmup :]
    readings = [value for value in series if value is not None]
    if not readings:
        return ""
    first, last = compared(readings[0], readings[-1], signal.unit)
    room = min(width - len(first) - len(last) - 2, LONGEST_CURVE)
    if room < 5:
        return f"{first} ... {last}"
    return f"{first} {sparkline(series, room, unicode)} {last}"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 iteration``, ``50 iterations``."""
    return f"{format_count(number)} {noun}{'' if number == 1 else 's'}"


def _leak_rows(
    verdict: Verdict, width: int, unicode: bool, callers: bool
) -> Iterator[Row]:
    lead, *others = ordered(verdict.failing)
    words = words_for(lead.signal, lead.unit)
    still = lead.per_iteration is None
    if not still:
        yield "what grows", f"{words.grows} ({short_name(lead.signal)})"
    yield "how much", _figures(lead)
    signal = _signal(verdict, lead.signal)
    if not still:
        yield "seen in", _seen(lead, verdict)
    if not still and signal is not None:
        yield "readings", curve(verdict, signal, _room(width), unicode)
    if lead.what:
        yield "what", shorten(safe(lead.what), LONGEST_LIST)
    yield from where_rows(lead, unicode, callers)
    # one leak moves many signals, and must not look like as many leaks
    cut = MOST_OTHERS if len(others) > MOST_OTHERS + 1 else len(others)
    for other in others[:cut]:
        elsewhere = next(located(other), "") if is_apart(other, lead) else ""
        yield "also", _compact(other) + elsewhere
    if others[cut:]:
        yield "also", ", ".join(short_name(other.signal) for other in others[cut:])
    yield from _known_rows(verdict)
    yield from causes([lead, *others])
    yield from _note_rows(verdict)
    if words.look_for and not (lead.advice or lead.origin):
        yield "look for", words.look_for
    yield ALLOW, how_to_allow(verdict, [lead, *others])
    yield "iterations", stands_on(verdict)


def _other_rows(verdict: Verdict, width: int, unicode: bool) -> Iterator[Row]:
    if verdict.status is not Status.CLEAN:
        texts = list(reason_texts(verdict))
        if safe(verdict.detail or "") not in headline(verdict):
            yield "why", texts[0]
    closest = closeness(verdict)
    if closest is not None and closest[1] > 0:
        signal, _ = closest
        yield "closest", f"{_rate(signal)} ({short_name(signal.name)})"
        yield "readings", curve(verdict, signal, _room(width), unicode)
    yield from _known_rows(verdict)
    yield from _note_rows(verdict)
    if verdict.reason is not None:
        yield "what to do", REASONS[verdict.reason].remedy
    if verdict.iterations or verdict.warmup:
        yield "iterations", stands_on(verdict)


def _known_rows(verdict: Verdict) -> Iterator[Row]:
    for text in known_growth(verdict):
        yield "known", f"{text}; TensorFlow's own, it does not fail the test"


def _note_rows(verdict: Verdict) -> Iterator[Row]:
    for note in verdict.notes:
        yield "note", note


def _paragraph(label: str, text: str, width: int, unicode: bool) -> list[str]:
    """Return a row as lines: a column of labels, or less of it where it is narrow."""
    if not text:
        return []
    text = safe(text, unicode)
    if label == "":  # a line of code, as it stands
        return [truncate(" " * (4 if _is_narrow(width) else _LABEL + 4) + text, width)]
    if label == ALLOW and _is_narrow(width):
        text = text.replace("(", "( ", 1)  # a place to break; stays valid Python
    if label == "readings":  # has its width already, and its gaps are spaces
        colon = "" if not _is_narrow(width) else ":"
        return [truncate(f"  {label + colon:<{_LABEL}}  {text}", width)]
    if _is_narrow(width):
        return wrap(text, width, f"  {label}: ", "    ")
    return wrap(text, width, f"  {label:<{_LABEL}}  ", " " * (_LABEL + 4))


def _is_narrow(width: int) -> bool:
    return width < 60


def _room(width: int) -> int:
    return width - _LABEL - 4


def _still_there(finding: Finding) -> str:
    words = words_for(finding.signal, finding.unit)
    one = finding.total == 1
    noun, verb = (words.one, "is") if one else (words.many, "are")
    return (
        f"{format_count(finding.total)} {safe(noun)} {verb} still {words.state} after "
        f"the test ({short_name(finding.signal)})"
    )


def _figures(finding: Finding) -> str:
    """Return the growth of the leading finding in full, with what is allowed."""
    unit = finding.unit
    if finding.per_iteration is None:
        words = words_for(finding.signal, unit)
        count = format_count(finding.total)
        text = f"{count} {words.state} after the last iteration; {_allowance(finding)}"
        if finding.signal in ("tf.sessions", "tf.graphs"):
            text += ". One that is made once and shared belongs in a fixture"
        return text
    growth, limit = compared(
        finding.total if is_total(finding) else finding.per_iteration,
        finding.allowance,
        unit,
    )
    if is_total(finding):
        return f"{_plus(growth)} in all; allowance {limit} in all"
    total = signed(finding.total, unit)
    return f"{_plus(growth)} per iteration, {total} from first to last; " + _allowance(
        finding, limit
    )


def _compact(finding: Finding) -> str:
    if finding.per_iteration is None:
        return f"{_still_there(finding)}; {_allowance(finding)}"
    value = finding.total if is_total(finding) else finding.per_iteration
    growth, limit = compared(value, finding.allowance, finding.unit)
    per = "in all" if is_total(finding) else "per iteration"
    about = "about its allowance, " if value <= finding.allowance else "allowance "
    return f"{short_name(finding.signal)} {_plus(growth)} {per} ({about}{limit})"


def _allowance(finding: Finding, limit: str | None = None) -> str:
    if not finding.allowance:
        return "none allowed"
    text = f"allowance {limit or format_quantity(finding.allowance, finding.unit)}"
    if finding.per_iteration is not None and finding.per_iteration <= finding.allowance:
        # the judge counts growth that noise cannot tell from the allowance
        return text + ", which it reaches within the accuracy of the readings"
    return text


def _seen(finding: Finding, verdict: Verdict) -> str:
    text = (
        f"iterations {finding.first}-{finding.last} of the "
        f"{format_count(verdict.iterations)} judged"
    )
    if not verdict.confirmation:
        return text
    return f"{text}, {format_count(verdict.confirmation)} of them to confirm it"


def _rate(signal: SignalReport) -> str:
    assert signal.per_iteration is not None and signal.allowance is not None
    rate, limit = compared(signal.per_iteration, signal.allowance, signal.unit)
    allowed = f"allowance {limit}" if signal.allowance else "none allowed"
    return f"{_plus(rate)} per iteration; {allowed}"


def _plus(text: str) -> str:
    return "+" + text if text[0].isdigit() and text.strip("0 B.,") else text


def _kind(kind: str) -> str:
    if re.fullmatch(r"[\w.<>]+", kind):
        kind = kind.rpartition(".")[2]
    return short_name(kind)


def _signal(verdict: Verdict, name: str) -> SignalReport | None:
    return next((s for s in verdict.signals if s.name == name), None)
