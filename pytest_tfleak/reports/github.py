"""Annotations and a step summary for GitHub Actions.

A test's name or a library's message may hold anything: nothing in it may end a command
or a cell of a table, or be read as HTML or Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.order import ordered
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import truncate
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

LARGEST_SUMMARY = 1024 * 1024 - 1024  # bytes; GitHub drops one of more than 1 MiB
LONGEST_MESSAGE = 4_000  # characters
LONGEST_CELL = 200
_TITLE = 100
#: What the test did itself, and pytest reports.
_OF_THE_TEST = (Reason.BODY_FAILED, Reason.BODY_SKIPPED, Reason.INTERRUPTED)
_MARKDOWN = re.compile(r"""[&<>"'`|*_~\[\]\\#!:@$]""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a test stands, and whether pytest counts it as failed."""

    file: str  # absolute
    line: int | None
    failed: bool


def commands(
    document: Mapping[str, Any],
    places: Mapping[str, Place],
    root: Path,
    unicode: bool = True,
) -> Iterator[str]:
    """Give a command for each line of code that fails a test, the worst test first.

    Findings that one line made are one annotation. Paths are relative to ``root``.
    """
    for verdict in _verdicts(document):
        place = places.get(verdict.nodeid)
        level = _level(verdict, place is not None and place.failed)
        if level is None:
            continue
        at_test = _position(root, place.file, place.line) if place else None
        for position, findings in _by_position(verdict.failing, at_test, root):
            part = replace(verdict, findings=findings)
            yield safe(_command(level, position, part, unicode), unicode)


def step_summary(document: Mapping[str, Any], room: int = LARGEST_SUMMARY) -> str:
    """Return a table of what is not clean, worst first, of at most ``room`` bytes."""
    verdicts = _verdicts(document)
    counts = [
        (sum(verdict.status is status for verdict in verdicts), word)
        for status, word in STATUSES.items()
    ]
    found = ", ".join(f"{count} {word}" for count, word in counts if count)
    text = f"\n## tfleak\n\n{found or 'no test was measured'}\n"
    if not document["complete"]:
        text += "\nThe run was cut short: tests that come after that are missing.\n"
    rows = [_row(v) for v in verdicts if v.status is not Status.CLEAN]
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
    """Append the summary of the step to GitHub's file for it. Raises OSError."""
    used = path.stat().st_size if path.exists() else 0
    text = step_summary(document, LARGEST_SUMMARY - used)
    if used + len(text.encode()) <= LARGEST_SUMMARY:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)


def _verdicts(document: Mapping[str, Any]) -> list[Verdict]:
    schema = {"schema": document["schema"]}
    return [Verdict.from_dict({**schema, **entry}) for entry in document["tests"]]


def _level(verdict: Verdict, failed: bool) -> str | None:
    """Return the command, None for what pytest does not fail, an expected leak say."""
    if verdict.status is Status.CLEAN or verdict.reason in _OF_THE_TEST:
        return None
    if failed:
        return "error"
    return "warning" if verdict.status is Status.INCONCLUSIVE else None


Position = tuple[str, int | None]


def _by_position(
    findings: Sequence[Finding], at_test: Position | None, root: Path
) -> Iterator[tuple[Position | None, tuple[Finding, ...]]]:
    groups: dict[Position | None, list[Finding]] = {}
    for finding in ordered(findings):
        line = finding.origin
        position = _position(root, line.file, line.line) if line else None
        groups.setdefault(position or at_test, []).append(finding)
    for position, group in groups.items():
        yield position, tuple(group)
    if not groups:
        yield at_test, ()


def _position(root: Path, file: str, line: int | None) -> Position | None:
    """Return a place in the repository, None for one outside of it."""
    try:
        path = (root / file).resolve().relative_to(root.resolve())
    except (OSError, ValueError):
        return None
    return path.as_posix(), line


def _command(
    level: str, position: Position | None, verdict: Verdict, unicode: bool
) -> str:
    title = truncate(safe(headline(verdict)), _TITLE)
    properties = {"title": title}
    if position is not None:
        file, line = position
        properties = {"file": safe(file), "line": str(line or 1), **properties}
    name = shorten(safe(verdict.nodeid), LONGEST_CELL)
    message = f"{name}\n{failure_text(verdict, 100, unicode)}"
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + " ..."
    written = ",".join(f"{name}={_property(v)}" for name, v in properties.items())
    return f"::{level} {written}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _row(verdict: Verdict) -> str:
    word = STATUSES[verdict.status]
    what = headline(verdict).removeprefix(f"{word.upper()}: ")
    return f"| {word} | {_cell(verdict.nodeid)} | {_cell(what)} |\n"


def _cell(text: str) -> str:
    text = truncate(safe(text), LONGEST_CELL)
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", text)
