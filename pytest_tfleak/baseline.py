"""Findings that a team has accepted for now: a file that people read and git merges.

A finding is a line, every line ends with a comma and no two lines depend on each other,
so that a merge that keeps both sides gives a file that can be read.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from math import floor
from math import log10
from pathlib import Path
from typing import Any

from pytest_tfleak.changes import MEMORY
from pytest_tfleak.changes import Entry
from pytest_tfleak.changes import change_of
from pytest_tfleak.changes import change_text
from pytest_tfleak.changes import entry_of
from pytest_tfleak.changes import find_same
from pytest_tfleak.changes import growth_text
from pytest_tfleak.changes import largest
from pytest_tfleak.changes import plain
from pytest_tfleak.documents import DocumentError
from pytest_tfleak.documents import number_in
from pytest_tfleak.documents import optional_text_in
from pytest_tfleak.documents import read_document
from pytest_tfleak.documents import text_in
from pytest_tfleak.reports.baseline import summary_lines
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

__all__ = [
    "Baseline",
    "BaselineError",
    "baseline_text",
    "read_baseline",
    "summary_lines",
]

SCHEMA = 1
#: Growth that was just under its allowance when the baseline was recorded may be just
#: over it today: beside other findings of the same test it is new from here on.
BORDERLINE = 1.25
_END = "each line above ends with a comma, so that git can merge this file"


class BaselineError(ValueError):
    """The file is no baseline; the text is one line that says why."""


def read_baseline(path: Path) -> Baseline:
    """Return the baseline in a file; without the file, one that accepts everything.

    Raises BaselineError.
    """
    try:
        data = read_document(path, what="a baseline of pytest-tfleak", schema=SCHEMA)
    except FileNotFoundError:
        return Baseline(str(path), recorded=True)
    except DocumentError as error:
        raise BaselineError(str(error)) from None
    lines = data.get("findings")
    if not isinstance(lines, list):
        raise BaselineError(f'{path}: is not a baseline: it has no list of "findings"')
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        try:
            entries += _entries(line)
        except DocumentError as error:
            raise BaselineError(f"{path}: finding {number}: {error}") from None
    return Baseline(str(path), entries)


def _entries(line: object) -> Iterator[Entry]:
    if not isinstance(line, dict):
        raise DocumentError("it must be an object")
    if "end" in line:
        return  # a merge may leave several
    per_iteration, left = number_in(line, "per_iteration"), number_in(line, "left")
    if per_iteration is None and left is None:
        raise DocumentError('it needs a number, "per_iteration" or "left"')
    yield Entry(
        nodeid=text_in(line, "nodeid"),
        signal=text_in(line, "signal"),
        unit=text_in(line, "unit"),
        per_iteration=per_iteration,
        total=left or 0.0,
        kind=optional_text_in(line, "kind"),
        fingerprint=optional_text_in(line, "fingerprint"),
    )


def baseline_text(verdicts: Iterable[Verdict], earlier: Baseline | None = None) -> str:
    """Return the file that accepts what these verdicts found.

    With the ``earlier`` baseline of the same file, tests that were not measured keep
    their entries, and figures that are not clearly different stay as they are.
    """
    verdicts = tuple(verdicts)
    found = largest(
        entry_of(verdict.nodeid, finding)
        for verdict in verdicts
        for finding in verdict.findings
        if not finding.accepted or finding.baseline is not None
    )
    if earlier is not None:
        found = [earlier.steady(entry) for entry in found]
        gone = earlier.gone(verdicts)
        found += [entry for entry in earlier.missed(found) if entry not in gone]
    lines = [json.dumps(_line(entry)) + ",\n" for entry in largest(found)]
    end = json.dumps({"end": _END})
    return f'{{\n"schema": {SCHEMA},\n"findings": [\n{"".join(lines)}{end}\n]\n}}\n'


def _line(entry: Entry) -> dict[str, object]:
    line: dict[str, object] = {"nodeid": entry.nodeid, "signal": entry.signal}
    if entry.per_iteration is None:
        line["left"] = _rounded(entry.total, "")
    else:
        line["per_iteration"] = _rounded(entry.per_iteration, entry.unit)
    line["unit"] = entry.unit
    for name in ("kind", "fingerprint"):
        if getattr(entry, name) is not None:
            line[name] = getattr(entry, name)
    return line


def _rounded(value: float, unit: str) -> float:
    """Return memory with two digits and counts with two places: the rest is noise."""
    places = 2
    if unit in MEMORY and value:
        places = 1 - floor(log10(abs(value)))
    rounded = round(value, places)
    return int(rounded) if rounded == int(rounded) else rounded


class Baseline:
    """The findings that were recorded, and what has become of them.

    ``recorded`` says that there was no file: this run writes it, and fails for nothing
    that it writes.
    """

    def __init__(
        self, file: str, entries: Iterable[Entry] = (), *, recorded: bool = False
    ) -> None:
        self.file = file
        self.name = Path(file).name
        self.recorded = recorded
        self.entries = tuple(largest(entries))
        self._by_test: dict[str, list[Entry]] = {}
        for entry in self.entries:
            self._by_test.setdefault(entry.nodeid, []).append(entry)

    def apply(self, verdict: Verdict) -> Verdict:
        """Return the verdict with what was recorded accepted, CLEAN if that is all."""
        if not verdict.failing:
            return verdict
        findings = tuple(self._marked(verdict, finding) for finding in verdict.findings)
        marked = replace(verdict, findings=findings)
        marked = replace(marked, notes=(*verdict.notes, *self._notes(marked)))
        if verdict.status is Status.LEAK and not marked.failing:
            return replace(marked, status=Status.CLEAN, reason=None, detail=None)
        return marked

    def _marked(self, verdict: Verdict, finding: Finding) -> Finding:
        if finding.accepted:
            return finding
        word = self._word(verdict, finding)
        return replace(finding, baseline=word, accepted=word == "accepted")

    def _word(self, verdict: Verdict, finding: Finding) -> str:
        if self.recorded:
            return "accepted"
        now = entry_of(verdict.nodeid, finding)
        before = self.find(now)
        if before is not None:
            return "worse" if change_of(before, now) == "worse" else "accepted"
        return "accepted" if self._is_borderline(now) else "new"

    def _is_borderline(self, now: Entry) -> bool:
        rate, of_test = now.per_iteration, self._by_test.get(now.nodeid, ())
        return (
            now.unit in MEMORY
            and rate is not None
            and rate <= BORDERLINE * now.allowance
            and bool(of_test)
            and all(entry.signal != now.signal for entry in of_test)
        )

    def _notes(self, verdict: Verdict) -> Iterator[str]:
        entries = [
            (finding.baseline, entry_of(verdict.nodeid, finding))
            for finding in verdict.findings
        ]
        texts = [growth_text(now) for word, now in entries if word == "accepted"]
        if texts:
            start = "Recorded in" if self.recorded else "Accepted by"
            yield f"{start} the baseline {self.name}: {', '.join(texts)}."
        pairs = [(self.find(now), now) for word, now in entries if word == "worse"]
        changes = [change_text(before, now) for before, now in pairs if before]
        if changes:
            yield f"Worse than in the baseline {self.name}: {', '.join(changes)}."

    def find(self, entry: Entry) -> Entry | None:
        """Return what was recorded of a leak, None where nothing was."""
        return find_same(entry, self._by_test.get(entry.nodeid, ()))

    def steady(self, entry: Entry) -> Entry:
        """Return an entry with the figures that were recorded, where noise is all."""
        before = self.find(entry)
        if before is None or change_of(before, entry) != "same":
            return entry
        return replace(entry, per_iteration=before.per_iteration, total=before.total)

    def missed(self, found: Iterable[Entry]) -> list[Entry]:
        """Return the entries that are none of those that were found."""
        met = {id(self.find(entry)) for entry in found}
        return [entry for entry in self.entries if id(entry) not in met]

    def gone(self, verdicts: Iterable[Verdict]) -> list[Entry]:
        """Return the entries of tests that were measured and leak so no more."""
        measured: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            measured.setdefault(plain(verdict.nodeid), []).append(verdict)
        found = [
            entry_of(verdict.nodeid, finding)
            for several in measured.values()
            for verdict in several
            for finding in verdict.findings
        ]
        return [
            entry
            for entry in self.missed(found)
            if entry.nodeid in measured
            and _tells_all(measured[entry.nodeid])
            and not _is_hidden(entry, measured[entry.nodeid])
        ]

    def summary(self, verdicts: Iterable[Verdict]) -> dict[str, Any]:
        """Return what is accepted, worse, new and gone, as builtins for a report."""
        verdicts = tuple(verdicts)
        summary: dict[str, Any] = {
            "schema": SCHEMA,
            "file": self.file,
            "recorded": self.recorded,
            "accepted": [],
            "worse": [],
            "new": [],
        }
        for verdict in sorted(verdicts, key=lambda verdict: verdict.nodeid):
            for finding in verdict.findings:
                if finding.baseline in ("accepted", "worse", "new"):
                    now = entry_of(verdict.nodeid, finding)
                    row = _row(now, self.find(now))
                    summary[finding.baseline].append(row)
        summary["gone"] = [_row(entry, entry) for entry in self.gone(verdicts)]
        return summary


def _tells_all(verdicts: Sequence[Verdict]) -> bool:
    """Say whether the test was measured to its end: a check that fails ends it."""
    return all(
        verdict.status is Status.CLEAN
        or (verdict.status is Status.LEAK and verdict.door != "fixture")
        for verdict in verdicts
    )


def _is_hidden(entry: Entry, verdicts: Sequence[Verdict]) -> bool:
    """Say whether a leak may still be there, below the allowance or not read."""
    if entry.per_iteration is None:
        return False
    for verdict in verdicts:
        if any(finding.signal == entry.signal for finding in verdict.findings):
            continue
        for signal in verdict.signals:
            if signal.name == entry.signal:
                if signal.status != "measured" or signal.per_iteration is None:
                    return True
                now = replace(
                    entry,
                    per_iteration=signal.per_iteration,
                    allowance=signal.allowance or 0.0,
                )
                if change_of(entry, now) != "better":
                    return True
    return False


def _row(entry: Entry, recorded: Entry | None) -> dict[str, Any]:
    names = ("nodeid", "signal", "unit", "kind", "fingerprint")
    row: dict[str, Any] = {name: getattr(entry, name) for name in names}
    row["recorded"] = None if recorded is None else _figures(recorded)
    return row | _figures(entry)


def _figures(entry: Entry) -> dict[str, float | None]:
    rate = entry.per_iteration
    return {"per_iteration": rate, "left": entry.total if rate is None else None}
