"""Write the message of a verdict: what, how much, why, what to do, how to allow it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_tfleak.known import find_known
from pytest_tfleak.quantities import format_count
from pytest_tfleak.quantities import format_quantity
from pytest_tfleak.quantities import format_seconds
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.held_by import name_holder
from pytest_tfleak.reports.held_object import PER_ITERATION
from pytest_tfleak.reports.leaks import leaks_in
from pytest_tfleak.reports.links import cause_page
from pytest_tfleak.reports.text import CUT
from pytest_tfleak.reports.text import NARROWEST
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import first_that_fits
from pytest_tfleak.reports.text import percent
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import shorten_left
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.text import sparkline
from pytest_tfleak.reports.text import truncate
from pytest_tfleak.reports.text import wrap
from pytest_tfleak.reports.words import REASONS
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.signals import counts_whole_run
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import row_of
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import closeness
from pytest_tfleak.verdict import has_total
from pytest_tfleak.verdict import is_total

_Row = tuple[str, str]  # a label and a text
_BREAK: _Row = ("", "")  # an empty line

_HEADLINE = 80  # columns
SHORTEST_FIGURES = 3  # forms of a figure, before a path is shortened
#: A step of so much of the growth, at least, is told apart from it; one of a count is
#: told in any case, as the readings show each object.
_STEP = 0.1
_LONGEST_LIST = 300
#: The parts of a measurement, and the shortest one shown, in seconds.
_PARTS = {
    "loop": "iterations",
    "confirmation": "confirmation",
    "known_growth": "known growth",
    "diagnosis": "diagnosis",
}
_SHORTEST = 0.05
_LONGEST_CURVE = 40
_MOST_OTHERS = 5
_MOST_LEAKS = 4
_MOST_CHANGES = 3
_MOST_NATIVE = 6  # frames
_LONGEST_CODE = 120
_ALLOW = "to allow it"
_LABEL = 11
_CALLS = {
    "marker": "@pytest.mark.tfleak({})",
    "--tfleak": "@pytest.mark.tfleak({})",
    "fixture": "tfleak.check(..., {})",
    "library": "{}",
}
#: A suggested allowance leaves this much room, so that the next run passes, too.
_MARGIN = 1.25


def headline(verdict: Verdict, width: int = _HEADLINE) -> str:
    """Return the first line of the message, in ``width`` columns or less."""
    word = STATUSES[verdict.status].upper() + ": "
    if verdict.status is Status.LEAK and verdict.failing:
        return word + lead_text(verdict, width - len(word))
    if verdict.status is Status.CLEAN:
        iterations = count_of(verdict.iterations, "iteration")
        texts = [f"nothing grew past its allowance in {iterations}"]
        if verdict.recorded:
            texts = [f"nothing that is not in the baseline in {iterations}"]
        elif is_of_calls(verdict):
            texts = ["nothing is left open past its allowance"]
        elif verdict.known:
            texts = [f"nothing but known growth of TensorFlow in {iterations}"]
    else:
        texts = list(reason_texts(verdict))
    return word + first_that_fits(texts, max(width, _HEADLINE) - len(word))


def failure_text(
    verdict: Verdict, width: int = 80, unicode: bool = True, callers: bool = False
) -> str:
    """Return the whole message of a verdict, in lines of at most ``width`` columns.

    ``callers`` adds the lines that called the line that leaks.
    """
    width = max(width, NARROWEST)
    if verdict.status is Status.LEAK and verdict.failing:
        rows = _leak_rows(verdict, width, unicode, callers)
    else:
        rows = _other_rows(verdict, width, unicode)
    lines = wrap(safe(headline(verdict, width), unicode), width, rest="  ")
    below: list[str] = []
    for label, text in rows:
        below += _paragraph(label, text, width, unicode)
    return "\n".join([*lines, "", *below] if below else lines)


def _leak_rows(
    verdict: Verdict, width: int, unicode: bool, callers: bool
) -> Iterator[_Row]:
    leaks = leaks_in(verdict.failing)
    drawn: set[str] = set()  # signals; several leaks may share one
    for place, found in enumerate(leaks[:_MOST_LEAKS]):
        lead, words = found[0], row_of(found[0].signal, found[0].unit)
        if place:
            yield _BREAK
            yield f"leak {place + 1}", f"{words.grows} ({short_name(lead.signal)})"
        elif lead.per_iteration is not None:
            yield "what grows", f"{words.grows} ({short_name(lead.signal)})"
        if lead.failing is not None:
            yield "only when", failing_calls(lead.failing)
        yield "how much", _figures(lead, verdict)
        if place == 0 and lead.per_iteration is not None:
            yield "seen in", _seen(lead, verdict)
        signal = _signal(verdict, lead.signal)
        is_new = lead.signal not in drawn and lead.per_iteration is not None
        if is_new and signal is not None:
            yield "readings", draw_curve(verdict, signal, _room(width), unicode)
        drawn.add(lead.signal)
        yield from _one_leak(found, verdict, unicode, callers)
        if place == 0 or verdict.same_as is None:
            yield from _why_rows(verdict, found)
    if len(leaks) > 1:
        yield _BREAK
    for lead, *_ in leaks[_MOST_LEAKS:]:
        yield "and", _compact(lead, verdict) + next(located(lead), "")
    yield from _known_rows(verdict)
    yield from _note_rows(verdict)
    yield _ALLOW, how_to_allow(verdict, ordered(verdict.failing))
    yield "iterations", stands_on(verdict)


def _one_leak(
    found: Sequence[Finding], verdict: Verdict, unicode: bool, callers: bool
) -> Iterator[_Row]:
    """Yield what one leak keeps, and where, as rows; ``found`` are its findings."""
    lead, *others = found
    if lead.what:
        still = lead.per_iteration is None
        what = lead.what.removesuffix(PER_ITERATION) if still else what_of(lead)
        yield "what", shorten(safe(what), _LONGEST_LIST)
    yield from _where_rows(lead, unicode, callers)
    # one leak moves many signals, which must not look like as many leaks
    cut = _MOST_OTHERS if len(others) > _MOST_OTHERS + 1 else len(others)
    for other in others[:cut]:
        yield "also", _compact(other, verdict)
    if others[cut:]:
        yield "also", ", ".join(short_name(other.signal) for other in others[cut:])


def _why_rows(verdict: Verdict, found: Sequence[Finding]) -> Iterator[_Row]:
    """Yield why one leak happens and what to do about it as rows."""
    lead = found[0]
    if verdict.same_as is not None:
        yield "same as", same_as(verdict)
    else:
        yield from cause_rows(found)
        yield "read more", cause_page(lead.cause) or ""
    look_for = row_of(lead.signal, lead.unit).look_for
    if look_for and not (lead.advice or lead.line):
        yield "look for", look_for


def _other_rows(verdict: Verdict, width: int, unicode: bool) -> Iterator[_Row]:
    if verdict.status is not Status.CLEAN:
        texts = list(reason_texts(verdict))
        if safe(verdict.detail or "") not in headline(verdict):
            yield "why", texts[0]
    closest = closeness(verdict)
    if closest is not None and closest[1] > 0:
        signal, _ = closest
        yield "closest", f"{_rate(signal)} ({short_name(signal.name)})"
        yield "readings", draw_curve(verdict, signal, _room(width), unicode)
    yield from _known_rows(verdict)
    yield from _note_rows(verdict)
    yield "what to do", remedy_of(verdict)
    if verdict.iterations or verdict.warmup:
        yield "iterations", stands_on(verdict)


def same_as(verdict: Verdict) -> str:
    """Return ``test_a.py::test_x: app/cache.py:12``, where the cause is explained.

    It is "" for a test with a leak of its own.
    """
    test = verdict.same_as
    if test is None:
        return ""
    if test.origin is not None:
        return f"{safe(test.nodeid)}: {place_of(test.origin)}"
    return f"{safe(test.nodeid)}: {holder_of_leak(ordered(verdict.failing)[0])}"


def _known_rows(verdict: Verdict) -> Iterator[_Row]:
    for text in known_growth(verdict):
        yield "known", f"{text}; TensorFlow's own, it does not fail the test"


def _note_rows(verdict: Verdict) -> Iterator[_Row]:
    for note in verdict.notes:
        yield "note", note


def _figures(finding: Finding, verdict: Verdict) -> str:
    """Return the growth of a leading finding in full, with its allowance.

    If several leaks share a signal, its growth, which the readings show, is named, too.
    """
    unit, whole = finding.unit, _whole_of(finding, verdict)
    if finding.per_iteration is None:
        row = row_of(finding.signal, unit)
        count = format_count(finding.total)
        end = "the test" if finding.last == 1 else "the last iteration"
        end = end if finding.failing is None else "a failed call"
        text = f"{count} {row.state} after {end}; {_allowance(finding, whole)}"
        if row.family in ("session", "graph"):
            text += ". One that is made once and shared belongs in a fixture"
        return text
    growth, limit = compared(
        finding.total if is_total(finding) else finding.per_iteration,
        finding.allowance,
        unit,
    )
    in_all, rate = "", ""
    if whole is not finding:
        in_all = f" of {signed(whole.total, unit)}"
        rate = f" of {signed(whole.per_iteration or 0.0, unit)}"
    if is_total(finding):
        return f"{_plus(growth)}{in_all} in all; allowance {limit} in all"
    total = signed(finding.total, unit) + in_all
    text = f"{_plus(growth)}{rate} {each(finding)}, {total} from first to last"
    text += _step_apart(whole, verdict)
    return f"{text}; {_allowance(finding, whole, limit)}"


def _whole_of(finding: Finding, verdict: Verdict) -> Finding:
    """Return the growth of a finding's signal, which its readings show.

    Other leaks have a part in it, and so has what the baseline or ``ignore`` accepts.
    Known growth of TensorFlow was taken away before.
    """
    same = [
        one
        for one in verdict.findings
        if one.signal == finding.signal
        and (not one.accepted or one.baseline is not None or one.ignored is not None)
    ]
    return _whole(same)[0] if len(same) > 1 and finding.failing is None else finding


def _step_apart(finding: Finding, verdict: Verdict) -> str:
    """Return the step that the readings show beside growth, as text, "" without one.

    What went or came once, such as older garbage, is not growth.
    """
    signal = _signal(verdict, finding.signal)
    readings = [] if signal is None else _judged(signal, verdict)
    is_of_them = finding.failing is None and finding.known is None
    if not (readings and is_of_them):
        return ""
    step = readings[-1] - readings[0] - finding.total
    least = _STEP * abs(finding.total)
    if abs(step) < (least if is_memory(finding.signal, finding.unit) else 1):
        return ""
    kind = "fall" if step < 0 else "rise"
    size = format_quantity(abs(step), finding.unit)
    return f", not counting one {kind} of {size}"


def _judged(signal: SignalReport, verdict: Verdict) -> list[float]:
    series = signal.series[verdict.warmup :]
    return [value for value in series if value is not None]


def what_of(finding: Finding) -> str:
    """Return what piles up, in words that fit its figures."""
    return (finding.what or "").replace(PER_ITERATION, f" {each(finding)}")


def each(finding: Finding) -> str:
    """Return what the rate of a finding is a rate per."""
    return "per iteration" if finding.failing is None else "per failed call"


def failing_calls(failing: FailingCalls) -> str:
    """Return when a leak occurs: ``the only call fails: MatMul at app.py:40 in f``."""
    first, last = failing.first, failing.last
    at, end = (
        f"{safe(call.operation)} at {place_of(call.origin)}"
        if call.origin is not None
        else safe(call.operation)
        for call in (first, last)
    )
    of = f"of the {format_count(failing.total)} TensorFlow calls"
    if failing.count == 1:
        inside = f" in {safe(first.origin.function)}" if first.origin else ""
        which = f"call {first.number} {of}" if failing.total > 1 else "the only call"
        return f"{which} fails: {at}{inside}"
    which = f"any of {format_count(failing.count)} {of}"
    if failing.count == failing.total:
        which = f"any of the {format_count(failing.total)} TensorFlow calls"
    if first.origin is not None and first.origin == last.origin:
        return f"{which} fails, from {safe(first.operation)} to {end}"
    return f"{which} fails, from {at} to {end}"


def _seen(finding: Finding, verdict: Verdict) -> str:
    text = (
        f"iterations {finding.first}-{finding.last} of the "
        f"{format_count(verdict.iterations)} judged"
    )
    if not verdict.confirmation:
        return text
    return f"{text}, {format_count(verdict.confirmation)} of them to confirm it"


def _compact(finding: Finding, verdict: Verdict) -> str:
    whole = _whole_of(finding, verdict)
    if finding.per_iteration is None:
        return f"{_still_there(finding)}; {_allowance(finding, whole)}"
    value = finding.total if is_total(finding) else finding.per_iteration
    growth, limit = compared(value, finding.allowance, finding.unit)
    per = "in all" if is_total(finding) else each(finding)
    text = f"{short_name(finding.signal)} {_plus(growth)} {per}"
    if not finding.allowance:
        return f"{text} (none allowed)"
    about = "about its allowance, " if _is_about_allowed(whole) else "allowance "
    return f"{text} ({about}{limit})"


def _allowance(finding: Finding, whole: Finding, limit: str | None = None) -> str:
    if not finding.allowance:
        return "none allowed"
    text = f"allowance {limit or format_quantity(finding.allowance, finding.unit)}"
    if _is_about_allowed(whole):
        return f"{text}, which it may exceed: the readings are not that exact"
    return text


def _is_about_allowed(whole: Finding) -> bool:
    """Return whether the growth of a signal is not above its allowance.

    The judge also counts growth that differs from the allowance only by noise.
    """
    rate = whole.per_iteration
    growth = whole.total if is_total(whole) else rate
    return rate is not None and growth is not None and growth <= whole.allowance


def _rate(signal: SignalReport) -> str:
    growth, over = _growth(signal)
    shown, limit = compared(growth, signal.allowance or 0.0, signal.unit)
    allowed = f"allowance {limit}" if signal.allowance else "none allowed"
    return f"{_plus(shown)} {over}; {allowed}"


def _plus(text: str) -> str:
    return "+" + text if text[0].isdigit() and text.strip("0 B.,") else text


def _where_rows(finding: Finding, unicode: bool, callers: bool) -> Iterator[_Row]:
    """Yield the holder, the line and the C++ functions of a finding as rows.

    ``callers`` adds the lines that called that line.
    """
    if finding.path is not None:
        arrow = " → " if unicode else " -> "
        edges = edges_of(finding.path)
        yield "held by", arrow.join(safe(edge, unicode) for edge in edges)
    if finding.stored is not None and is_stored_apart(finding):
        yield from _line_rows("stored at", finding.stored, unicode)
    if finding.origin is not None:
        yield from _line_rows("made at", finding.origin, unicode)
        for caller in finding.stack if callers else ():
            yield "called at", _called(caller)
    if finding.native:
        functions = [safe(frame) for frame in finding.native[:_MOST_NATIVE]]
        yield "allocated", " < ".join(functions)
    yield "explained", explained_part(finding)


def explained_part(finding: Finding) -> str:
    """Return how much of its growth Python objects explain, if others have a part.

    The sizes of objects are the least that they take: beside the object that holds all
    of the memory, they would contradict it.
    """
    rate, path = finding.per_iteration, finding.path
    is_held = path is not None and not path.is_native
    if finding.python_bytes is None or not rate or (is_held and not finding.native):
        return ""
    if finding.python_bytes >= (rate if finding.native else rate / 2):
        return ""
    explained, growth = compared(finding.python_bytes, rate, "B")
    return f"Python objects explain {explained} of {growth} {each(finding)}"


def _line_rows(label: str, line: Origin, unicode: bool) -> Iterator[_Row]:
    yield label, _called(line)
    if line.text:
        yield "", shorten(safe(line.text, unicode), _LONGEST_CODE)


def is_stored_apart(finding: Finding) -> bool:
    """Return whether another line stores the objects than the one that makes them."""
    stored, made = finding.stored, finding.origin
    if stored is None or made is None:
        return stored is not None
    return (stored.file, stored.line) != (made.file, made.line)


def _called(origin: Origin) -> str:
    return f"{place_of(origin)} in {safe(origin.function)}"


def cause_rows(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Yield the causes, the experiments and the advice of one leak, each with a label.

    The most important finding is first. If the objects that pile up have a cause, the
    memory they use needs no other one.
    """
    lead = findings[0]
    if lead.cause is not None and lead.known is None:
        findings = [f for f in findings if f is lead or not is_memory(f.signal, f.unit)]
    whys = {_why(f): None for f in findings}
    #: Advice that several causes share is shown below the last of them.
    advice = _without_beginnings({f.advice: _why(f) for f in findings if f.advice})
    for place, why in enumerate(sorted(whys, key=lambda why: why == "")):
        if why:
            yield "cause", why
        if place == 0:
            yield from _experiments(findings)
        for text, cause in advice.items():
            if cause == why:
                yield "what to do", safe(text)


