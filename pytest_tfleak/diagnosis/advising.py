"""Name the cause of each finding and say what to do about it.

Findings about the same objects share one cause: one mistake is one piece of advice.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.causes import CAUSES
from pytest_tfleak.diagnosis.causes import cause_named
from pytest_tfleak.diagnosis.causes import find_cause
from pytest_tfleak.diagnosis.evidence import FUNCTION_CACHE
from pytest_tfleak.diagnosis.evidence import Evidence
from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.holders import NOBODY
from pytest_tfleak.diagnosis.source import hints_of
from pytest_tfleak.diagnosis.survey import Observed
from pytest_tfleak.verdict import Finding

Key = tuple[str, str]  # how findings belong together, and what to

_LARGEST_BLOCK = 512  # bytes; Python counts what is larger as memory of C's
_MEMORY = ("B", "blocks", "objects")  # units


@dataclass(frozen=True, slots=True)
class Told:
    """A finding, and what stands behind it."""

    finding: Finding
    group: Group | None = None
    seen: Observed | None = None


def advise(
    told: Sequence[Told],
    groups: Sequence[Group] = (),
    *,
    is_searched: bool = False,
) -> tuple[Finding, ...]:
    """Return the findings with their causes and with advice.

    ``groups`` are all that were found, those that stand behind no finding, too;
    ``is_searched`` says whether all that can hold something was looked at.
    """
    beside = frozenset(name for group in groups for name in group.members)
    related: dict[Key, list[Told]] = {}
    for one in told:
        related.setdefault(_key(one), []).append(one)
    causes = {
        key: find_cause(
            replace(_evidence(some, told), beside=beside, is_searched=is_searched)
        )
        for key, some in related.items()
    }
    lead = _lead(causes, related)
    advised = []
    for one in told:
        key = _key(one)
        cause = causes[key]
        # of what has nothing of its own behind it, the lead tells more than its signal
        if cause is None or cause.is_vague or key[0] == "signal":
            cause = lead or cause
        advised.append(_advised(one.finding, cause, related[key]))
    return tuple(advised)


def advise_leftovers(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings of which only the signal is known, with cause and advice."""
    return tuple(finding for one in findings for finding in advise([Told(one)]))


def cause_of_error(error: BaseException) -> Cause | None:
    """Return the cause that the error of a test's body points to."""
    return find_cause(Evidence(error=f"{type(error).__name__}: {error}"))


def _lead(
    causes: Mapping[Key, Cause | None], related: Mapping[Key, Sequence[Told]]
) -> Cause | None:
    """Return the cause that stands for what has none of its own.

    What is known of objects tells more than what is known of memory, and both more than
    a signal alone.
    """
    found = []
    for key, cause in causes.items():
        is_memory, is_alone = _is_memory(related[key]), key[0] == "signal"
        if cause is not None and key[0] != "known" and not (is_memory and is_alone):
            found.append((is_alone, is_memory, CAUSES.index(cause)))
    return CAUSES[min(found)[-1]] if found else None


def _key(one: Told) -> Key:
    if one.finding.known is not None:
        return "known", one.finding.known
    if one.group is not None:
        return "held", one.group.erased
    if one.seen is not None:
        return "seen", one.seen.erased
    return "signal", one.finding.signal


def _evidence(related: Sequence[Told], told: Sequence[Told]) -> Evidence:
    lead = _first(related)
    group = next((one.group for one in related if one.group is not None), None)
    clues = group.clues if group is not None else frozenset()
    # what a tf.function keeps beside its traces has the cause of the traces
    traced = told if FUNCTION_CACHE in clues else related
    retraces = [one.seen.retrace for one in traced if one.seen is not None]
    origin = lead.finding.origin
    lines = [origin, *lead.finding.stack]
    return Evidence(
        signals=frozenset(_base(one.finding) for one in related),
        failing=frozenset(_base(t.finding) for t in told if not t.finding.accepted),
        known=lead.finding.known or "",
        what=lead.finding.what or "",
        clues=clues,
        path=group.erased if group is not None else "",
        holder=lead.finding.holder or (),
        held=group.whole.kind if group is not None else "",
        members=group.members if group is not None else {},
        line=origin.text if origin is not None else "",
        around=frozenset[str]().union(*map(hints_of, lines)),
        retrace=next(filter(None, retraces), ""),
        is_made_in_loop=any(
            o.seen is not None and o.seen.is_made_in_loop for o in related
        ),
        native=next((o.finding.native for o in related if o.finding.native), ()),
        is_of_blocks=_is_of_blocks(told),
        is_released=lead.finding.known is None and lead.finding.advice is not None,
    )


def _is_of_blocks(told: Sequence[Told]) -> bool:
    rates = {
        _base(one.finding): one.finding.per_iteration or 0.0
        for one in told
        if not one.finding.accepted
    }
    blocks = rates.get("python.blocks", 0.0) * _LARGEST_BLOCK
    return blocks > 0 and blocks >= rates.get("host.heap", 0.0)


def _first(related: Sequence[Told]) -> Told:
    """Return the finding that says most: objects before memory."""
    return min(related, key=lambda one: one.finding.unit in _MEMORY)


def _is_memory(related: Sequence[Told]) -> bool:
    return _first(related).finding.unit in _MEMORY


def _advised(finding: Finding, cause: Cause | None, related: Sequence[Told]) -> Finding:
    if finding.known is not None:
        return _of_library(finding)
    if cause is None or finding.accepted:
        return finding
    advice = _filled(cause.remedy, _first(related).finding)
    if finding.advice and finding.advice not in advice:  # what an experiment showed
        advice = f"{advice} As tried, {finding.advice}."
    return replace(
        finding,
        cause=cause.slug,
        why=_filled(cause.explains, _first(related).finding),
        advice=advice,
    )


def _of_library(finding: Finding) -> Finding:
    """Return known growth under its name; what an experiment advises comes first."""
    cause = cause_named(finding.known or "")
    advice = finding.advice
    if cause is not None and not finding.accepted:
        advice = advice or cause.remedy
    return replace(finding, cause=finding.known, advice=advice)


def _filled(remedy: str, finding: Finding) -> str:
    """Put names into a remedy; its code has braces of its own."""
    holder = "what keeps it"
    if finding.holder and finding.holder[0] != NOBODY:
        holder = _until_it_grows(finding.holder)
    return remedy.replace("{holder}", holder)


def _until_it_grows(path: Sequence[str]) -> str:
    """Return a path down to the container that gets longer, without its length."""
    steps = [(edge, re.sub(r" \([^()]* of \d+\)$", "", edge)) for edge in path]
    last = next((k for k, (edge, step) in enumerate(steps) if step != edge), 0)
    return " → ".join(step for _, step in steps[: last + 1])


def _base(finding: Finding) -> str:
    return finding.signal.partition("[")[0]
