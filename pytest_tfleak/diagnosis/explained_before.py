"""Recognise a leak that an earlier test of this process has, so as not to search again.

Only leaks into a container that a module of user code holds are recognised. A few
iterations show whether the same container gains objects of the same types from the same
line, and whether these account for all that grows. In any doubt, the full search runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_tfleak.diagnosis.safe_read import last_of
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.safe_read import sized_among
from pytest_tfleak.diagnosis.survivors.watch import Tracing
from pytest_tfleak.diagnosis.what.facts import facts_of_group
from pytest_tfleak.diagnosis.what.sizes import count_with_content
from pytest_tfleak.diagnosis.what.sizes import explained_bytes
from pytest_tfleak.object_facts import ObjectFacts
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.reports.held_object import words_of
from pytest_tfleak.reports.held_object import words_of_group
from pytest_tfleak.reports.leaks import group_by_leak
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import row_of
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import frames_of
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import SameAs
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

_ITERATIONS = 3
#: By how much the memory for each object may differ from that of the earlier test.
_NOISE = 0.1
_MOST_LEAKS = 50  # of one process
_MOST_OBJECTS = 100_000  # made by the iterations
_ASKED_FOR_ORIGIN = 20

#: The least share of the growth of memory that the entries must account for, if no
#: objects are counted.
_MOST_OF = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class SameLeak:
    """An earlier test with the same leak, and what leaks in this one."""

    test: SameAs
    explained: Mapping[str, Finding]  # by signal

    def explain(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """Return the findings with what holds and makes the objects, and the cause."""
        return tuple(self.explained.get(one.signal, one) for one in findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The leak of an earlier test."""

    nodeid: str
    findings: Mapping[str, Finding]  # by signal
    lead: str  # the signal of the most important one
    path: RetainingPath  # of that finding
    steps: tuple[Step, ...]  # from the module to the container
    entry: str  # the full name of the type of its entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """A container of an earlier leak, which may grow in this test, too."""

    known: _Known
    container: Any
    size_of: Callable[[Any], int]

    @property
    def size(self) -> int:
        """Return how many entries the container has now."""
        return self.size_of(self.container)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a few iterations left; release it before measuring again."""

    known: _Known  # the leak whose container grew by objects of the same type
    runs: int
    size: int  # of the container
    entries: list[Any]  # the objects added to it
    reached: list[Any]  # the new objects that they lead to, themselves included
    every: Mapping[str, list[Any]]  # all new objects that a signal counts
    ours: Mapping[str, list[Any]]  # those of them that the entries lead to
    frames: Mapping[int, Sequence[Frame]]  # by id of the object

    def shown_for(self, signal: str) -> list[Any]:
        """Return the objects that a finding is about."""
        return self.ours.get(signal) or self.entries


class ExplainedLeaks:
    """The leaks of earlier tests of this process whose holder is known."""

    def __init__(self) -> None:
        self._known: list[_Known] = []

    def remember(self, verdict: Verdict) -> None:
        """Remember the leak of a test, if a later one can be compared with it."""
        known = _known_from(verdict)
        if known is not None and len(self._known) < _MOST_LEAKS:
            self._known.append(known)

    def find(
        self,
        nodeid: str,
        loop: Loop,
        findings: Sequence[Finding],
        census: Census,
        deadline: Deadline,
    ) -> SameLeak | None:
        """Return the leak of another test that explains all findings; None if in doubt.

        Raises what the body raises.
        """
        watched = [
            _Watched(known=known, container=container, size_of=size_of)
            for known in self._known
            if known.nodeid != nodeid and _may_be(known, findings)
            for container, size_of in sized_among([_container_at(known)])
        ]
        if not watched:
            return None
        look = _look_at(loop, watched, census, deadline)
        if look is None or not _is_same(look, findings):
            return None
        explained = {f.signal: _explain(f, look) for f in findings}
        lead = look.known.findings[look.known.lead]
        # another line may be another mistake, with another cause
        if explained[lead.signal].origin != lead.origin:
            return None
        line = _stored_for_all(look.known, lead) or lead.origin
        test = SameAs(nodeid=look.known.nodeid, origin=line)
        return SameLeak(test=test, explained=explained)


def _known_from(verdict: Verdict) -> _Known | None:
    """Return the leak of a test if it has only one, in a global container."""
    if verdict.status is not Status.LEAK or verdict.accepted or verdict.same_as:
        return None
    leaks = group_by_leak([verdict])
    findings = {finding.signal: finding for finding in verdict.failing}
    if len(leaks) != 1 or len(findings) != len(verdict.failing):
        return None
    path = leaks[0].lead.path
    if path is None or path.root.kind != "module" or path.root.is_library:
        return None
    steps = next(path.expressions()).steps
    rest = path.steps[len(steps) :]
    if not steps or steps[-1].size is None or not rest or not rest[0].types:
        return None
    if any(step.kind != ATTRIBUTE for step in steps):
        return None
    return _Known(
        nodeid=verdict.nodeid,
        findings=findings,
        lead=leaks[0].lead.signal,
        path=path,
        steps=steps,
        entry=rest[0].types[0],
    )


def _may_be(known: _Known, findings: Sequence[Finding]) -> bool:
    """Return whether the signals are those of an earlier leak, and can be compared."""
    for finding in findings:
        before = known.findings.get(finding.signal)
        row = row_of(finding.signal, finding.unit)
        is_comparable = row.counts_objects or is_memory(finding.signal, finding.unit)
        if before is None or finding.per_iteration is None or not is_comparable:
            return False
        if before.per_iteration is None or before.native or before.known:
            return False
    if known.lead not in {finding.signal for finding in findings}:
        return False
    return _counted(findings) == _counted(known.findings.values())


def _counted(findings: Iterable[Finding]) -> set[str]:
    return {f.signal for f in findings if not is_memory(f.signal, f.unit)}


def _container_at(known: _Known) -> Any:
    """Return the container of an earlier leak, None if it is no longer there."""
    module = sys.modules.get(known.path.root.name)
    if module is None:
        return None
    first, *rest = known.steps
    found = vars(module).get(first.name)
    for step in rest:
        found = read_field(found, step.name)
    return found


def _look_at(
    loop: Loop, watched: Sequence[_Watched], census: Census, deadline: Deadline
) -> _Look | None:
    """Run a few iterations, and look at what they add to the containers.

    Return None unless each adds to one of them, and to no other. Raises what the body
    raises.
    """
    loop.refreeze()
    tracing = Tracing(deadline.seconds)
    with tracing:
        sizes = [one.size for one in watched]
        runs = loop.run_again(
            warmup=0, iterations=_ITERATIONS, deadline=deadline, clear=False
        ).rows
        tracing.stop_the_clock()
        gc.collect()
        new = gc.get_objects()
        grown = [
            (one, one.size - size)
            for one, size in zip(watched, sizes, strict=True)
            if one.size != size
        ]
        if len({id(one.container) for one, _ in grown}) != 1:
            return None
        entries = last_of(grown[0][0].container, grown[0][1])
        if not _ITERATIONS <= runs <= len(entries) or len(new) > _MOST_OBJECTS:
            return None
        types = {full_name(type(o)) for o in entries}
        one = next((one for one, _ in grown if types == {one.known.entry}), None)
        if one is None:
            return None
        reached = _reached(entries, new)
        ours = _by_signal(reached, census)
        shown = [entries, *ours.values()]
        asked = [o for objects in shown for o in objects[:_ASKED_FOR_ORIGIN]]
        frames = {id(o): frames_of(o) for o in asked}
    return _Look(
        known=one.known,
        runs=runs,
        size=one.size,
        entries=entries,
        reached=reached,
        every=_by_signal(new, census),
        ours=ours,
        frames=frames,
    )


def _reached(entries: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Return the new objects that the entries of a container lead to."""
    waiting = {id(o): o for o in new}
    reached = [waiting.pop(id(o)) for o in entries if id(o) in waiting]
    for holder in reached:
        held = gc.get_referents(holder)
        reached.extend(waiting.pop(id(o)) for o in held if id(o) in waiting)
    return reached


