"""What a comparison with a baseline came to, in lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_tfleak.changes import Entry
from pytest_tfleak.changes import change_text
from pytest_tfleak.changes import growth_text
from pytest_tfleak.changes import name_of
from pytest_tfleak.changes import tests_and_findings
from pytest_tfleak.reports.text import NARROWEST
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import wrap

MOST_TESTS = 20  # of what needs no action; -v shows all
Pair = tuple[Entry, "Entry | None"]  # now, and as recorded
_GROUPS = ("worse", "new", "gone", "accepted")


def summary_lines(
    summary: Mapping[str, Any],
    verbosity: int = 0,
    width: int = 80,
    unicode: bool = True,
) -> list[str]:
    """Return the lines below the verdicts: a count, then what differs, then the rest.

    In quiet mode the count alone, and nothing where all is as it was recorded.
    """
    width = max(width, NARROWEST)
    file = safe(Path(summary["file"]).name, unicode)
    groups = {group: _pairs(summary[group]) for group in _GROUPS}
    differs = any(groups[group] for group in ("worse", "new", "gone"))
    if verbosity < 0 and not differs and not summary["recorded"]:
        return []
    lines = wrap(f"baseline {file}: {_counts(summary, groups)}", width, rest="  ")
    if verbosity < 0:
        return lines
    for group, pairs in groups.items():
        tests = _by_test(group, pairs)
        most = MOST_TESTS
        if verbosity > 0 or group in ("worse", "new"):
            most = len(tests)
        for nodeid, text in tests[:most]:
            lines += _row(group, name_of(nodeid, unicode), safe(text, unicode), width)
        if len(tests) > most:
            lines.append(f"  {group:<8}  ... in {len(tests) - most:,} more tests (-v)")
    if groups["gone"]:
        advice = f"what is gone leaves the file with --tfleak-save-baseline={file}"
        lines += wrap(advice, width, "  ", "  ")
    return lines


def _by_test(group: str, pairs: list[Pair]) -> list[tuple[str, str]]:
    texts: dict[str, list[str]] = {}
    for now, before in pairs:
        if group == "worse" and before is not None:
            text = change_text(before, now)
        else:
            text = growth_text(now)
        texts.setdefault(now.nodeid, []).append(text)
    return [(nodeid, ", ".join(several)) for nodeid, several in texts.items()]


def _row(group: str, name: str, text: str, width: int) -> list[str]:
    start = f"  {group:<8}  "
    line = f"{start}{name}  {text}"
    if columns(line) <= width:
        return [line]
    below = " " * columns(start)
    return [start + name, *wrap(text, width, below + "  ", below + "  ")]


def _pairs(rows: list[dict[str, Any]]) -> list[Pair]:
    return [(_entry(row, row), _recorded(row)) for row in rows]


def _recorded(row: Mapping[str, Any]) -> Entry | None:
    return None if row["recorded"] is None else _entry(row, row["recorded"])


def _entry(row: Mapping[str, Any], figures: Mapping[str, Any]) -> Entry:
    return Entry(
        nodeid=row["nodeid"],
        signal=row["signal"],
        unit=row["unit"],
        per_iteration=figures["per_iteration"],
        total=figures["left"] or 0.0,
        kind=row["kind"],
    )


def _counts(summary: Mapping[str, Any], groups: Mapping[str, list[Pair]]) -> str:
    accepted = [now for now, _ in groups["accepted"]]
    if summary["recorded"]:
        return f"there was none; {tests_and_findings(accepted)} recorded and accepted"
    return ", ".join(_counted(groups, tests_and_findings(accepted)))


def _counted(groups: Mapping[str, list[Pair]], accepted: str) -> Iterator[str]:
    yield f"{accepted} accepted" if groups["accepted"] else "nothing accepted"
    for group in ("worse", "new", "gone"):
        if groups[group]:
            yield f"{len(groups[group]):,} {group}"
