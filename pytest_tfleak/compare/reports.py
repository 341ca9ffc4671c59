"""Compare the JSON reports of two runs: what is worse, better, new or gone."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_tfleak.compare.documents import DocumentError
from pytest_tfleak.compare.documents import number_in
from pytest_tfleak.compare.documents import optional_text_in
from pytest_tfleak.compare.documents import read_document
from pytest_tfleak.compare.documents import shown
from pytest_tfleak.compare.documents import text_in
from pytest_tfleak.compare.same_leak import Entry
from pytest_tfleak.compare.same_leak import change_of
from pytest_tfleak.compare.same_leak import change_text
from pytest_tfleak.compare.same_leak import find_same
from pytest_tfleak.compare.same_leak import growth_text
from pytest_tfleak.compare.same_leak import largest
from pytest_tfleak.compare.same_leak import name_of
from pytest_tfleak.quantities import format_count
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import wrap
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.signals import counts_whole_run
from pytest_tfleak.verdict import SCHEMA
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status

GROUPS = ("worse", "new", "better", "gone")
FAILING = ("worse", "new")
MOST_NAMED = 20  # tests named in a group that does not fail; --all names all
#: How little a verdict tells: the higher, the less.
_DOUBT = {
    Status.CLEAN: 0,
    Status.LEAK: 0,
    Status.INCONCLUSIVE: 1,
    Status.NOT_MEASURED: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One test in one report, which combines all measurements of that test."""

    nodeid: str
    status: Status  # LEAK even if a baseline accepts the growth
    why: str
    disabled: bool
    iterations: frozenset[int]  # without the confirmation
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a comparison needs from a JSON report."""

    file: str
    complete: bool
    environment: Mapping[str, str]
    tests: Mapping[str, Tested]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs, as pairs of test and text by group, and notes."""

    rows: Mapping[str, list[tuple[str, str]]]
    same: int
    notes: list[str] = field(default_factory=list)

    @property
    def is_worse(self) -> bool:
        """Return whether anything is worse or new."""
        return any(self.rows[group] for group in FAILING)


def read_report(path: Path) -> Report:
    """Return a report that ``--tfleak-json`` wrote, even if keys are missing.

    Raises DocumentError with a message of one line.
    """
    try:
        what = "a report of --tfleak-json"
        data = read_document(path, what=what, schema=SCHEMA)
    except FileNotFoundError:
        raise DocumentError(f"{path}: there is no such file") from None
    tests = data.get("tests")
    if not isinstance(tests, list):
        raise DocumentError(f'{path}: is not {what}: it has no list of "tests"')
    found: dict[str, list[Tested]] = {}
    for number, test in enumerate(tests, 1):
        try:
            tested = _tested(test)
        except DocumentError as error:
            raise DocumentError(f"{path}: test {number}: {error}") from None
        found.setdefault(tested.nodeid, []).append(tested)
    return Report(
        file=str(path),
        complete=data.get("complete") is not False,
        environment=_environment(data),
        tests={nodeid: _together(several) for nodeid, several in found.items()},
    )


def _tested(data: object) -> Tested:
    if not isinstance(data, dict):
        raise DocumentError("it must be an object")
    nodeid = text_in(data, "nodeid")
    word = text_in(data, "status")
    if word not in {status.value for status in Status}:
        raise DocumentError(f'"status" must be one of {_statuses()}, got {shown(word)}')
    findings = data.get("findings") or []
    if not isinstance(findings, list):
        raise DocumentError('"findings" must be a list')
    is_open = word == Status.INCONCLUSIVE.value
    entries = largest(
        entry for found in findings for entry in _entries(nodeid, found, is_open)
    )
    status = Status.LEAK if entries else Status(word)
    reason = optional_text_in(data, "reason")
    iterations = number_in(data, "iterations")
    confirmation = number_in(data, "confirmation") or 0
    return Tested(
        nodeid=nodeid,
        status=status,
        why=optional_text_in(data, "detail") or (reason or "").replace("_", " "),
        disabled=reason == Reason.DISABLED.value,
        iterations=_measured(iterations, confirmation, status),
        entries=tuple(entries),
    )