def _without_beginnings(advice: dict[str, str]) -> dict[str, str]:
    """Leave out a text with which another one begins, as it says no more."""
    return {
        text: why
        for text, why in advice.items()
        if not any(o is not text and o.startswith(text) for o in advice)
    }


def _why(finding: Finding) -> str:
    return named(finding.known) if finding.known else safe(finding.why or "")


def _experiments(findings: Sequence[Finding]) -> Iterator[_Row]:
    for words in dict.fromkeys(e.name for f in findings for e in f.experiments):
        changes = [
            _change(f, e) for f in findings for e in f.experiments if e.name == words
        ]
        shown = ", ".join(changes[:_MOST_CHANGES])
        yield "experiment", f"tried {safe(words)}: {shown}"


def _change(finding: Finding, experiment: Experiment) -> str:
    before = format_quantity(finding.per_iteration or 0.0, finding.unit)
    after = format_quantity(experiment.per_iteration, finding.unit)
    return f"{short_name(finding.signal)} went from {before} to {after}"


def _paragraph(label: str, text: str, width: int, unicode: bool) -> list[str]:
    """Return a row as lines, with its label in a column if there is room for one."""
    if not text:
        return [""] if label == "" else []
    text = safe(text, unicode)
    if label == "":  # a line of code, which is not wrapped
        return [truncate(" " * (4 if _is_narrow(width) else _LABEL + 4) + text, width)]
    if label == _ALLOW and _is_narrow(width):
        text = text.replace("(", "( ", 1)  # allows a break; it is still valid Python
    if label == "readings":  # already of the right width, with spaces for gaps
        colon = "" if not _is_narrow(width) else ":"
        return [truncate(f"  {label + colon:<{_LABEL}}  {text}", width)]
    if _is_narrow(width):
        return wrap(text, width, f"  {label}: ", "    ")
    return wrap(text, width, f"  {label:<{_LABEL}}  ", " " * (_LABEL + 4))