def _by_signal(objects: Sequence[Any], census: Census) -> dict[str, list[Any]]:
    signals: dict[int, str | None] = {}
    found: dict[str, list[Any]] = {}
    for one in objects:
        cls = type(one)
        if id(cls) not in signals:
            signals[id(cls)] = census.kind_of(full_name(cls))
        signal = signals[id(cls)]
        if signal is not None:
            found.setdefault(signal, []).append(one)
    return found


def _is_same(look: _Look, findings: Sequence[Finding]) -> bool:
    """Return whether the entries of the container account for all that grows."""
    counted = [f for f in findings if not is_memory(f.signal, f.unit)]
    for finding in counted:
        every, ours = look.every.get(finding.signal, []), look.shown_for(finding.signal)
        if len(every) != len(ours) or finding.signal not in look.ours:
            return False
        if len(ours) != round((finding.per_iteration or 0.0) * look.runs):
            return False
    if counted:
        return _has_same_memory(look.known, findings, counted[0])
    parts = count_with_content(look.reached) / look.runs
    size = explained_bytes(look.reached, look.runs)
    return all(
        (size if f.unit == "B" else parts) >= _MOST_OF * (f.per_iteration or 0.0)
        for f in findings
    )


def _has_same_memory(
    known: _Known, findings: Sequence[Finding], counted: Finding
) -> bool:
    """Return whether memory grows as much as before for each object that piles up."""
    share = _rate(counted) / _rate(known.findings[counted.signal])
    for finding in findings:
        if is_memory(finding.signal, finding.unit):
            expected = share * _rate(known.findings[finding.signal])
            if abs(_rate(finding) - expected) > _NOISE * expected:
                return False
    return True


