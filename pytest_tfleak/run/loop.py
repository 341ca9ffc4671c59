"""Warm up, call the body, settle, read the probes: this produces a trace.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import ExitStack
from time import perf_counter
from types import TracebackType
from typing import Any

from pytest_tfleak.judge.sequential import is_settled
from pytest_tfleak.judge.sequential import warmup_of
from pytest_tfleak.judge.steps import LONGEST
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.base import GuardedProbe
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.base import ProbeError
from pytest_tfleak.probes.base import guard
from pytest_tfleak.probes.base import signals_of
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.census import Scan
from pytest_tfleak.run.bounded_caches import HeldCaches
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Budget
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.guard import Guard
from pytest_tfleak.run.guard import LimitReached
from pytest_tfleak.run.reserve import Reserve
from pytest_tfleak.tf.access import clear_keras_session
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace

#: Called after an iteration; returns whether to stop.
Look = Callable[[], bool]


class Loop:
    """Repeats a body and reads the probes after each iteration.

    Use it as a context manager: on exit, it restores the garbage collector's state.
    Exceptions of the body pass through; ``trace`` holds all readings up to then. Raises
    ProbeError if two probes have a signal of the same name, or one cannot be judged.
    """

    def __init__(
        self,
        body: Callable[[], object],
        plan: Plan,
        probes: Sequence[Probe | GuardedProbe],
        census: Census,
        on_iteration: Callable[[Trace], None] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._body = body
        self._plan = plan
        self._warmup = warmup_of(plan)
        self._census = census
        self._on_iteration = on_iteration
        self._budget = Budget(plan) if budget is None else budget
        self._reserve = Reserve()
        self._calls = array("q", [0])  # a large int in an attribute would take memory
        self._held_caches: HeldCaches | None = None
        self._started = perf_counter()
        #: How many seconds all calls of the body took.
        self.body_seconds = 0.0
        #: How many iterations have run that are not in the current trace.
        self.ran_again = 0
        #: How often the body had returned when the last judged reading was taken.
        self.calls_judged = 0
        #: How long the last refreeze took: with millions of objects, seconds.
        self.refreeze_seconds = 0.0
        #: How much the known causes that are away have added to each signal.
        self.taken_away: Mapping[str, float] = {}
        #: Called after each iteration, until the loop is left.
        self.after: list[Callable[[], None]] = []
        #: Contexts that are left together with the loop.
        self.contexts = ExitStack()
        #: Why clearing the Keras session failed, if it did.
        self.not_cleared: str | None = None
        #: Whether the judged iterations end once they show that nothing grows.
        self.is_quick = plan.depth == "quick"
        #: Called when judged iterations begin, also when they begin again.
        self.begins: Callable[[Loop], None] = lambda _: None
        #: When the judged iterations have to end.
        self.deadline = NO_DEADLINE
        self.probes = guard(probes)
        #: Ends the run before the machine runs out of something.
        self.guard = Guard(self.probes, plan)
        groups = signals_of(self.probes)
        self._offsets = _offsets_of(groups)
        self.trace = Trace(
            [signal for group in groups for signal in group],
            warmup=self._warmup,
            capacity=LONGEST * plan.iterations,
        )

    def __enter__(self) -> Loop:
        self._started = perf_counter()
        self._budget.start()
        self.deadline = self._budget.for_loop()
        self.trace.limit = self.deadline.option
        try:
            self._reserve.hold()
            self.guard.begin()
            self._census.freeze()
        except BaseException:  # such as Ctrl-C: __exit__ will not be called
            self._census.thaw()
            self._reserve.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reserve.release()
        self.release_caches()
        self.contexts.close()
        self._census.release()
        self._census.thaw()
        self.trace.seconds = self.seconds
        self.trace.trim()
        for probe in self.probes:
            probe.close()

    @property
    def seconds(self) -> float:
        """Return how long the run has taken until now."""
        return perf_counter() - self._started

    @property
    def calls(self) -> int:
        """Return how often the body has returned."""
        return self._calls[0]

    @property
    def is_out_of_time(self) -> bool:
        """Return whether it is too late for another judged iteration."""
        return self.deadline.seconds < 0

    @property
    def failures(self) -> dict[str, str]:
        """Return the errors of probes that failed, by name of the probe."""
        return {p.name: p.failure for p in self.probes if p.failure is not None}

    def warm_up(self, look: Look | None = None) -> None:
        """Run the iterations that are not judged, then freeze the objects they left.

        They end once ``look``, which is called after each, returns True.
        """
        __tracebackhide__ = True
        for _ in range(self._warmup):
            if self.is_out_of_time:
                break
            self.iterate(self.trace)
            self.trace.warmed_up += 1
            if look is not None and look():
                break
        if self._plan.clear_session != "never":
            self.clear()
        self._census.freeze()
        # the body may have imported TensorFlow, which adds signals
        self._widen()

    def measure(self, look: Look | None = None) -> None:
        """Run the judged iterations.

        They end once ``look``, which is called after each, returns True. At quick depth
        they also end once they show that nothing grows; if all run, the first ones
        complete the warm-up, as in a run of full depth.
        """
        __tracebackhide__ = True
        if not self.trace.judged:
            self.begins(self)
        is_quick = self.is_quick
        missing = max(0, self._plan.warmup - self.trace.warmed_up) if is_quick else 0
        while self.trace.measured < self._plan.iterations + missing:
            if self.trace.is_settled or self.is_out_of_time:
                return
            self.iterate(self.trace)
            self.trace.measured += 1
            if any(probe.has_more_signals() for probe in self.probes):
                self._widen()
            if look is not None and look():
                return
            self.trace.is_settled = is_quick and is_settled(self.trace, self._plan)
        if is_quick:
            self.trace.begin_later(self._plan.warmup)

    def start_over(self, warmup: int) -> None:
        """Begin a new trace for what changes now; its warm-up runs at once.

        If there is no room for another iteration, the earlier trace stays.
        """
        __tracebackhide__ = True
        found = self.trace
        if self.guard.is_reached:
            return
        self.ran_again += found.rows
        self.trace = Trace(
            found.signals, warmup=warmup, capacity=LONGEST * self._plan.iterations
        )
        self.trace.limit, self.trace.taken_away = found.limit, self.taken_away
        if self._plan.clear_session != "never":
            self.clear()
        while self.trace.warmed_up < warmup and not self.is_out_of_time:
            self.iterate(self.trace)
            self.trace.warmed_up += 1
        self._census.freeze()

    def iterate(
        self,
        trace: Trace,
        after: Sequence[Callable[[], None]] = (),
        *,
        deep: bool = False,
    ) -> None:
        """Call the body and then ``after``, and read the next row of a trace.

        ``deep`` adds the slow readings, which take 20 ms. The caller counts the row, as
        warm-up, measured or confirmed. Raises LimitReached if there is no room for
        another iteration.
        """
        __tracebackhide__ = True
        self._check_room()
        row = trace.next_row()
        trace.body_seconds += self._call(after)
        self._census.iterations += 1
        self._read(trace.buffer, row * trace.width, deep=deep)
        self.guard.check()
        if self._on_iteration is not None:
            self._on_iteration(trace)

    def look(self, *, deep: bool = False) -> array[int]:
        """Read all probes that allow it once, without adding to a trace."""
        readings = array("q", [MISSING]) * self.trace.width
        self.look_into(readings, 0, deep=deep)
        return readings

    def look_into(
        self, readings: array[int], start: int, *, deep: bool = False
    ) -> None:
        """Read as ``look`` does, into a buffer that is there already."""
        self._read(readings, start, lambda probe: probe.is_readable_anytime, deep)

    def release_reserve(self) -> None:
        """Free the reserve, after the body has used up all other resources."""
        self._reserve.release()

    def hold(self, caches: HeldCaches) -> bool:
        """Keep caches at their size until the loop is left; return whether it works."""
        self._held_caches = caches
        return caches.hold()

    def release_caches(self) -> None:
        """Let the caches grow that are kept at their size."""
        if self._held_caches is not None:
            self._held_caches.release()

    def go_back_to(self, trace: Trace) -> None:
        """Continue with an earlier trace of this run, with the signals added since."""
        if trace.signals != self.trace.signals:
            trace = trace.wider(self.trace.signals)
        self.trace = trace

    def clear(self) -> None:
        """Clear the Keras session; if that fails, remember why."""
        why = clear_keras_session()
        if why is not None:
            self.not_cleared = why

    def note_reasons(self, trace: Trace) -> None:
        """Record in a trace which readings are missing or untrusted, and why."""
        for probe in self.probes:
            trace.reasons.update(probe.reasons())
            trace.codes.update(probe.codes())
            trace.untrusted.update(probe.untrusted())
            if probe.failure is not None:
                for signal in probe.signals():
                    trace.untrusted.add(signal.name)
                    trace.reasons[signal.name] = probe.failure

    def freeze(self) -> None:
        """Make the census ignore all objects that exist now."""
        self._census.freeze()

    def set_apart(self, scan: Scan) -> frozenset[int]:
        """Freeze what was made since the last freeze, and return the ids of it."""
        return self._census.set_apart(scan)

    def recall(
        self, apart: frozenset[int], scan: Scan
    ) -> tuple[list[Any], frozenset[int]]:
        """Return what is alive of it, with what is newer, and the ids of the latter."""
        return self._census.recall(apart, scan)

    def refreeze(self, look: Callable[[list[Any]], None] | None = None) -> None:
        """Collect all garbage, even frozen objects, and freeze the rest.

        ``look`` is called with all objects in between.
        """
        started = perf_counter()
        self._census.refreeze(look)
        self.refreeze_seconds = perf_counter() - started

    def thawed(self, *, is_last: bool = False) -> AbstractContextManager[None]:
        """Make frozen objects visible to a search, and freeze them again after it.

        If it ``is_last``, no probe may be read after it.
        """
        return self._census.thawed(is_last=is_last)

    def survivors(self) -> dict[str, int]:
        """Count the living objects made since the last freeze, by type."""
        return self._census.survivors()

    def run_again(
        self,
        after: Sequence[Callable[[], None]] = (),
        *,
        warmup: int,
        iterations: int,
        wanted: Callable[[Trace], int] = lambda _: 0,
        deadline: Deadline = NO_DEADLINE,
        clear: bool = True,
    ) -> Trace:
        """Run more iterations, call ``after`` after each, and return a new trace.

        ``wanted`` decides from that trace how many iterations follow to confirm it. One
        iteration always runs, even past the deadline; raises LimitReached if there is
        no room for it. ``clear=False`` keeps the Keras session, whatever the plan says.
        """
        self._check_room()
        trace = Trace(self.trace.signals, warmup=warmup, capacity=LONGEST * iterations)
        trace.limit, trace.taken_away = deadline.option, self.taken_away
        if clear and self._plan.clear_session != "never":
            self.clear()  # before the first row, whose growth it could hide otherwise
        try:
            while trace.warmed_up < warmup and not self.guard.is_reached:
                self.iterate(trace, after)
                trace.warmed_up += 1
            while trace.measured < iterations and self._fits(trace, deadline):
                self.iterate(trace, after)
                trace.measured += 1
            if trace.measured < iterations:
                return trace
            while more := wanted(trace):
                end = trace.confirmed + more
                while trace.confirmed < end and self._fits(trace, deadline):
                    self.iterate(trace, after)
                    trace.confirmed += 1
                if trace.confirmed < end:
                    break
            return trace
        finally:
            self.ran_again += trace.rows

    def repeat(
        self,
        iterations: int,
        after: Sequence[Callable[[], None]],
        deadline: Deadline = NO_DEADLINE,
    ) -> int:
        """Run iterations without reading probes, and return how many ran.

        One iteration always runs, even past the deadline; raises LimitReached if there
        is no room for it.
        """
        self._check_room()
        for done in range(1, iterations + 1):
            started = perf_counter()
            self._call(after)
            self.ran_again += 1
            self._census.take()  # also collects garbage
            self._census.release()
            self.guard.check()
            if self._on_iteration is not None:
                self._on_iteration(self.trace)
            is_late = not deadline.fits(perf_counter() - started)
            if is_late or self.guard.is_reached:
                return done
        return iterations

    def _check_room(self) -> None:
        if self.guard.is_reached:
            raise LimitReached(self.guard.describe())

    def _fits(self, trace: Trace, deadline: Deadline) -> bool:
        """Return whether there is room and time for another iteration.

        There is always time for the first.
        """
        if self.guard.is_reached:
            return False
        return not trace.rows or deadline.fits(trace.body_seconds / trace.rows)

    def _widen(self) -> None:
        """Add the signals to the trace that the probes have gained."""
        while True:
            try:
                groups = signals_of(self.probes)
                break
            except ProbeError as error:  # too late for a usage error: drop that probe
                error.probe.drop(str(error))
        self._offsets = _offsets_of(groups)
        narrow = self.trace
        self.trace = narrow.wider([s for group in groups for s in group])
        narrow.trim()
        self.guard.begin()

    def _read(
        self,
        buffer: array[int],
        start: int,
        is_read: Callable[[GuardedProbe], bool] = lambda _: True,
        deep: bool = False,
    ) -> None:
        self._census.take()
        with self._reserve.lent():
            for probe in self.probes:
                if is_read(probe):
                    probe.settle()
            for probe, offset in zip(self.probes, self._offsets, strict=True):
                if is_read(probe):
                    probe.read(buffer, start + offset, deep)
        self._census.release()

    def _call(self, after: Sequence[Callable[[], None]]) -> float:
        """Call the body and then ``after``; return how many seconds the body took."""
        __tracebackhide__ = True
        started = perf_counter()
        self._body()
        seconds = perf_counter() - started
        self._calls[0] += 1
        self.body_seconds += seconds
        for call in after:
            call()
        for call in self.after:
            call()
        if self._held_caches is not None:
            self._held_caches.trim()
        if self._plan.clear_session == "iteration":
            self.clear()
        return seconds


def _offsets_of(groups: Sequence[tuple[Signal, ...]]) -> tuple[int, ...]:
    """Return where the readings of each probe begin in a row."""
    widths = [len(group) for group in groups]
    return tuple(sum(widths[:k]) for k in range(len(widths)))
