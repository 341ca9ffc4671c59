"""Find out what holds the objects that pile up, and which line made them, in time.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from pytest_tfleak.diagnosis.experiments.search import enter_all
from pytest_tfleak.diagnosis.experiments.search import longest_gap_of
from pytest_tfleak.diagnosis.native.memray_run import NO_TIME as NO_TIME_FOR_NATIVE
from pytest_tfleak.diagnosis.native.memray_run import NativeReport
from pytest_tfleak.diagnosis.native.memray_run import watch_native
from pytest_tfleak.diagnosis.origin.entries import Entries
from pytest_tfleak.diagnosis.origin.line_tracer import LineTracer
from pytest_tfleak.diagnosis.origin.managers import manager_of
from pytest_tfleak.diagnosis.origin.new_operations import NewOperations
from pytest_tfleak.diagnosis.survivors.containers import Containers
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.longer_values import LongerValue
from pytest_tfleak.diagnosis.survivors.structure import Observed
from pytest_tfleak.diagnosis.survivors.structure import Survey
from pytest_tfleak.diagnosis.survivors.watch import Watch
from pytest_tfleak.known import Known
from pytest_tfleak.known import find_known
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.probes.heap import find_heap_reader
from pytest_tfleak.probes.host import find_rss_reader
from pytest_tfleak.run.budget import Budget
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.guard import LimitReached
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.signals import base_name
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import row_of
from pytest_tfleak.signals import signals_by_type
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import is_explained

_MOST, _MOST_AT_ALL, _FEWEST = 10, 50, 2  # iterations
_LONG_GAP = 4  # iterations between two rises
#: How much slower an iteration is while tracemalloc records allocation sites, and while
#: memray records each allocation.
_SLOWER, _NATIVE_SLOWER = 4, 10
#: The first has all kernels that stay the same; the others tell which ones are new.
_ITERATIONS_OF_KERNELS = 4

#: How often the watch runs the body for as many iterations, about, and how many
#: iterations it needs at least.
_RUNS, _LEAST_ROOM = 3, 4

NO_ROOM = (
    "There was too little room left ({resource}) to run the body again and look for "
    "who holds it. A body that takes less in each call shows it."
)
NO_TIME = "There was no time to look for who holds it; allow more with diagnose_time."
NO_TIME_FOR_LINES = (
    "There was no time to look for the lines that made it; allow more with "
    "diagnose_time."
)
NO_TIME_TO_WEIGH = (
    "There was no time to look for a value that grows in all Python objects; allow "
    "more with diagnose_time."
)
#: If Python objects explain less than this share of the growth, search native code.
_PART = 0.5


@dataclass(slots=True)
class Insights:
    """What the diagnosis found, as text and numbers."""

    groups: list[Group] = field(default_factory=list)
    observed: dict[str, Observed] = field(default_factory=dict)  # by signal
    native: NativeReport | None = None
    is_complete: bool = False  # whether the search saw all objects that may hold others
    #: The line in which a signal grows, for signals without an allocation site.
    lines: dict[str, tuple[Origin | None, tuple[Origin, ...]]] = field(
        default_factory=dict
    )
    #: The signals whose line makes kernels, and no objects.
    of_kernels: set[str] = field(default_factory=set)
    #: Files and functions of managers that are entered again before they are left.
    entered_twice: frozenset[tuple[str, str]] = frozenset()
    notes: list[str] = field(default_factory=list)

    def has_line(self, finding: Finding) -> bool:
        """Return whether the objects behind a finding have an allocation site."""
        if row_of(finding.signal, finding.unit).family == "system":
            parts = (group.parts.get(finding.signal) for group in self.groups)
            return any(part is not None and part.origin for part in parts)
        native = self.native.sites if self.native is not None else ()
        return (
            any(group.whole.origin for group in self.groups if group.is_regular)
            or any(seen.origin for seen in self.observed.values())
            or any(site.origin for site in native[:1])
        )


@dataclass(frozen=True, slots=True)
class _Task:
    """The input that all steps of an inquiry share, and the insights they add to."""

    findings: Sequence[Finding]
    iterations: int  # enough to show each growth at least twice
    after: Sequence[Callable[[], None]]  # called after each iteration
    deadline: Deadline
    is_traced: bool
    insights: Insights


class Inquiry:
    """Runs more iterations after a leak was found, and examines what they leave."""

    def __init__(
        self,
        loop: Loop,
        census: Census,
        handed: Mapping[str, object],
        older: Callable[[Collection[str]], list[object]],
        noted: Callable[[object], Sequence[Frame]],
        containers: Containers,
        budget: Budget,
    ) -> None:
        self._loop = loop
        self._census = census
        self._handed = handed
        self._older = older
        self._noted = noted
        self._containers = containers
        #: The signal of each type that the census does not count.
        self._of_type = {
            name: signal
            for name, signal in signals_by_type().items()
            if not census.watches(signal)
        }
        self._budget = budget
        self._each = budget.run_took / max(1, loop.trace.rows)

    def run(self, findings: Sequence[Finding], causes: Sequence[Known]) -> Insights:
        """Return what was found in time. Raises what the body raises.

        ``causes`` are known causes to take away while the body runs.
        """
        insights = Insights()
        deadline = self._budget.for_holders()
        slow = self._each * _SLOWER
        is_traced = _fitting(deadline, slow) >= _FEWEST
        each = slow if is_traced else self._each
        iterations = min(_fitting(deadline, each), self._iterations_for(findings))
        if iterations < _FEWEST:
            insights.notes.append(NO_TIME)
            return insights
        room = self._loop.guard.iterations_left
        if room < _LEAST_ROOM:
            insights.notes.append(self._no_room())
            return insights
        iterations = min(iterations, max(_FEWEST, room // _RUNS))
        if not is_traced:
            insights.notes.append(NO_TIME_FOR_LINES)
        with ExitStack() as stack:
            after = [away.after for away in enter_all(stack, causes)]
            task = _Task(findings, iterations, after, deadline, is_traced, insights)
            with suppress(LimitReached):
                self._look_for_new_operations(task)
            # of growth that a known cause explains, only the line is missing
            if not all(map(is_explained, findings)) or not self._finds_lines(task):
                self._watch(task)
            for look in (
                self._look_for_memory,
                self._look_for_lines,
                self._look_for_entries,
            ):
                try:
                    look(task)
                except LimitReached:
                    insights.is_complete = False
                except Exception as error:  # keep what was found so far
                    name = type(error).__name__
                    insights.notes.append(f"The diagnosis failed: {name}: {error}.")
        return insights

    def _look_for_memory(self, task: _Task) -> None:
        """Look for what uses the memory that no new objects account for."""
        insights = task.insights
        unexplained = self._unexplained(task.findings, insights)
        if unexplained is None:
            return
        in_blocks = unexplained.unit != "B"
        searched = LongerValue(
            self._loop,
            self._handed,
            unexplained.per_iteration or 0.0,
            task.iterations,
            task.after,
            task.deadline,
            in_blocks=in_blocks,
        ).find()
        if searched.group is not None:
            insights.groups.insert(0, searched.group)
            return
        if not searched.is_complete:
            insights.is_complete = False
            insights.notes.append(NO_TIME_TO_WEIGH)
        if in_blocks:
            return
        if not task.deadline.may_take(_NATIVE_SLOWER * self._each):
            insights.notes.append(_unseen(insights, NO_TIME_FOR_NATIVE))
            return
        insights.native = watch_native(
            lambda tick: self._loop.repeat(_MOST, [*task.after, tick]),
            _MOST,
            seconds=task.deadline.seconds,
        )
        why = insights.native.why
        if why is not None:
            insights.notes.append(_unseen(insights, why))

    def _finds_lines(self, task: _Task) -> bool:
        """Look for the lines of all findings; return whether that was enough."""
        with suppress(LimitReached):
            self._look_for_lines(task)
        found = task.insights.lines
        return all(found.get(f.signal, (None,))[0] for f in task.findings)

    def _look_for_lines(self, task: _Task) -> None:
        """Look for lines of user code in which figures grow at the measured rate."""
        growing = {
            f.signal: f.per_iteration
            for f in task.findings
            if f.per_iteration and not task.insights.has_line(f)
        }
        for signal, read in _readers():
            if signal not in growing or signal in task.insights.lines:
                continue
            if not task.deadline.fits(_SLOWER * self._each):
                continue
            with LineTracer(read, until=task.deadline.at) as tracer:
                self._loop.repeat(_MOST, [*task.after, tracer.tick], task.deadline)
            task.insights.lines[signal] = origin_of(tracer.stack_of(growing[signal]))

    def _look_for_new_operations(self, task: _Task) -> None:
        """Look for the line that makes kernels, if they are what grows."""
        signals = [f.signal for f in task.findings if _makes_kernels(f)]
        if not signals or not task.deadline.fits(_ITERATIONS_OF_KERNELS * self._each):
            return
        with NewOperations() as operations:
            self._loop.repeat(
                _ITERATIONS_OF_KERNELS, [*task.after, operations.tick], task.deadline
            )
        stack = operations.stack()
        if stack:
            found = origin_of(stack)
            task.insights.lines.update(dict.fromkeys(signals, found))
            task.insights.of_kernels.update(signals)

    def _look_for_entries(self, task: _Task) -> None:
        """Look for context managers that are entered again before they are left."""
        lines = (line for group in task.insights.groups for line in group.lines)
        if not manager_of(lines) or not task.deadline.fits(_SLOWER * self._each):
            return
        with Entries() as entries:
            self._loop.repeat(1, task.after, task.deadline)
        task.insights.entered_twice = frozenset(entries.twice)

    def _iterations_for(self, findings: Sequence[Finding]) -> int:
        """Return how many iterations are enough to show each growth at least twice.

        With one more, which is always examined, they are a multiple of the longest gap
        between two rises, so that growth per iteration is what was measured.
        """
        gap = self._gap_of(findings)
        times = 2 if gap > _LONG_GAP else -(-(2 * gap + 3) // gap)
        return min(_MOST_AT_ALL, gap * times - 1)

    def _gap_of(self, findings: Sequence[Finding]) -> int:
        return longest_gap_of(findings, self._loop.trace)

    def _watch(self, task: _Task) -> None:
        insights = task.insights
        survey = Survey(self._census)
        watch = Watch(
            self._loop, self._handed, self._signal_of, self._noted, self._containers
        )
        still_there = {f.signal for f in task.findings if f.per_iteration is None}

        def look(iterations: int) -> list[object]:
            insights.observed = survey.end(iterations)
            return self._older(still_there)

        survey.begin()
        kept = watch.run(
            task.iterations,
            task.deadline,
            older=look,
            asked=survey.grown_graph,
            after=task.after,
            is_traced=task.is_traced,
            rates={f.signal: f.per_iteration or 0.0 for f in task.findings},
            gap=self._gap_of(task.findings),
        )
        insights.groups, insights.is_complete = kept.groups, kept.is_complete
        grown, held = insights.observed.get("tf.graphs.ops"), kept.asked
        if grown is not None and held is not None:
            insights.observed["tf.graphs.ops"] = replace(
                grown, path=held, place=(*held.place, *grown.place)
            )
        if kept.groups:
            return
        if self._loop.guard.is_reached:
            insights.notes.append(self._no_room())
        elif not kept.is_complete:
            insights.notes.append(NO_TIME)

    def _no_room(self) -> str:
        return NO_ROOM.format(resource=self._loop.guard.narrowest.resource)

    def _unexplained(
        self, findings: Sequence[Finding], insights: Insights
    ) -> Finding | None:
        """Return a finding on memory that the objects that pile up do not explain."""
        counted = any(not is_memory(f.signal, f.unit) for f in findings)
        if counted or not insights.is_complete:
            return None
        steady = [group for group in insights.groups if group.is_steady]
        explained = sum(group.bytes for group in steady)
        for finding in findings:
            growth = finding.per_iteration or 0.0
            if _is_of_process(finding) and explained < _PART * growth:
                return finding if finding.known is None else None
        of_blocks = (f for f in findings if f.signal == "python.blocks")
        return next((f for f in of_blocks if f.known is None and not steady), None)

    def _signal_of(self, cls: type) -> str | None:
        for base in mro_of(cls):
            signal = self._of_type.get(full_name(base))
            if signal is not None:
                return signal
        return self._census.kind_of(full_name(cls))


def _unseen(insights: Insights, why: str) -> str:
    """Return that objects do not explain all of the memory, and why no stack does."""
    is_held = any(g.is_steady and not g.path.is_native for g in insights.groups)
    if is_held:
        return f"The objects found explain only part of the memory; {why}."
    return f"No Python object explains it; {why}."


def _is_of_process(finding: Finding) -> bool:
    is_on_host = row_of(finding.signal, finding.unit).family == "memory" or (
        base_name(finding.signal) in ("host.allocator", "host.tensors")
    )
    return is_on_host and finding.unit == "B"


def _makes_kernels(finding: Finding) -> bool:
    known = find_known(finding.known or "")
    return known is not None and known.makes_kernels


def _fitting(deadline: Deadline, each: float) -> int:
    """Return how many iterations fit into half of the time, at ``each`` seconds."""
    return int(deadline.share(0.5).seconds / max(each, 1e-6)) - 1


def _count_descriptors() -> int:
    import psutil

    process: Any = psutil.Process()
    on_windows = not hasattr(process, "num_fds")
    return int(process.num_handles() if on_windows else process.num_fds())


def _readers() -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the figures that can be read at each line, the most informative first."""
    yield "process.fds", _count_descriptors
    heap = find_heap_reader()
    if heap is not None:
        read = heap.read
        yield "host.heap", lambda: read() or 0
    yield "host.rss", find_rss_reader()
