"""Add the cause of each finding, and advice on what to do about it.

Findings about the same objects share one cause, so that one mistake leads to one piece
of advice.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.diagnosis.causes.all_causes import CAUSES
from pytest_tfleak.diagnosis.causes.all_causes import cause_named
from pytest_tfleak.diagnosis.causes.all_causes import find_cause
from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.cause import FUNCTION_CACHE
from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.places import explain
from pytest_tfleak.diagnosis.causes.places import fill
from pytest_tfleak.diagnosis.origin.source_hints import hints_of
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Part
from pytest_tfleak.diagnosis.survivors.structure import Observed
from pytest_tfleak.diagnosis.what.descriptors import RunningThread
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.signals import LARGEST_BLOCK
from pytest_tfleak.signals import base_name
from pytest_tfleak.signals import has_row
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import is_size
from pytest_tfleak.signals import row_of
from pytest_tfleak.verdict import Finding

Key = tuple[str, ...]  # why findings belong together, and where


@dataclass(frozen=True, slots=True)
class Explained:
    """A finding, and what explains it."""

    finding: Finding
    group: Group | None = None
    seen: Observed | None = None
    part: Part | None = None  # the part of the group that the finding counts
    kind: str = ""  # the type that grew, as guessed before the search for holders


def advise(
    explained: Sequence[Explained],
    groups: Sequence[Group] = (),
    *,
    is_searched: bool = False,
    entered_twice: Collection[tuple[str, str]] = (),
) -> tuple[Finding, ...]:
    """Return the findings with their causes and with advice.

    ``groups`` are all groups of survivors, even those that explain no finding.
    ``is_searched`` says whether the search saw all objects that may hold others.
    ``entered_twice`` are files and functions of managers that are entered again too
    early.
    """
    beside = frozenset(name for group in groups for name in group.members)
    related: dict[Key, list[Explained]] = {}
    for one in explained:
        related.setdefault(_key(one), []).append(one)
    evidence = {
        key: replace(
            _evidence(some, explained),
            beside=beside,
            is_searched=is_searched,
            is_entered_twice=_is_among(_first(some).finding, entered_twice),
        )
        for key, some in related.items()
    }
    causes = {key: find_cause(known) for key, known in evidence.items()}
    lead = _lead(causes, related)
    declared = next(
        (o.seen.declared for o in explained if o.seen and o.seen.declared), ""
    )
    advised = []
    for one in explained:
        key = _key(one)
        if _is_unexplained(key):
            advised.append(one.finding)
            continue
        cause = causes[key]
        has_only_signal = key[0] == "signal" and not _is_open_scope(one.finding)
        # for a finding without an explanation of its own, the lead says more
        if lead and (cause is None or cause.is_vague or has_only_signal):
            key = lead
        key = _with_threads(key, causes, evidence)
        case = Case(
            finding=ordered(one.finding for one in related[key])[0],
            evidence=evidence[key],
            declared=declared,
        )
        advised.append(_advised(one.finding, causes[key], case))
    return tuple(advised)


def _with_threads(
    key: Key, causes: Mapping[Key, Cause | None], evidence: Mapping[Key, Evidence]
) -> Key:
    """Return the key of the threads themselves for what one of them keeps.

    Only these findings say where a thread waits, and how the code calls it.
    """
    root = evidence[key].root
    for other, known in evidence.items() if root.thread else ():
        functions = [thread.target.rpartition(".")[2] for thread in known.threads]
        if causes[other] is causes[key] and root.name in functions:
            return other
    return key


def _is_unexplained(key: Key) -> bool:
    """Return whether nothing but a signal of a user's probe is known.

    Such a signal suggests no cause, and the cause of another leak may not be its cause.
    """
    return key[0] == "signal" and not has_row(key[1])


def _is_open_scope(finding: Finding) -> bool:
    """Return whether a finding is a scope that can only grow by open blocks."""
    row = row_of(finding.signal, finding.unit)
    return row.family == "scope" and not row.behind


def _lead(
    causes: Mapping[Key, Cause | None], related: Mapping[Key, Sequence[Explained]]
) -> Key | None:
    """Return the key whose cause to use for findings without one of their own.

    Causes of findings on objects come before those on memory, and both before causes
    that only a signal suggests.
    """
    found = []
    for key, cause in causes.items():
        is_memory, is_alone = _is_memory(related[key]), key[0] == "signal"
        is_apart = key[0] == "known" or _is_unexplained(key)
        if cause is not None and not is_apart and not (is_memory and is_alone):
            found.append((is_alone, is_memory, CAUSES.index(cause), key))
    return min(found)[-1] if found else None


def _key(one: Explained) -> Key:
    if one.finding.known is not None:
        return "known", one.finding.known
    if one.group is not None:
        return "held", *one.group.path.place
    if one.seen is not None:
        return "seen", *one.seen.place
    return "signal", one.finding.signal


def _evidence(related: Sequence[Explained], explained: Sequence[Explained]) -> Evidence:
    """Return the evidence on findings that belong together, amid all findings."""
    lead = _first(related)
    finding, part, group = lead.finding, lead.part, _group_of(related)
    seen = [one.seen for one in related if one.seen is not None]
    return Evidence(
        signals=_signals(related),
        is_memory=all(is_size(o.finding.signal, o.finding.unit) for o in related),
        failing=_signals(one for one in explained if not one.finding.accepted),
        known=finding.known or "",
        kinds=_kinds(lead),
        path=group.path if group is not None else None,
        below=group.below if group is not None else (),
        holder=finding.path,
        growth=group.growth if group is not None else "",
        link=group.link if group is not None else "",
        held=group.whole.kind if group is not None else "",
        members=group.members if group is not None else {},
        arrays=part.arrays if part is not None else (),
        functions=group.whole.functions if group is not None else (),
        closers=group.whole.closers if group is not None else (),
        files=tuple(name for one in seen for name in one.files),
        threads=_threads(related),
        line=finding.origin.text if finding.origin is not None else "",
        around=_hints(finding),
        retrace=_retrace(group, related, explained),
        function=next((one.function for one in seen if one.function), ""),
        argument=next((one.argument for one in seen if one.argument), ""),
        is_made_in_loop=any(one.is_made_in_loop for one in seen),
        native=next((o.finding.native for o in related if o.finding.native), ()),
        is_of_blocks=_is_of_blocks(explained),
        is_released=finding.known is None and finding.advice is not None,
    )


def _threads(related: Iterable[Explained]) -> tuple[RunningThread, ...]:
    """Return the threads that do not end, as observed, or else as they were found."""
    seen = [thread for one in related if one.seen for thread in one.seen.threads]
    if seen:
        return tuple(seen)
    parts = (
        one.part
        for one in related
        if one.part is not None and base_name(one.finding.signal) == "process.threads"
    )
    return tuple(thread for part in parts for thread in part.threads)


def _signals(explained: Iterable[Explained]) -> frozenset[str]:
    return frozenset(base_name(one.finding.signal) for one in explained)


def _kinds(lead: Explained) -> frozenset[str]:
    kinds = (lead.kind, lead.finding.kind or "")
    return frozenset(kind.rpartition(".")[2] for kind in kinds if kind)


def _group_of(related: Sequence[Explained]) -> Group | None:
    return next((one.group for one in related if one.group is not None), None)


def _hints(finding: Finding) -> frozenset[str]:
    """Return what the code does around a finding's line and the lines that call it."""
    return frozenset[str]().union(*map(hints_of, finding.lines))