def _is_narrow(width: int) -> bool:
    return width < 60


def _room(width: int) -> int:
    return width - _LABEL - 4


def how_to_allow(verdict: Verdict, findings: Sequence[Finding]) -> str:
    """Return what accepts all findings, with notes on it, "" if no keyword does."""
    return "; ".join(parts_of_allowing(verdict, findings))


def parts_of_allowing(verdict: Verdict, findings: Sequence[Finding]) -> list[str]:
    """Return the marker or call that accepts all findings, and notes on it."""
    needed: dict[str, float] = {}
    units: dict[str, str] = {}
    for finding in _judged_again(findings, verdict):
        if finding.allow:
            value = max(_needed(finding, verdict), needed.get(finding.allow, 0.0))
            needed[finding.allow], units[finding.allow] = value, finding.unit
    if not needed:
        return []
    keywords = ", ".join(
        f"{safe(name)}={_value(value, units[name])}" for name, value in needed.items()
    )
    parts = [_CALLS[verdict.via].format(keywords), *_spans(list(needed))]
    without = [short_name(f.signal) for f in _whole(findings) if not f.allow]
    if without:
        parts.append(f"nothing allows {', '.join(without)}")
    return parts


def _spans(options: Sequence[str]) -> Iterator[str]:
    """Yield a note on which options are totals, if others are rates."""
    totals = [safe(option) for option in options if counts_whole_run(option)]
    if not totals or len(totals) == len(options):
        return
    *others, last = totals
    are = f"{', '.join(others)} and {last} count" if others else f"{last} counts"
    yield f"{are} over the whole run, the rest per iteration"