def _rate(finding: Finding) -> float:
    return finding.per_iteration or 0.0


def _stored_for_all(known: _Known, finding: Finding) -> Origin | None:
    """Return the line that stores the objects, unless only the earlier test runs it."""
    file = Path(known.nodeid.partition("::")[0]).name
    if finding.stored is None or Path(finding.stored.file).name == file:
        return None
    return finding.stored


def _explain(finding: Finding, look: _Look) -> Finding:
    """Return a finding with the explanation of the earlier test, and its own line."""
    before = look.known.findings[finding.signal]
    shown = look.shown_for(finding.signal)
    origin, stack = _made_at(shown, look)
    facts = facts_of_group(shown)
    return replace(
        finding,
        kind=before.kind,
        what=words_of_group(facts, len(shown) / look.runs),
        path=None if before.path is None else _now(before.path, look, facts[-1]),
        origin=origin,
        stack=stack,
        stored=_stored_for_all(look.known, before),
        python_bytes=before.python_bytes,
        cause=before.cause,
        why=before.why,
        advice=before.advice,
        fingerprint=before.fingerprint,
    )


def _now(path: RetainingPath, look: _Look, facts: ObjectFacts) -> RetainingPath:
    """Return an earlier path with the container's size and the object of this test."""
    last = len(look.known.steps) - 1
    sized = replace(path.steps[last], size=look.size)
    steps = (*path.steps[:last], sized, *path.steps[last + 1 :])
    return replace(path, steps=steps, target=words_of(facts), array=facts.array)


def _made_at(
    objects: Sequence[Any], look: _Look
) -> tuple[Origin | None, tuple[Origin, ...]]:
    """Return the line that made most of some objects, and its callers."""
    lines: Counter[Origin] = Counter()
    stacks: dict[Origin, tuple[Origin, ...]] = {}
    for one in objects[:_ASKED_FOR_ORIGIN]:
        origin, stack = origin_of(look.frames.get(id(one), ()))
        if origin is not None:
            lines[origin] += 1
            stacks.setdefault(origin, stack)
    if not lines:
        return None, ()
    origin = lines.most_common(1)[0][0]
    return origin, stacks[origin]