def _is_among(finding: Finding, places: Collection[tuple[str, str]]) -> bool:
    return any((line.file, line.function) in places for line in finding.lines)


def _retrace(
    group: Group | None, related: Sequence[Explained], explained: Sequence[Explained]
) -> str:
    """Return why a function is retraced, "" if none is."""
    traced = related
    if group is not None and any(
        path.passes_through(FUNCTION_CACHE, new=False)
        for path in (group.path, *group.below)
    ):
        traced = explained  # objects kept with the traces have the same cause
    sorts = (one.seen.retrace for one in traced if one.seen is not None)
    return next(filter(None, sorts), "")


def _is_of_blocks(explained: Sequence[Explained]) -> bool:
    rates = {
        base_name(one.finding.signal): one.finding.per_iteration or 0.0
        for one in explained
        if not one.finding.accepted
    }
    blocks = rates.get("python.blocks", 0.0) * LARGEST_BLOCK
    return blocks > 0 and blocks >= rates.get("host.heap", 0.0)


def _first(related: Sequence[Explained]) -> Explained:
    """Return the most informative finding: one on objects rather than on memory."""
    return min(related, key=lambda one: is_memory(one.finding.signal, one.finding.unit))


def _is_memory(related: Sequence[Explained]) -> bool:
    first = _first(related).finding
    return is_memory(first.signal, first.unit)


def _advised(finding: Finding, cause: Cause | None, case: Case) -> Finding:
    if finding.known is not None:
        return _of_library(finding)
    if cause is None or finding.accepted:
        return finding
    advice = fill(cause.remedy, case)
    if finding.advice and finding.advice not in advice:  # found by an experiment
        advice = f"{advice} As tried, {finding.advice}.".strip()
    return replace(
        finding,
        cause=cause.slug,
        why=explain(cause.explains, case),
        advice=advice or None,
    )


def _of_library(finding: Finding) -> Finding:
    """Return known growth under its name; advice from an experiment comes first."""
    cause = cause_named(finding.known or "")
    advice = finding.advice
    if cause is not None and not finding.accepted:
        advice = advice or cause.remedy
    return replace(finding, cause=finding.known, advice=advice)