def _judged_again(findings: Sequence[Finding], verdict: Verdict) -> list[Finding]:
    """Return the growth of each signal as the next run judges it.

    An allowance limits a signal and not a leak. So it has to cover what the baseline
    or ``ignore`` accepts, and other leaks, too.
    """
    judged = []
    for finding in _whole(findings):
        rate, whole = finding.per_iteration, _whole_of(finding, verdict)
        if rate is not None:
            # a verdict may be cut down to the findings of one leak
            signal = _signal(verdict, finding.signal) if not finding.failing else None
            others = whole.per_iteration, signal.per_iteration if signal else None
            rate = max(rate, *(other or 0.0 for other in others))
        total = max(finding.total, whole.total)
        judged.append(replace(finding, per_iteration=rate, total=total))
    return judged


def _whole(findings: Sequence[Finding]) -> list[Finding]:
    """Return one finding for each signal, with the sum over several leaks."""
    by_signal: dict[str, Finding] = {}
    for finding in findings:
        before = by_signal.get(finding.signal)
        if before is None:
            by_signal[finding.signal] = finding
        else:
            rates = (before.per_iteration, finding.per_iteration)
            by_signal[finding.signal] = replace(
                before,
                per_iteration=None if None in rates else sum(r or 0.0 for r in rates),
                total=before.total + finding.total,
            )
    return list(by_signal.values())


