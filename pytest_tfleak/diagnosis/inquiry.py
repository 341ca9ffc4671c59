"""Find out who holds what piles up and which line made it, inside a budget of time.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from time import perf_counter
from typing import Any

from pytest_tfleak.census import Census
from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.containers import Containers
from pytest_tfleak.diagnosis.experiments import enter_all
from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.lines import Lines
from pytest_tfleak.diagnosis.longer_values import find_longer_value
from pytest_tfleak.diagnosis.native import NativeReport
from pytest_tfleak.diagnosis.native import watch_native
from pytest_tfleak.diagnosis.origins import Frame
from pytest_tfleak.diagnosis.origins import origin_of
from pytest_tfleak.diagnosis.survey import Observed
from pytest_tfleak.diagnosis.survey import Survey
from pytest_tfleak.diagnosis.survivors import Watch
from pytest_tfleak.growth import longest_gap
from pytest_tfleak.known import Known
from pytest_tfleak.loop import Loop
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin

_MOST, _FEWEST = 10, 2  # iterations
#: How much slower an iteration is while Python remembers who allocates.
_SLOWER = 4
_mro = type.__dict__["__mro__"].__get__

NO_TIME = "There was no time to look for who holds it; allow more with diagnose_time."
NO_TIME_FOR_LINES = (
    "There was no time to look for the lines that made it; allow more with "
    "diagnose_time."
)
_HEAP = ("host.heap", "host.rss")
#: Python objects that explain less than this share of the growth leave a question.
_PART = 0.5

#: Types that the operating system's figures count.
_OF_SYSTEM = {
    "threading.Thread": "process.threads",
    "_io.FileIO": "process.fds",
    "tensorflow.python.lib.io.file_io.FileIO": "process.fds",
    "h5py._hl.files.File": "process.fds",
    "sqlite3.Connection": "process.fds",
    "mmap.mmap": "process.fds",
    "socket.socket": "process.fds",
    "select.epoll": "process.fds",
    "subprocess.Popen": "process.children",
    "multiprocessing.process.BaseProcess": "process.children",
}


@dataclass(slots=True)
class Insights:
    """What was found out, in words and numbers."""

    groups: list[Group] = field(default_factory=list)
    observed: dict[str, Observed] = field(default_factory=dict)  # by signal
    native: NativeReport | None = None
    is_complete: bool = False  # whether all that could hold something was seen
    #: The line in which a signal grows, where nothing else tells one.
    lines: dict[str, tuple[Origin | None, tuple[Origin, ...]]] = field(
        default_factory=dict
    )

    @property
    def has_line(self) -> bool:
        """Say whether something that piles up tells who made it."""
        native = self.native.sites if self.native is not None else ()
        return (
            any(g.whole.origin for g in self.groups if g.is_regular)
            or any(seen.origin for seen in self.observed.values())
            or any(site.origin for site in native[:1])
        )

    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Task:
    """What the steps of an inquiry are given, and where they put what they find."""

    findings: Sequence[Finding]
    iterations: int  # that show each growth twice or more
    after: Sequence[Callable[[], None]]  # runs after each iteration
    until: float
    is_traced: bool
    insights: Insights


class Inquiry:
    """Looks at what more iterations leave, after a LEAK verdict."""

    def __init__(
        self,
        loop: Loop,
        census: Census,
        handed: Mapping[str, object],
        older: Callable[[Collection[str]], list[object]],
        noted: Callable[[object], Sequence[Frame]],
        containers: Containers,
    ) -> None:
        self._loop = loop
        self._census = census
        self._handed = handed
        self._older = older
        self._noted = noted
        self._containers = containers
        self._each = loop.seconds_per_iteration * _SLOWER

    def run(
        self, findings: Sequence[Finding], causes: Sequence[Known], until: float
    ) -> Insights:
        """Return what was found out until then. Raises what the body raises.

        ``causes`` are taken away: what they keep is known already.
        """
        insights = Insights()
        is_traced = self._fitting(until, self._each) >= _FEWEST
        each = self._each if is_traced else self._each / _SLOWER
        iterations = min(self._fitting(until, each), self._iterations_for(findings))
        if iterations < _FEWEST:
            insights.notes.append(NO_TIME)
            return insights
        if not is_traced:
            insights.notes.append(NO_TIME_FOR_LINES)
        with ExitStack() as stack:
            after = [away.after for away in enter_all(stack, causes)]
            task = _Task(findings, iterations, after, until, is_traced, insights)
            self._watch(task)
            for look in (self._look_for_memory, self._look_for_lines):
                try:
                    look(task)
                except Exception as error:  # what was found out until now stands
                    name = type(error).__name__
                    insights.notes.append(f"The diagnosis failed: {name}: {error}.")
        return insights

    def _look_for_memory(self, task: _Task) -> None:
        """Look for what takes up memory that no objects account for."""
        insights = task.insights
        unexplained = self._unexplained(task.findings, insights)
        if unexplained is None:
            return
        rate = unexplained.per_iteration or 0.0
        value = find_longer_value(
            self._loop, self._handed, rate, task.iterations, task.after, task.until
        )
        if value is not None:
            insights.groups.insert(0, value)
            return
        insights.native = watch_native(
            lambda tick: self._loop.repeat(_MOST, [*task.after, tick]),
            _MOST,
            seconds=task.until - perf_counter(),
        )
        why = insights.native.why
        if why is not None:
            insights.notes.append(f"No Python object explains it; {why}.")

    def _look_for_lines(self, task: _Task) -> None:
        """Look for the user's lines in which figures grow as fast as was found."""
        if task.insights.has_line:
            return
        growing = {f.signal: f.per_iteration for f in task.findings if f.per_iteration}
        for signal, read in _READERS.items():
            left = task.until - perf_counter()
            if signal not in growing or left < self._each:
                continue
            self._loop.refreeze()  # the search for holders thawed all there is
            with Lines(read, task.until) as lines:
                self._loop.repeat(_MOST, [*task.after, lines.tick], seconds=left)
            line = lines.line_of(growing[signal])
            origin = origin_of([line] if line is not None else [])
            task.insights.lines[signal] = origin

    def _fitting(self, until: float, each: float) -> int:
        """Return for how many iterations of so many seconds there is time."""
        return int((until - perf_counter()) / 2 / max(each, 1e-6)) - 1

    def _iterations_for(self, findings: Sequence[Finding]) -> int:
        """Return how many iterations show each growth twice or more."""
        gaps = [
            longest_gap(self._loop.trace.judged_series(f.signal), f.per_iteration)
            for f in findings
            if f.per_iteration is not None
        ]
        return min(_MOST, 2 * max(gaps, default=_MOST) + 2)

    def _watch(self, task: _Task) -> None:
        insights = task.insights
        survey = Survey(self._census)
        watch = Watch(
            self._loop, self._handed, self._signal_of, self._noted, self._containers
        )
        still_there = {f.signal for f in task.findings if f.per_iteration is None}

        def look() -> list[object]:
            insights.observed = survey.end(watch.runs)
            return self._older(still_there)

        survey.begin()
        insights.groups = watch.run(
            task.iterations,
            task.until,
            older=look,
            asked=survey.grown_graph,
            after=task.after,
            is_traced=task.is_traced,
        )
        insights.is_complete = watch.is_complete
        grown, held = insights.observed.get("tf.graphs.ops"), watch.asked
        if grown is not None and held is not None:
            insights.observed["tf.graphs.ops"] = replace(
                grown, edges=held.edges, erased=f"{held.erased} {grown.erased}"
            )
        if not watch.is_complete and not insights.groups:
            insights.notes.append(NO_TIME)

    def _unexplained(
        self, findings: Sequence[Finding], insights: Insights
    ) -> Finding | None:
        """Return growth of memory that nothing which piles up accounts for."""
        counted = any(f.unit not in ("B", "blocks", "objects") for f in findings)
        if counted or not insights.is_complete:
            return None
        explained = sum(group.bytes for group in insights.groups if group.is_steady)
        for finding in findings:
            growth = finding.per_iteration or 0.0
            if finding.signal in _HEAP and explained < _PART * growth:
                return finding if finding.known is None else None
        return None

    def _signal_of(self, cls: type) -> str | None:
        for base in _mro(cls):
            signal = _OF_SYSTEM.get(full_name(base))
            if signal is not None:
                return signal
        return self._census.kind_of(full_name(cls))


def _read_heap() -> int:
    import psutil

    heap = psutil.heap_info()
    return int(heap.heap_used + heap.mmap_used)


def _count_descriptors() -> int:
    import psutil

    process: Any = psutil.Process()
    on_windows = not hasattr(process, "num_fds")
    return int(process.num_handles() if on_windows else process.num_fds())


#: What can be read at each line, the most telling first.
_READERS = {
    "process.fds": _count_descriptors,
    "host.heap": _read_heap,
}
