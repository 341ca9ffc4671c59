"""Read and write the baseline: a file of findings that a team accepts for now.

Each finding is one line that ends with a comma and does not depend on others. So a git
merge that keeps both sides still gives a valid file.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from math import floor
from math import log10
from pathlib import Path
from typing import Any

from pytest_tfleak.compare.documents import DocumentError
from pytest_tfleak.compare.documents import number_in
from pytest_tfleak.compare.documents import optional_text_in
from pytest_tfleak.compare.documents import read_document
from pytest_tfleak.compare.documents import text_in
from pytest_tfleak.compare.same_leak import Entry
from pytest_tfleak.compare.same_leak import change_of
from pytest_tfleak.compare.same_leak import change_text
from pytest_tfleak.compare.same_leak import entry_of
from pytest_tfleak.compare.same_leak import find_same
from pytest_tfleak.compare.same_leak import growth_text
from pytest_tfleak.compare.same_leak import largest
from pytest_tfleak.compare.same_leak import name_of
from pytest_tfleak.compare.same_leak import tests_and_findings
from pytest_tfleak.reports.document import without_surrogates
from pytest_tfleak.reports.text import NARROWEST
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import wrap
from pytest_tfleak.signals import is_size
from pytest_tfleak.verdict import FINGERPRINT_VERSION
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import version_of

__all__ = [
    "Baseline",
    "BaselineError",
    "baseline_text",
    "how_to_save",
    "read_baseline",
    "summary_lines",
]

SCHEMA = 1
#: Growth just below its allowance when the baseline was recorded may be just above it
#: now. If the test has other findings in the baseline, such growth counts as new only
#: from this multiple of the allowance on.
BORDERLINE = 1.25
_END = "each line above ends with a comma, so that git can merge this file"


class BaselineError(ValueError):
    """The file is no baseline; the message says why in one line."""


def read_baseline(path: Path) -> Baseline:
    """Return the baseline in a file, or one that accepts everything if there is none.

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
        return  # the last line, of which a merge may leave several
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
    """Return the text of a baseline that accepts all findings of these verdicts.

    Given the ``earlier`` baseline of the same file, tests that were not measured keep
    their entries, and figures that differ only by noise stay as they are.
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
        line["left"] = _rounded(entry.total)
    else:
        line["per_iteration"] = _rounded(
            entry.per_iteration, is_size(entry.signal, entry.unit)
        )
    line["unit"] = entry.unit
    for name in ("kind", "fingerprint"):
        if getattr(entry, name) is not None:
            line[name] = getattr(entry, name)
    return line


def _rounded(value: float, is_memory: bool = False) -> float:
    """Round sizes to two digits and counts to two decimal places: the rest is noise."""
    places = 2
    if is_memory and value:
        places = 1 - floor(log10(abs(value)))
    rounded = round(value, places)
    return int(rounded) if rounded == int(rounded) else rounded


class Baseline:
    """The recorded findings, and how those of this run compare with them.

    ``recorded`` means that there was no file: this run writes it and accepts all that
    it writes.
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

    def accept(
        self, nodeid: str, findings: Sequence[Finding]
    ) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
        """Accept the recorded findings of a test; return all findings, and notes.

        Findings that are already accepted stay as they are.
        """
        if all(finding.accepted for finding in findings):
            return tuple(findings), ()
        marked = tuple(self._marked(nodeid, finding) for finding in findings)
        return marked, tuple(self._notes(nodeid, marked))

    def _marked(self, nodeid: str, finding: Finding) -> Finding:
        if finding.accepted:
            return finding
        word = self._word(entry_of(nodeid, finding))
        return replace(finding, baseline=word, accepted=word == "accepted")

    def _word(self, now: Entry) -> str:
        if self.recorded:
            return "accepted"
        before = self.find(now)
        if before is not None:
            return "worse" if change_of(before, now) == "worse" else "accepted"
        return "accepted" if self._is_borderline(now) else "new"

    def _is_borderline(self, now: Entry) -> bool:
        rate, of_test = now.per_iteration, self._by_test.get(now.nodeid, ())
        return (
            is_size(now.signal, now.unit)
            and rate is not None
            and rate <= BORDERLINE * now.allowance
            and bool(of_test)
            and all(entry.signal != now.signal for entry in of_test)
        )

    def _notes(self, nodeid: str, findings: Sequence[Finding]) -> Iterator[str]:
        entries = [
            (finding.baseline, entry_of(nodeid, finding)) for finding in findings
        ]
        texts = [growth_text(now) for word, now in entries if word == "accepted"]
        if texts:
            start = "Recorded in" if self.recorded else "Accepted by"
            yield f"{start} the baseline {self.name}: {', '.join(texts)}."
        pairs = [(self.find(now), now) for word, now in entries if word == "worse"]
        changes = [change_text(before, now) for before, now in pairs if before]
        if changes:
            yield f"Worse than in the baseline {self.name}: {', '.join(changes)}."

    @property
    def is_outdated(self) -> bool:
        """Return whether some fingerprints have another version."""
        made = (entry.fingerprint for entry in self.entries)
        return any(f is not None and version_of(f) != FINGERPRINT_VERSION for f in made)

    def find(self, entry: Entry) -> Entry | None:
        """Return the recorded entry of a leak, None if there is none."""
        return find_same(entry, self._by_test.get(entry.nodeid, ()))

    def steady(self, entry: Entry) -> Entry:
        """Return an entry with the recorded figures if it differs only by noise."""
        before = self.find(entry)
        if before is None or change_of(before, entry) != "same":
            return entry
        return replace(entry, per_iteration=before.per_iteration, total=before.total)

    def missed(self, found: Iterable[Entry]) -> list[Entry]:
        """Return the recorded entries that are not among those found."""
        met = {id(self.find(entry)) for entry in found}
        return [entry for entry in self.entries if id(entry) not in met]

    def gone(self, verdicts: Iterable[Verdict]) -> list[Entry]:
        """Return the entries whose tests were measured and no longer have that leak."""
        measured: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            measured.setdefault(without_surrogates(verdict.nodeid), []).append(verdict)
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
            and _is_whole(measured[entry.nodeid])
            and not _is_hidden(entry, measured[entry.nodeid])
        ]

    def summary(self, verdicts: Iterable[Verdict]) -> dict[str, Any]:
        """Return what is accepted, worse, new and gone, as builtins for a report."""
        verdicts = tuple(verdicts)
        summary: dict[str, Any] = {
            "schema": SCHEMA,
            "file": self.file,
            "recorded": self.recorded,
            "outdated": self.is_outdated,
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


def _is_whole(verdicts: Sequence[Verdict]) -> bool:
    """Return whether the whole test was measured; a check that fails would end it."""
    return all(
        verdict.status is Status.CLEAN
        or (verdict.status is Status.LEAK and verdict.via != "fixture")
        for verdict in verdicts
    )


def _is_hidden(entry: Entry, verdicts: Sequence[Verdict]) -> bool:
    """Return whether a leak may still exist, but below the allowance or not read."""
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


MOST_TESTS = 20  # tests shown of a group that needs no action; -v shows all
Pair = tuple[Entry, "Entry | None"]  # the entry now, and as recorded
_GROUPS = ("worse", "new", "gone", "accepted")


def summary_lines(
    summary: Mapping[str, Any],
    verbosity: int = 0,
    width: int = 80,
    unicode: bool = True,
) -> list[str]:
    """Return the lines below the verdicts: a count, then what differs, then the rest.

    In quiet mode, return only the count, and nothing if all is as recorded.
    """
    width = max(width, NARROWEST)
    file = safe(Path(summary["file"]).name, unicode)
    groups = {group: _pairs(summary[group]) for group in _GROUPS}
    differs = any(groups[group] for group in ("worse", "new", "gone"))
    needs_note = summary["recorded"] or summary["outdated"]
    if verbosity < 0 and not differs and not needs_note:
        return []
    save = safe(how_to_save(_from_here(summary["file"])), unicode)
    lines = wrap(f"baseline {file}: {_counts(summary, groups)}", width, rest="  ")
    if summary["outdated"]:
        advice = (
            "its fingerprints have another version, so leaks are compared only by "
            f"type; to renew them, {save}"
        )
        lines += wrap(advice, width, "  ", "  ")
    if verbosity < 0:
        return lines
    for group, pairs in groups.items():
        tests = _by_test(group, pairs)
        most = MOST_TESTS
        if verbosity > 0 or group in ("worse", "new"):
            most = len(tests)
        for nodeid, text in tests[:most]:
            lines += _summary_row(
                group, name_of(nodeid, unicode), safe(text, unicode), width
            )
        if len(tests) > most:
            lines.append(f"  {group:<8}  ... in {len(tests) - most:,} more tests (-v)")
    if groups["gone"]:
        advice = f"to remove what is gone, {save}"
        lines += wrap(advice, width, "  ", "  ")
    return lines


def how_to_save(file: str) -> str:
    """Return how to write a baseline that a command reads, with all its other options.

    Depth, for example, decides what is found, and so what is recorded.
    """
    option = shlex.quote(f"--tfleak-save-baseline={file}")
    return f"add {option} to this command"


def _from_here(file: str) -> str:
    path = Path(file)
    with suppress(OSError, ValueError):  # a test may have deleted the folder
        path = path.relative_to(Path.cwd())
    return str(path)


def _by_test(group: str, pairs: list[Pair]) -> list[tuple[str, str]]:
    texts: dict[str, list[str]] = {}
    for now, before in pairs:
        if group == "worse" and before is not None:
            text = change_text(before, now)
        else:
            text = growth_text(now)
        texts.setdefault(now.nodeid, []).append(text)
    return [(nodeid, ", ".join(several)) for nodeid, several in texts.items()]


def _summary_row(group: str, name: str, text: str, width: int) -> list[str]:
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