def _needed(finding: Finding, verdict: Verdict) -> float:
    """Return the allowance that would have accepted a finding."""
    growth, rows = finding.per_iteration, verdict.warmup + finding.last
    is_of_run = counts_whole_run(finding.allow)
    if growth is None:
        return finding.total if is_of_run else finding.total / max(rows, 1)
    if row_of(finding.signal, finding.unit).allows == "total":
        # the warm-up counts, too, and the next run may leave one in each iteration
        rate = math.ceil(growth) if 0.5 <= growth < 10 else growth * _MARGIN
        return math.ceil(max(rate * rows, finding.total))
    if is_of_run:
        growth = float(finding.total)
    if finding.unit == "B" or not 0.5 <= growth < 10:
        return growth * _MARGIN
    # exact rates need no margin
    return growth if growth == int(growth) else math.ceil(growth * _MARGIN)


def _value(needed: float, unit: str) -> str:
    if unit != "B":
        return f"{_rounded_up(needed):.10g}"
    size, name = needed / 1024, "KiB"
    for larger in ("MiB", "GiB"):
        if _rounded_up(size) >= 1024:
            size, name = size / 1024, larger
    return f'"{max(_rounded_up(size), 1.0):.10g} {name}"'


def _rounded_up(value: float) -> float:
    """Return a value rounded up to two digits; small whole numbers stay exact."""
    if value <= 0 or (value < 1000 and value == int(value)):
        return value
    step = 10.0 ** max(math.floor(math.log10(value)) - 1, -300)  # or the step is 0
    return math.ceil(value / step - 1e-9) * step