def _measured(
    iterations: float | None, confirmation: float, status: Status
) -> frozenset[int]:
    if iterations is None or _DOUBT[status]:
        return frozenset()
    return frozenset([int(iterations - confirmation)])


def _entries(nodeid: str, data: object, is_open: bool) -> Iterator[Entry]:
    """Yield the entry of a leak; ``is_open`` if the test's verdict is inconclusive."""
    if not isinstance(data, dict):
        raise DocumentError("a finding must be an object")
    is_accepted = data.get("accepted") is True
    if is_accepted and data.get("known") is not None:
        return  # users cannot do anything about TensorFlow's own growth
    if is_open and not is_accepted:
        return  # it may be TensorFlow's own growth, since no experiment has finished
    is_total = counts_whole_run(optional_text_in(data, "allow") or "")
    yield Entry(
        nodeid=nodeid,
        signal=text_in(data, "signal"),
        unit=optional_text_in(data, "unit") or "objects",
        per_iteration=number_in(data, "per_iteration"),
        total=number_in(data, "total") or 0.0,
        allowance=0.0 if is_total else number_in(data, "allowance") or 0.0,
        kind=optional_text_in(data, "kind"),
        fingerprint=optional_text_in(data, "fingerprint"),
    )


def _statuses() -> str:
    return ", ".join(status.value for status in Status)


def _together(several: list[Tested]) -> Tested:
    """Combine several measurements of a test: a leak, or the one that tells least."""
    if len(several) == 1:
        return several[0]
    entries = largest(entry for tested in several for entry in tested.entries)
    worst = max(several, key=lambda t: (t.status is Status.LEAK, _DOUBT[t.status]))
    return Tested(
        nodeid=worst.nodeid,
        status=worst.status,
        why=worst.why,
        disabled=worst.disabled,
        iterations=frozenset().union(*(tested.iterations for tested in several)),
        entries=tuple(entries),
    )


