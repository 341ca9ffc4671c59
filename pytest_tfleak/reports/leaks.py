"""Group what fails the tests of a run by leak: one mistake may fail many tests.

Findings are one leak if a global variable of user code holds objects of the same type
in the same place, or if the same line made objects of the same kinds that are held
alike. A finding of which neither is known is a leak of its own test.
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.reports.words import ordered
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.signals import is_memory
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

_Key = tuple[Hashable, ...]
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


def _leaks_of(verdict: Verdict) -> dict[_Key, list[Finding]]:
    """Return the findings that fail a test by leak; the key is () if it is unknown."""
    findings = ordered(verdict.failing)
    counted = [f for f in findings if not is_memory(f.signal, f.unit)]
    keys = {id(finding): _key(finding, findings) for finding in counted or findings}
    known = set(keys.values())
    first = next((key for key in keys.values() if key), ())
    leaks: dict[_Key, list[Finding]] = {}
    for finding in findings:
        key = keys.get(id(finding)) or _key(finding, findings)
        if key not in known or not key:
            key = first  # the objects that pile up use the memory
        leaks.setdefault(key, []).append(finding)
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