def lead_figures(verdict: Verdict) -> Iterator[str]:
    """Yield the most important finding in one line, in ever shorter forms."""
    lead = ordered(verdict.failing)[0]
    if lead.per_iteration is None:
        for where in located(lead):
            yield _still_there(lead) + where
        yield _still_there(lead)
        words = row_of(lead.signal, lead.unit)
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
        figure = f"{short_name(lead.signal)} {growth} {each(lead)}"
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


def lead_text(verdict: Verdict, width: int) -> str:
    """Return the most important finding in ``width`` columns, with its line of code.

    The path of the file is shortened from the left; what else is known is left out
    before that.
    """
    texts = list(lead_figures(verdict))
    lead = ordered(verdict.failing)[0]
    if lead.line is None:
        return first_that_fits(texts, width)
    place = place_of(lead.line)
    fitting = (text for text in texts if place in text and columns(text) <= width)
    figures = list(figures_alone(lead, verdict))[-SHORTEST_FIGURES:]
    return next(fitting, None) or _with_short_place(figures, place, width)


def _with_short_place(figures: Sequence[str], place: str, width: int) -> str:
    """Return a figure, or less, with a place that is shortened from the left."""
    name = re.split(r"[/\\]", place)[-1]
    for figure in (*figures, ""):
        start = f"{figure} at " if figure else "at "
        if columns(start) + columns(name) + len(CUT) + 1 <= width:
            return start + shorten_left(place, width - columns(start))
    return shorten_left(place, width)