def _environment(data: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, prefix in (("tool", "pytest-tfleak "), ("environment", "")):
        section = data.get(name)
        for key, value in section.items() if isinstance(section, dict) else ():
            if value is not None:  # None is unknown, as if the key were missing
                found[f"{prefix}{key}"] = _named(value)
    return found


def _named(value: object) -> str:
    """Return a value of the environment as text."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def compare_reports(before: Report, now: Report) -> Comparison:
    """Return what differs between two reports.

    Raises DocumentError if there is nothing to compare: that must not pass in CI.
    """
    if before.tests and not now.tests:
        raise DocumentError(f"{now.file}: has no tests to compare")
    rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    same = 0
    for nodeid in sorted({*before.tests, *now.tests}):
        differences = list(
            _differences(before.tests.get(nodeid), now.tests.get(nodeid))
        )
        same += not differences
        for group, text in differences:
            rows[group].append((nodeid, text))
    return Comparison(rows=rows, same=same, notes=list(_notes(before, now)))


def _differences(
    before: Tested | None, now: Tested | None
) -> Iterator[tuple[str, str]]:
    if now is None:
        assert before is not None
        yield "gone", f"the test is missing; it was {_state(before)}"
        return
    if before is None:
        yield from (("new", text) for text in _leaks(now))
        return
    if _DOUBT[now.status] > _DOUBT[before.status]:
        change = f"{_state(before)} -> {_state(now)}"
        yield ("gone" if now.disabled else "worse"), change
        return
    if _DOUBT[now.status] < _DOUBT[before.status]:
        if now.status is Status.LEAK:
            yield from (("new", text) for text in _leaks(now))
        else:
            yield "better", f"{_state(before)} -> {_state(now)}"
        return
    yield from _changes(before, now)


def _changes(before: Tested, now: Tested) -> Iterator[tuple[str, str]]:
    """Compare the findings of two measurements that tell equally much."""
    if now.status is Status.LEAK and not (before.entries and now.entries):
        if before.status is not Status.LEAK:
            yield from (("new", text) for text in _leaks(now))
        return  # a shortened report lacks findings to compare
    met = set()
    for entry in now.entries:
        old = find_same(entry, before.entries)
        if old is None:
            yield "new", growth_text(entry)
            continue
        met.add(id(old))
        change = change_of(old, entry)
        if change != "same":
            yield change, change_text(old, entry)
    for entry in before.entries:
        if id(entry) not in met:
            yield "gone", growth_text(entry)
    if before.status is Status.LEAK and not before.entries:
        yield "gone", f"{_state(before)} -> {_state(now)}"


def _leaks(tested: Tested) -> list[str]:
    if tested.status is Status.LEAK and not tested.entries:
        return [_state(tested)]
    return [growth_text(entry) for entry in tested.entries]


def _state(tested: Tested) -> str:
    word = STATUSES[tested.status]
    if tested.status is Status.LEAK:
        leaks = ", ".join(growth_text(entry) for entry in tested.entries)
        return f"{word}: {leaks}" if leaks else word
    return f"{word} ({tested.why})" if tested.why else word


def _notes(before: Report, now: Report) -> Iterator[str]:
    for word, report in (("earlier", before), ("later", now)):
        if not report.complete:
            yield f"the {word} run was not finished: tests may be missing"
    for name in sorted({*before.environment, *now.environment}):
        old, new = (r.environment.get(name, "unknown") for r in (before, now))
        if old != new:
            yield f"{name}: {old} -> {new}"
    both = sorted({*before.tests} & {*now.tests})
    other = [n for n in both if _ran_differently(before.tests[n], now.tests[n])]
    if other:
        lengths = (_range(r.tests[n].iterations for n in other) for r in (before, now))
        yield f"iterations: {' -> '.join(lengths)} in {_tests(len(other))}"
    fresh = [t.status for n, t in now.tests.items() if n not in before.tests]
    for status in (Status.CLEAN, Status.INCONCLUSIVE, Status.NOT_MEASURED):
        if fresh.count(status):
            tests = _tests(fresh.count(status))
            yield f"{tests} not in the earlier report: {STATUSES[status]}"


def _ran_differently(before: Tested, now: Tested) -> bool:
    is_known = bool(before.iterations and now.iterations)
    return is_known and before.iterations != now.iterations


def _range(several: Iterable[Iterable[int]]) -> str:
    numbers = sorted({number for numbers in several for number in numbers})
    ends = dict.fromkeys(map(format_count, (numbers[0], numbers[-1])))
    return "-".join(ends)


def _tests(number: int) -> str:
    return f"{format_count(number)} {'test' if number == 1 else 'tests'}"


def comparison_lines(
    comparison: Comparison,
    width: int = 80,
    unicode: bool = True,
    *,
    show_all: bool = False,
) -> list[str]:
    """Return a comparison as plain text."""
    lines: list[str] = []
    for group in GROUPS:
        rows = comparison.rows[group]
        if rows:
            lines += [group.upper()]
        most = len(rows) if show_all or group in FAILING else MOST_NAMED
        for nodeid, text in rows[:most]:
            lines += _row(name_of(nodeid, unicode), safe(text, unicode), width)
        if len(rows) > most:
            lines.append(f"  ... and {len(rows) - most:,} more (--all)")
        if rows:
            lines.append("")
    for note in comparison.notes:
        lines += wrap(safe(note, unicode), width, "note: ", " " * 6)
    counts = [f"{len(comparison.rows[group]):,} {group}" for group in GROUPS]
    return [*lines, f"{', '.join(counts)}; {_tests(comparison.same)} the same"]


def _row(name: str, text: str, width: int) -> list[str]:
    if columns(name) + columns(text) + 4 <= width:
        return [f"  {name}  {text}"]
    return [f"  {name}", *wrap(text, width, " " * 6, " " * 8)]
