"""Make annotations and a step summary for GitHub Actions.

A test's name or a library's message may contain anything, so all text is escaped: it
must not end a command or a table cell, or be read as HTML or Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_tfleak.reports.leaks import entries_by_leak
from pytest_tfleak.reports.leaks import group_by_leak
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.places import Place
from pytest_tfleak.reports.places import Position
from pytest_tfleak.reports.places import position_in
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import truncate
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

LARGEST_SUMMARY = 1024 * 1024 - 1024  # bytes; GitHub drops a summary above 1 MiB
LONGEST_MESSAGE = 4_000  # characters
LONGEST_CELL = 200
_TITLE = 100
_MOST_TESTS = 20  # of one leak, besides the worst
#: Reasons that pytest itself reports.
_OF_THE_TEST = (Reason.BODY_FAILED, Reason.BODY_SKIPPED, Reason.INTERRUPTED)
_MARKDOWN = re.compile(r"""[&<>"'`|*_~\[\]\\#!:@$]""")


def commands(
    document: Mapping[str, Any],
    places: Mapping[str, Place],
    root: Path,
    unicode: bool = True,
) -> Iterator[str]:
    """Yield an annotation for each line of code that fails tests, worst leak first.

    Findings from the same line share one annotation, and so do all tests that the same
    leak fails. Paths are relative to ``root``.
    """
    leveled = [
        (level, verdict)
        for verdict in _verdicts(document)
        if (level := _level(verdict, _has_failed(verdict, places))) is not None
    ]
    levels = {verdict.nodeid: level for level, verdict in leveled}
    shown = [verdict for _, verdict in leveled]
    # all leaks of a test together, so that those of one line share an annotation
    groups = [leak.verdicts for leak in entries_by_leak(shown)]
    for one in (*groups, *_without_leak(shown)):
        first, place = one[0], places.get(one[0].nodeid)
        at_test = position_in(root, place.file, place.line) if place else None
        for position, findings in _by_position(first.failing, at_test, root):
            # one annotation for all tests explains the leak itself
            part = replace(first, findings=findings, same_as=None)
            parts = [part, *one[1:]]
            line = _command(levels[first.nodeid], position, parts, unicode)
            yield safe(line, unicode)


def step_summary(document: Mapping[str, Any], room: int = LARGEST_SUMMARY) -> str:
    """Return a table of leaks with their tests, and of other tests that are not clean.

    It has at most ``room`` bytes.
    """
    verdicts = _verdicts(document)
    counts = [
        (sum(verdict.status is status for verdict in verdicts), word)
        for status, word in STATUSES.items()
    ]
    found = ", ".join(f"{count} {word}" for count, word in counts if count)
    text = f"\n## tfleak\n\n{found or 'no test was measured'}\n"
    if not document["complete"]:
        text += "\nThe run was cut short: the remaining tests are missing.\n"
    bad = [verdict for verdict in verdicts if verdict.status is not Status.CLEAN]
    groups = [leak.verdicts for leak in group_by_leak(bad)]
    rows = [_row(one) for one in (*groups, *_without_leak(bad))]
    if rows:
        text += "\n| verdict | test | what |\n|---|---|---|\n"
    used = len(text.encode())
    for done, row in enumerate(rows):
        used += len(row.encode())
        if used > room - 100:
            return text + f"\nand {len(rows) - done} more\n"
        text += row
    return text


def add_step_summary(document: Mapping[str, Any], path: Path) -> None:
    """Append the step summary to GitHub's file for it. Raises OSError."""
    used = path.stat().st_size if path.exists() else 0
    text = step_summary(document, LARGEST_SUMMARY - used)
    if used + len(text.encode()) <= LARGEST_SUMMARY:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)


def _verdicts(document: Mapping[str, Any]) -> list[Verdict]:
    schema = {"schema": document["schema"]}
    return [Verdict.from_dict({**schema, **entry}) for entry in document["tests"]]


def _level(verdict: Verdict, failed: bool) -> str | None:
    """Return the annotation's level, None if pytest does not fail (expected leaks)."""
    if verdict.status is Status.CLEAN or verdict.reason in _OF_THE_TEST:
        return None
    if failed:
        return "error"
    return "warning" if verdict.status is Status.INCONCLUSIVE else None


def _has_failed(verdict: Verdict, places: Mapping[str, Place]) -> bool:
    return verdict.nodeid in places and places[verdict.nodeid].failed


def _without_leak(verdicts: Sequence[Verdict]) -> Iterator[Sequence[Verdict]]:
    """Yield each test that is no leak."""
    for verdict in verdicts:
        if verdict.status is not Status.LEAK:
            yield [verdict]


def _by_position(
    findings: Sequence[Finding], at_test: Position | None, root: Path
) -> Iterator[tuple[Position | None, tuple[Finding, ...]]]:
    groups: dict[Position | None, list[Finding]] = {}
    for finding in ordered(findings):
        lines = filter(None, (finding.stored, finding.origin))
        places = (position_in(root, line.file, line.line) for line in lines)
        position = next(filter(None, places), None)
        groups.setdefault(position or at_test, []).append(finding)
    for position, group in groups.items():
        yield position, tuple(group)
    if not groups:
        yield at_test, ()


def _command(
    level: str, position: Position | None, verdicts: Sequence[Verdict], unicode: bool
) -> str:
    """Return one annotation; the message is that of the first test."""
    verdict, *others = verdicts
    title = truncate(safe(headline(verdict)), _TITLE)
    properties = {"title": title}
    if position is not None:
        file, line = position
        properties = {"file": safe(file), "line": str(line or 1), **properties}
    name = shorten(safe(verdict.nodeid), LONGEST_CELL)
    message = f"{name}\n{failure_text(verdict, 100, unicode)}"
    if others:
        names = [shorten(safe(v.nodeid), LONGEST_CELL) for v in others[:_MOST_TESTS]]
        names += [f"and {len(others) - _MOST_TESTS:,} more"] * (
            len(others) > _MOST_TESTS
        )
        also = "\n".join([f"The same leak in {len(others):,} more:", *names])
        message = f"{also}\n\n{message}"
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + " ..."
    written = ",".join(f"{name}={_property(v)}" for name, v in properties.items())
    return f"::{level} {written}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _row(verdicts: Sequence[Verdict]) -> str:
    verdict, rest = verdicts[0], len(verdicts) - 1 - _MOST_TESTS
    word = STATUSES[verdict.status]
    what = headline(verdict).removeprefix(f"{word.upper()}: ")
    names = [_cell(one.nodeid) for one in verdicts[: 1 + _MOST_TESTS]]
    names += [f"and {rest:,} more"] * (rest > 0)
    return f"| {word} | {'<br>'.join(names)} | {_cell(what)} |\n"


def _cell(text: str) -> str:
    text = truncate(safe(text), LONGEST_CELL)
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", text)