def figures_alone(finding: Finding, verdict: Verdict) -> Iterator[str]:
    """Yield the growth of one finding, without holder and line, in ever shorter forms.

    ``verdict`` is that of its test.
    """
    alone = replace(finding, accepted=False, path=None, origin=None, stored=None)
    return lead_figures(replace(verdict, findings=(alone,)))


def _kind(kind: str) -> str:
    if re.fullmatch(r"[\w.<>]+", kind):
        kind = kind.rpartition(".")[2]
    return short_name(kind)


def _still_there(finding: Finding) -> str:
    words = row_of(finding.signal, finding.unit)
    one = finding.total == 1
    noun, verb = (words.one, "is") if one else (words.many, "are")
    end = "the test" if finding.failing is None else "a failed call"
    return (
        f"{format_count(finding.total)} {safe(noun)} {verb} still {words.state} after "
        f"{end} ({short_name(finding.signal)})"
    )


def located(finding: Finding) -> Iterator[str]:
    """Yield where a finding comes from, in ever shorter forms; nothing if unknown."""
    held = safe(edges_of(finding.path)[0]) if finding.path is not None else ""
    where = f" at {place_of(finding.line)}" if finding.line is not None else ""
    if held:
        yield f"{where}, held by {held}"
        yield f"{where}, held by {held.partition(' (')[0]}"
    if where:
        yield where


def where_to_look(finding: Finding) -> str:
    """Return the line to look at first: ``stored at cache.py:12``, "" if unknown."""
    if finding.line is None:
        return ""
    how = "stored" if is_stored_apart(finding) else "made"
    return f"{how} at {place_of(finding.line)}"


def place_of_leak(finding: Finding) -> str:
    """Return what a leak has in common in all its tests: holder and line, if known."""
    holder = holder_of_leak(finding)
    parts = [f"held by {holder}"] if holder else []
    return ", ".join(filter(None, [*parts, where_to_look(finding)]))


def holder_of_leak(finding: Finding) -> str:
    """Return what holds the objects of a leak, without their number, "" if unknown."""
    if finding.path is None:
        return ""
    return safe(name_holder(finding.path) or edges_of(finding.path)[0])


def reason_texts(verdict: Verdict) -> Iterator[str]:
    """Yield why there is no verdict, in ever shorter forms."""
    why = REASONS[verdict.reason].why if verdict.reason else "no reason given"
    detail = safe(verdict.detail or "").strip()
    if detail and why.casefold() not in detail.casefold():
        yield f"{why}: {detail}"
    if detail:
        yield detail
    yield why


def closest_text(verdict: Verdict) -> str:
    """Return which signal of a clean test came closest to its allowance."""
    if is_of_calls(verdict):
        return "nothing is left open past its allowance"
    closest = closeness(verdict)
    if closest is None:
        return "no signal decides"
    signal, share = closest
    if not share:
        return "nothing grew"
    return f"closest: {short_name(signal.name)} {of_allowance(signal)}"


def remedy_of(verdict: Verdict) -> str:
    """Return what helps to get a verdict, "" if nothing does."""
    if verdict.reason is None:
        return ""
    if verdict.reason is Reason.OUT_OF_TIME and verdict.failing:
        # the findings would be leaks if there had been time for the experiments
        return "allow more time with diagnose_time, or make the body faster"
    return REASONS[verdict.reason].remedy


