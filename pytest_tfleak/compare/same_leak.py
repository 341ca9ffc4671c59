"""Decide whether two findings are the same leak, and whether it is worse now.

Readings are noisy, so growth is *worse* only beyond a margin:

    memory (bytes, Python's blocks)   a quarter, or one allowance if that is more
    counts                            a twentieth, but never more than half an object
    objects that are left, in all     one more object

    12.0 KiB -> 14.9 KiB  same        1 tensor    -> 1.04   same
    12.0 KiB -> 18.1 KiB  worse       1 tensor    -> 1.2    worse
    900 KiB  -> 1.2 MiB   worse       100 tensors -> 101    worse

*Better* is the same rule the other way round. Only growth per iteration is compared, so
the runs may differ in length.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Literal

from pytest_tfleak.quantities import format_count
from pytest_tfleak.reports.document import without_surrogates
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import signed
from pytest_tfleak.signals import counts_whole_run
from pytest_tfleak.signals import is_size
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import version_of

Change = Literal["worse", "same", "better"]

MEMORY_SHARE = 0.25
COUNT_SHARE = 0.05
MOST_OF_A_COUNT = 0.5  # objects per iteration


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One finding of one test, as a baseline or an earlier report remembers it."""

    nodeid: str
    signal: str
    unit: str
    per_iteration: float | None  # None for objects that are left and do not pile up
    total: float
    allowance: float = 0.0  # per iteration
    kind: str | None = None
    fingerprint: str | None = None

    @property
    def identity(self) -> str:
        """Return a text that tells apart leaks of the same test and signal."""
        if self.fingerprint is not None:
            return self.fingerprint
        # the type named with growth of memory may differ by chance, so ignore it
        return "" if is_size(self.signal, self.unit) else self.kind or ""


def entry_of(nodeid: str, finding: Finding) -> Entry:
    """Return the entry that remembers a finding."""
    kind, fingerprint = finding.kind, finding.fingerprint
    return Entry(
        nodeid=without_surrogates(nodeid),
        signal=without_surrogates(finding.signal),
        unit=without_surrogates(finding.unit),
        per_iteration=finding.per_iteration,
        total=finding.total,
        allowance=0.0 if counts_whole_run(finding.allow) else finding.allowance,
        kind=None if kind is None else without_surrogates(kind),
        fingerprint=None if fingerprint is None else without_surrogates(fingerprint),
    )


def change_of(before: Entry, now: Entry) -> Change:
    """Return whether a leak is now clearly worse, clearly better, or the same."""
    old, new = before.per_iteration, now.per_iteration
    if old is None and new is None:
        old, new = before.total, now.total
        return "worse" if new > old else "better" if new < old else "same"
    if old is None or new is None:
        return "worse" if old is None else "better"
    allowance = max(before.allowance, now.allowance)
    if new > old + _margin(old, now, allowance):
        return "worse"
    if old > new + _margin(new, now, allowance):
        return "better"
    return "same"


def _margin(rate: float, entry: Entry, allowance: float) -> float:
    if is_size(entry.signal, entry.unit):
        return max(MEMORY_SHARE * abs(rate), allowance)
    return min(max(COUNT_SHARE * abs(rate), 0.01), MOST_OF_A_COUNT)


def find_same(wanted: Entry, entries: Iterable[Entry]) -> Entry | None:
    """Return the largest entry that is the same leak as ``wanted``, if any."""
    near = [
        entry
        for entry in entries
        if (entry.nodeid, entry.signal) == (wanted.nodeid, wanted.signal)
    ]
    same = [entry for entry in near if entry.identity == wanted.identity]
    # without a diagnosis there are no fingerprints, and those of another version cannot
    # be compared: then compare the types
    same = same or [entry for entry in near if _may_be_same(entry, wanted)]
    return max(same, key=_size, default=None)


def _may_be_same(one: Entry, other: Entry) -> bool:
    if one.fingerprint is not None and other.fingerprint is not None:
        if version_of(one.fingerprint) == version_of(other.fingerprint):
            return False
    is_unnamed = is_size(one.signal, one.unit) or None in (one.kind, other.kind)
    return is_unnamed or one.kind == other.kind


def largest(entries: Iterable[Entry]) -> list[Entry]:
    """Return one entry for each leak, sorted; for duplicates, the largest."""
    kept: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        key = (entry.nodeid, entry.signal, entry.identity)
        kept[key] = max(kept.get(key, entry), entry, key=_size)
    return [kept[key] for key in sorted(kept)]


def _size(entry: Entry) -> tuple[bool, float, str]:
    rate = entry.per_iteration
    # objects that pile up are worse than any number of objects left
    return rate is not None, entry.total if rate is None else rate, entry.kind or ""


def growth_text(entry: Entry) -> str:
    """Return ``tf.tensors +1 per iteration (EagerTensor)``, safe for a terminal."""
    if entry.per_iteration is None:
        growth = f"{format_count(entry.total)} left"
    else:
        growth = f"{signed(entry.per_iteration, entry.unit)} per iteration"
    return f"{short_name(entry.signal)} {growth}{_kind(entry)}"


def change_text(before: Entry, now: Entry) -> str:
    """Return ``tf.tensors +1 -> +2 per iteration (EagerTensor)``."""
    name = short_name(now.signal)
    if before.per_iteration is None or now.per_iteration is None:
        old, new = (growth_text(replace(e, kind=None)) for e in (before, now))
        return f"{old} -> {new.removeprefix(name).strip()}{_kind(now)}"
    old, new = compared(before.per_iteration, now.per_iteration, now.unit)
    rates = (before.per_iteration, now.per_iteration)
    shown = [f"+{t}" if r > 0 else t for t, r in zip((old, new), rates, strict=True)]
    return f"{name} {' -> '.join(shown)} per iteration{_kind(now)}"


def _kind(entry: Entry) -> str:
    return f" ({short_name(entry.kind.rpartition('.')[2])})" if entry.kind else ""


def tests_and_findings(entries: Sequence[Entry]) -> str:
    """Return ``3 findings in 2 tests``."""
    tests = len({entry.nodeid for entry in entries})
    return f"{_count(len(entries), 'finding')} in {_count(tests, 'test')}"


def _count(number: int, noun: str) -> str:
    return f"{format_count(number)} {noun}{'' if number == 1 else 's'}"


def name_of(nodeid: str, unicode: bool = True) -> str:
    """Return a test's name for a terminal."""
    return safe(nodeid, unicode) or "(no name)"
