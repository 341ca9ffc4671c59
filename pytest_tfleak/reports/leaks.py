"""Group findings by leak: one mistake moves many signals, and may fail many tests.

Findings of one test are one leak if they share their holder or their line.

Findings of several tests are one leak if a global variable of user code holds objects
of the same type in the same place, or if the same line made objects of the same kinds
that are held alike. A finding of which neither is known is a leak of its own test.
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.reports.held_by import name_holder
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import row_of
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

_Key = tuple[Hashable, ...]
#: The least share of its growth that objects must explain for memory to be a leak apart
#: from those of counted objects.
_LEAST_EXPLAINED = 0.5
#: What the system counts and no object of a library brings along unseen.
_OF_SYSTEM = ("process.fds", "process.children")
#: For each test that a leak fails, its number and the findings.
_Group = list[tuple[int, list[Finding]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One leak, and the tests that it fails."""

    #: The verdict of each test, worst first, with no other findings than of this leak.
    verdicts: tuple[Verdict, ...]

    @property
    def lead(self) -> Finding:
        """Return the most important finding of the worst test."""
        return ordered(self.verdicts[0].findings)[0]

    @property
    def fingerprint(self) -> str | None:
        """Return what identifies the leak in different runs, None if it is unknown."""
        return self.lead.fingerprint

    @property
    def tests(self) -> tuple[str, ...]:
        """Return the names of the tests, each once."""
        return tuple(dict.fromkeys(verdict.nodeid for verdict in self.verdicts))


def group_by_leak(verdicts: Sequence[Verdict]) -> list[Leak]:
    """Return the leaks of a run in the order of the verdicts, which is worst first."""
    return [_leak(group, verdicts) for group in _groups(verdicts)]


def entries_by_leak(verdicts: Sequence[Verdict]) -> list[Leak]:
    """Return the leaks as a list shows them: all that fails one test only as one."""
    entries: list[_Group] = []
    alone: dict[int, list[Finding]] = {}  # by the number of the test
    for group in _groups(verdicts):
        number, findings = group[0]
        if len(group) > 1:
            entries.append(group)
        elif number in alone:
            alone[number] += findings
        else:
            alone[number] = findings
            entries.append(group)
    return [_leak(entry, verdicts) for entry in entries]


def _leak(group: _Group, verdicts: Sequence[Verdict]) -> Leak:
    parts = [replace(verdicts[n], findings=tuple(found)) for n, found in group]
    return Leak(verdicts=tuple(parts))


def _groups(verdicts: Sequence[Verdict]) -> list[_Group]:
    groups: dict[_Key, _Group] = {}
    for number, verdict in enumerate(verdicts):
        if verdict.status is Status.LEAK:
            for key, findings in _leaks_of(verdict).items():
                group = groups.setdefault(key or ("alone", number), [])
                group.append((number, findings))
    return list(groups.values())


def leaks_in(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Return the findings of one test by leak, each with its leading finding first.

    What is not known to be a leak of its own belongs to the first one.
    """
    leaks: list[list[Finding]] = []
    for finding in ordered(findings):
        home = next((leak for leak in leaks if _is_of(finding, leak)), None)
        if home is not None:
            home.append(finding)
        elif not leaks or _stands_alone(finding, leaks[0]):
            leaks.append([finding])
        else:
            leaks[0].append(finding)
    return leaks


def _is_of(finding: Finding, leak: Iterable[Finding]) -> bool:
    return any(_is_one(finding, other) for other in leak)


def _is_one(one: Finding, other: Finding) -> bool:
    """Return whether two findings share what keeps their objects, or who makes them."""
    if one.known or other.known:
        return one.known == other.known or _is_at_one_place(one, other)
    if one.fingerprint is not None and one.fingerprint == other.fingerprint:
        return True
    if _is_of_thread(one, other) or _is_of_thread(other, one):
        return True
    holders = _holder_of(one), _holder_of(other)
    if all(holders):
        return holders[0] == holders[1]
    return any(
        line is not None and line == same
        for line, same in ((one.origin, other.origin), (one.stored, other.stored))
    )


def _is_at_one_place(one: Finding, other: Finding) -> bool:
    """Return whether the same is held by the same, made by the same line.

    Part of the memory of an object may be what a library keeps beside it.
    """
    holder = _holder_of(one)
    return (
        holder != ""
        and holder == _holder_of(other)
        and one.origin is not None
        and one.origin == other.origin
    )


def _is_of_thread(threads: Finding, other: Finding) -> bool:
    """Return whether threads pile up, and a variable in one of them is the holder."""
    path = other.path
    return (
        threads.signal == "process.threads"
        and path is not None
        and (path.root.thread != "")
    )


def _holder_of(finding: Finding) -> str:
    """Return what holds the objects of a finding, "" if no Python object is known."""
    path = finding.path
    return "" if path is None or path.is_native else name_holder(path)


def _stands_alone(finding: Finding, lead: Sequence[Finding]) -> bool:
    """Return whether a finding that shares nothing with a leak is one of its own."""
    if finding.known:
        return True
    if is_memory(finding.signal, finding.unit):
        explained, growth = finding.python_bytes or 0.0, finding.per_iteration or 0.0
        is_alone = all(is_memory(one.signal, one.unit) for one in lead)
        return bool(_holder_of(finding)) and (
            is_alone or explained >= _LEAST_EXPLAINED * growth > 0
        )
    if _holder_of(finding) or finding.line is not None:
        return True
    # nothing else accounts for what the system or another library counts
    row = row_of(finding.signal, finding.unit)
    is_open_scope = row.family == "scope" and not row.behind
    return is_open_scope or row.family == "other" or row.name in _OF_SYSTEM


def _leaks_of(verdict: Verdict) -> dict[_Key, list[Finding]]:
    """Return the findings that fail a test by leak; the key is () if it is unknown."""
    leaks: dict[_Key, list[Finding]] = {}
    for found in leaks_in(verdict.failing):
        counted = [f for f in found if not is_memory(f.signal, f.unit)] or found
        keys = (_key(finding, counted) for finding in counted)
        leaks.setdefault(next(filter(None, keys), ()), []).extend(found)
    return leaks


def _key(finding: Finding, beside: Iterable[Finding]) -> _Key:
    """Return what two tests have in common if a finding is the same leak in both."""
    path, origin = finding.path, finding.origin
    if path is not None and _is_global(path):
        first = next(path.expressions())
        names = tuple((step.kind, step.name) for step in first.steps)
        return ("held", path.root.name, names, finding.fingerprint or path.place)
    if origin is None:
        return ()
    line = origin.file, origin.line
    alike = [f for f in beside if f.origin and (f.origin.file, f.origin.line) == line]
    kinds = sorted({f.kind or f.signal for f in alike})
    held = () if path is None else finding.fingerprint or path.place
    return ("made", *line, tuple(kinds), held)


def _is_global(path: RetainingPath) -> bool:
    """Return whether a module of user code holds the object, in every test the same."""
    root = path.root
    return root.kind == "module" and not root.is_library and bool(path.steps)
