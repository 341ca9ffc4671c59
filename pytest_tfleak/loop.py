"""Warm up, settle, call, read: turns a body and some probes into a trace.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from collections.abc import Sequence
from math import inf
from time import perf_counter
from time import sleep
from types import TracebackType
from typing import Any

from pytest_tfleak.bounded import BoundedCaches
from pytest_tfleak.census import Census
from pytest_tfleak.observed import clear_keras_session
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace

_OF_MEMORY = ("B", "blocks", "objects")  # units
MOMENT = 1.2  # seconds: longer than a timer or a thread that flushes mostly waits


class Loop:
    """Repeats a body and reads the probes after each iteration.

    A context manager: the collector is as before when it is left, however it is left.
    Body exceptions pass through; ``trace`` holds what was read until then.
    """

    def __init__(
        self,
        body: Callable[[], object],
        plan: Plan,
        probes: Sequence[Probe],
        census: Census,
        on_iteration: Callable[[Trace], None] | None = None,
    ) -> None:
        self._body = body
        self._plan = plan
        self._probes = tuple(probes)
        self._census = census
        self._on_iteration = on_iteration
        self._offsets: tuple[int, ...] = ()
        self._started = perf_counter()
        self._seconds_each = 0.0
        self._base: Sequence[int] = ()  # read before the confirmation
        self._confirming = array("d", [0.0, 0.0])  # from when to when
        self._caches = BoundedCaches()
        #: How many iterations ``run_again`` has run.
        self.ran_again = 0
        #: Probes that failed, by name, and why: they are read no more.
        self.broken: dict[str, str] = {}
        #: Why the Keras session could not be cleared, where that was tried.
        self.not_cleared: str | None = None
        self.trace = self._new_trace()

    def __enter__(self) -> Loop:
        self._started = perf_counter()
        self._census.freeze()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._census.release()
        self._census.thaw()
        self.trace.seconds = perf_counter() - self._started
        for probe in self._probes:
            if probe.name not in self.broken:
                self.trace.reasons.update(probe.reasons())
                self.trace.codes.update(probe.codes())
            probe.close()

    def warm_up(self) -> None:
        """Run the iterations that are not judged, then draw the baseline."""
        __tracebackhide__ = True
        for _ in range(self._plan.warmup):
            if self._is_out_of_time():
                break
            self._iterate(self.trace)
            self.trace.warmed_up += 1
        if self._plan.clear_session != "never":
            self.clear()
        self._census.freeze()
        # TensorFlow may have been imported, or have found its devices, by now
        self._widen()

    def measure(self) -> None:
        """Run the judged iterations."""
        __tracebackhide__ = True
        while self.trace.measured < self._plan.iterations:
            if self._is_out_of_time():
                return
            self._iterate(self.trace)
            self.trace.measured += 1
            if any(probe.has_more_signals() for probe in self._probes):
                self._widen()

    def confirm(self) -> None:
        """Run up to as many iterations again."""
        __tracebackhide__ = True
        before = self._look()
        self._base = self.rested(self._caches.note)
        self._confirming[0] = self._confirming[1] = perf_counter()
        while self.trace.confirmed < self._plan.iterations:
            if self._is_out_of_time():
                break
            self._iterate(self.trace)
            self.trace.confirmed += 1
            self._confirming[1] = perf_counter()
        # not before: it takes memory
        for signal, was, now in zip(
            self.trace.signals, before, self._base, strict=True
        ):
            if signal.unit in _OF_MEMORY and MISSING not in (was, now):
                self.trace.collected[signal.name] = was - now

    def look_again(self) -> None:
        """Note what the confirmation has left for good."""
        if not self._is_out_of_time():
            self.note_kept(self.trace, self._base, self.trace.confirmed)

    def fill_caches(self, most: int) -> bool:
        """Go on until the caches with an end are full that grew in the confirmation.

        What has run by then is warm-up. Returns False, and leaves the trace as it was,
        where no cache grew or where it takes more than ``most`` iterations.
        """
        __tracebackhide__ = True
        if not self._caches.find_filling(self.trace.confirmed, most):
            return False
        trace = self._new_trace(warmup=self.trace.rows + most)
        trace.take_over(self.trace)
        trace.warmed_up, trace.measured, trace.confirmed = self.trace.rows, 0, 0
        while not self._caches.are_full():
            if trace.warmed_up == trace.warmup or self._is_out_of_time():
                return False
            self._iterate(trace)
            trace.warmed_up += 1
            if trace.warmed_up % self._plan.iterations == 0:
                self._census.freeze()  # or each one looks at all that came before
        trace.warmup = trace.warmed_up
        self._census.refreeze()
        self.trace = trace
        return True

    def rested(self, look: Callable[[list[Any]], None] | None = None) -> array[int]:
        """Let go of garbage, give threads a moment, and read what may be read then."""
        if threading.active_count() > 1:
            sleep(MOMENT)
        self._census.refreeze(look)
        return self._look()

    def note_kept(self, trace: Trace, base: Sequence[int], iterations: int) -> None:
        """Note in a trace what grew for good in so many iterations since a reading.

        What went out of a cache stays until the collector may look at what is frozen,
        and a thread may need a moment to finish: neither is a leak. ``base`` was read
        by ``rested``.
        """
        trace.kinds.update(self._census.survivors())  # nobody sees them afterwards
        for signal, was, now in zip(trace.signals, base, self.rested(), strict=True):
            if MISSING not in (was, now):
                trace.kept[signal.name] = (now - was) / max(1, iterations)

    def end_judging(self) -> None:
        """Note how long an iteration took, before others run that nobody judges."""
        self._seconds_each = self.seconds / max(1, self.trace.rows)

    def distrust_broken(self, trace: Trace) -> None:
        """Take what failed, and what a probe itself distrusts, out of the judging."""
        for probe in self._probes:
            trace.untrusted.update(probe.untrusted())
            if probe.name in self.broken:
                for signal in self._signals(probe):
                    trace.untrusted.add(signal.name)
                    trace.reasons[signal.name] = self.broken[probe.name]

    def refreeze(self, look: Callable[[list[Any]], None] | None = None) -> None:
        """Let go of what became garbage, and look at what is made from now on."""
        self._census.refreeze(look)

    def run_again(
        self,
        after: Sequence[Callable[[], None]] = (),
        *,
        warmup: int,
        iterations: int,
        confirm: Callable[[Trace], bool] | None = None,
        seconds: float = inf,
        clear: bool = True,
    ) -> Trace:
        """Run more iterations, with calls after each, and return a trace of their own.

        ``confirm`` says of that trace whether as many iterations again must follow. A
        run that takes more than so many seconds ends after the iteration in hand.
        ``clear=False`` leaves the Keras session as it is, whatever the plan says.
        """
        trace = Trace(self.trace.signals, warmup=warmup, capacity=2 * iterations)
        until = perf_counter() + seconds
        if clear and self._plan.clear_session != "never":
            self.clear()  # now: what it releases must not hide what the first rows add
        while trace.warmed_up < warmup:
            self._iterate(trace, after)
            trace.warmed_up += 1
        while trace.measured < iterations and (
            not trace.rows or perf_counter() < until
        ):
            self._iterate(trace, after)
            trace.measured += 1
        while (
            confirm is not None
            and trace.confirmed < iterations
            and perf_counter() < until
            and (trace.confirmed or confirm(trace))
        ):
            self._iterate(trace, after)
            trace.confirmed += 1
        self.ran_again += trace.rows
        return trace

    def repeat(
        self,
        iterations: int,
        after: Sequence[Callable[[], None]],
        *,
        seconds: float = inf,
    ) -> int:
        """Run iterations that nobody reads, with calls after each; return how many."""
        until = perf_counter() + seconds
        for done in range(1, iterations + 1):
            self._call(after)
            self._census.take()  # collects
            self._census.release()
            if perf_counter() > until:
                return done
        return iterations

    @property
    def seconds(self) -> float:
        """Return how long the run has taken until now."""
        return perf_counter() - self._started

    @property
    def seconds_per_iteration(self) -> float:
        """Return how long an iteration of the judged run took."""
        return self._seconds_each

    @property
    def confirming(self) -> float:
        """Return how many seconds the confirmation took, without its pauses."""
        return self._confirming[1] - self._confirming[0]

    @property
    def seconds_left(self) -> float:
        """Return how much of ``max_time`` is left."""
        limit = self._plan.max_time
        return inf if limit is None else self._started + limit - perf_counter()

    def clear(self) -> None:
        """Clear the Keras session, and remember why where that is not possible."""
        why = clear_keras_session()
        if why is not None:
            self.not_cleared = why

    def _widen(self) -> None:
        wider = self._new_trace()
        wider.take_over(self.trace)
        self.trace = wider

    def _new_trace(self, warmup: int | None = None) -> Trace:
        signals = [self._signals(probe) for probe in self._probes]
        widths = [len(group) for group in signals]
        self._offsets = tuple(sum(widths[:k]) for k in range(len(widths)))
        return Trace(
            [signal for group in signals for signal in group],
            warmup=self._plan.warmup if warmup is None else warmup,
            capacity=2 * self._plan.iterations,
        )

    def _signals(self, probe: Probe) -> tuple[Signal, ...]:
        try:
            return tuple(probe.signals())
        except Exception as error:
            self.broken[probe.name] = f"{type(error).__name__}: {error}"
            return ()

    def _iterate(self, trace: Trace, after: Sequence[Callable[[], None]] = ()) -> None:
        __tracebackhide__ = True
        row = trace.rows
        trace.body_seconds += self._call(after)
        self._census.iterations += 1
        deep = row % self._plan.iterations == 0  # milliseconds: once in each part
        self._read(trace.buffer, row * trace.width, deep=deep)
        if self._on_iteration is not None:
            self._on_iteration(trace)

    def _look(self) -> array[int]:
        """Read once, outside of the trace, the probes that allow it."""
        readings = array("q", [MISSING]) * self.trace.width
        self._read(readings, 0, lambda probe: probe.is_readable_anytime)
        return readings

    def _read(
        self,
        buffer: array[int],
        start: int,
        is_read: Callable[[Probe], bool] = lambda _: True,
        deep: bool = False,
    ) -> None:
        self._census.take()
        for probe in self._probes:
            if probe.name not in self.broken and is_read(probe):
                self._guard(probe, probe.settle)
        for probe, offset in zip(self._probes, self._offsets, strict=True):
            if probe.name not in self.broken and is_read(probe):
                self._guard(probe, probe.read, buffer, start + offset, deep)
        self._census.release()

    def _call(self, after: Sequence[Callable[[], None]]) -> float:
        """Call the body and what comes after it; return the seconds of the body."""
        __tracebackhide__ = True
        started = perf_counter()
        self._body()
        seconds = perf_counter() - started
        for call in after:
            call()
        if self._plan.clear_session == "iteration":
            self.clear()
        return seconds

    def _guard(self, probe: Probe, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # of the probe's making: not the test's failure
            self.broken[probe.name] = f"{type(error).__name__}: {error}"

    def _is_out_of_time(self) -> bool:
        return self.seconds_left < 0