def of_allowance(signal: SignalReport, is_long: bool = False) -> str:
    """Return growth relative to the allowance: ``1.2 KiB of 6 KiB (20 %)``.

    ``is_long`` adds "per iteration".
    """
    growth, over = _growth(signal)
    shown, limit = compared(growth, signal.allowance or 0.0, signal.unit)
    per = f" {over}" if is_long or has_total(signal) else ""
    if not signal.allowance:
        return f"{shown}{per}, none allowed"
    share = max(growth, 0.0) / signal.allowance
    return f"{shown} of {limit}{per} ({percent(share)})"


def _growth(signal: SignalReport) -> tuple[float, str]:
    """Return the growth that a signal's allowance limits, and its unit of time."""
    if has_total(signal):
        return signal.total or 0, "in all"
    return signal.per_iteration or 0.0, "per iteration"


def is_of_calls(verdict: Verdict) -> bool:
    """Return whether a verdict is on what calls left, and not on growth."""
    return verdict.depth == "leftovers"


def stands_on(verdict: Verdict) -> str:
    """Return in one line how much was run for a verdict."""
    if is_of_calls(verdict):
        parts = [count_of(verdict.iterations, "call")]
    else:
        parts = [f"{format_count(verdict.iterations - verdict.confirmation)} measured"]
    if verdict.warmup:
        parts.insert(0, f"{format_count(verdict.warmup)} warm-up")
    if verdict.confirmation:
        parts.append(f"{format_count(verdict.confirmation)} confirmation")
    return (
        f"{' + '.join(parts)} in {format_seconds(verdict.seconds)} "
        f"(body: {format_seconds(verdict.body_seconds)})"
    )


def took_by_part(verdicts: Iterable[Verdict]) -> str:
    """Return what the parts of measurements took, "" if it was one part or is unknown.

    It reads ``iterations 1.2 s, confirmation 0.9 s, diagnosis 4 s``.
    """
    took = dict.fromkeys(_PARTS, 0.0)
    for verdict in verdicts:
        for part in took:
            took[part] += getattr(verdict.seconds_by_part, part)
    shown = {part: seconds for part, seconds in took.items() if seconds >= _SHORTEST}
    if len(shown) < 2:
        return ""
    return ", ".join(f"{_PARTS[p]} {format_seconds(s)}" for p, s in shown.items())


def draw_curve(
    verdict: Verdict, signal: SignalReport, width: int, unicode: bool
) -> str:
    """Return the judged readings of a signal as first, sparkline and last."""
    readings = _judged(signal, verdict)
    if not readings:
        return ""
    first, last = compared(readings[0], readings[-1], signal.unit)
    room = min(width - len(first) - len(last) - 2, _LONGEST_CURVE)
    if room < 5:
        return f"{first} ... {last}"
    series = signal.series[verdict.warmup :]
    return f"{first} {sparkline(series, room, unicode)} {last}"


def known_growth(verdict: Verdict) -> Iterator[str]:
    """Yield the known growth that did not fail the test, once for each cause."""
    for name in dict.fromkeys(finding.known for finding in verdict.known):
        findings = [f for f in verdict.known if f.known == name]
        lead = next((f for f in findings if f.unit == "B"), findings[0])
        growth = format_quantity(lead.per_iteration or 0.0, lead.unit)
        what = "" if lead.unit == "B" else f" {short_name(lead.signal)}"
        yield f"{named(name)} {growth}{what} per iteration"


def named(name: str | None) -> str:
    """Return the title of known growth, with its issue."""
    entry = find_known(name or "")
    if entry is None:  # a newer version of this package wrote the report
        return safe(name or "known growth")
    return f"{entry.title} ({entry.issue})"


def place_of(origin: Origin) -> str:
    """Return ``app.py:12``, relative to the working directory if the file is below."""
    name = Path(origin.file)
    # a test may have deleted the working directory
    with suppress(OSError, ValueError):
        name = name.relative_to(Path.cwd())
    return f"{safe(str(name))}:{origin.line}"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 iteration``, ``50 iterations``."""
    return f"{format_count(number)} {noun}{'' if number == 1 else 's'}"


def _signal(verdict: Verdict, name: str) -> SignalReport | None:
    return next((s for s in verdict.signals if s.name == name), None)
