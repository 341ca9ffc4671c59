"""How long each stage of one measurement may take, and which option sets that limit.

A budget is made once, from the options and from the test's own timeout, and handed
down: no stage sets its own limits. Each option bounds one stage. The test's timeout
bounds all of them together, so each stage has to leave a share of it to the next ones.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from math import inf
from time import perf_counter

from pytest_tfleak.plan import Plan

#: The share of ``diagnose_time`` for experiments; the rest is for holders and lines.
EXPERIMENTS = 0.6
#: The shares of the time until the test's own timeout by which each stage must end. The
#: rest is for restoring the state that the test changed, and for its teardown.
_LOOP, _CAUSES, _SECOND_RUN, _HOLDERS = 0.45, 0.55, 0.8, 0.87
TIMEOUT = "the test's timeout"


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a stage has to end, on ``perf_counter``'s clock.

    ``option`` names the option that sets it. ``latest`` is set by the test's timeout:
    not even a stage that is granted a few seconds more may pass it.
    """

    at: float = inf
    option: str = ""
    latest: float = inf

    @property
    def seconds(self) -> float:
        """Return how many seconds are left, negative after the deadline."""
        return self.at - perf_counter()

    def fits(self, seconds: float) -> bool:
        """Return whether a step of this many seconds would end before the deadline."""
        return seconds <= self.seconds

    def may_take(self, seconds: float) -> bool:
        """Return whether a step of at most this many seconds ends before ``latest``."""
        return perf_counter() + seconds <= self.latest

    def share(self, part: float) -> Deadline:
        """Return a deadline at this part of the time that is left."""
        if self.at == inf:
            return self
        now = perf_counter()
        return replace(self, at=now + part * max(0.0, self.at - now))

    def at_least(self, seconds: float) -> Deadline:
        """Return a deadline at least this many seconds from now, up to ``latest``."""
        at = max(self.at, min(perf_counter() + seconds, self.latest))
        return replace(self, at=at)


NO_DEADLINE = Deadline()


class Budget:
    """Computes the deadline of each stage when that stage begins.

    ``test_ends`` is when the test's own timeout expires.
    """

    def __init__(self, plan: Plan, *, test_ends: float = inf) -> None:
        self._max_time = inf if plan.max_time is None else plan.max_time
        self._diagnose_time = plan.diagnose_time
        self._test_ends = test_ends
        self._started = self._diagnosed = perf_counter()
        #: How many seconds the judged run took.
        self.run_took = 0.0

    def start(self) -> None:
        """Note that the loop starts now."""
        self._started = perf_counter()

    def start_diagnosis(self) -> None:
        """Note that the judged run has ended and the diagnosis starts now."""
        self._diagnosed = perf_counter()
        self.run_took = self._diagnosed - self._started

    def for_loop(self) -> Deadline:
        """Return when the judged run has to end."""
        return self._deadline(self._started + self._max_time, _LOOP, "max_time")

    def for_early_causes(self) -> Deadline:
        """Return when experiments in the middle of the judged run have to end."""
        own = self._deadline(perf_counter() + self._diagnose_time, _LOOP)
        return min(own, self.for_loop(), key=lambda deadline: deadline.at)

    def for_causes(self) -> Deadline:
        """Return when the experiments that decide the verdict have to end."""
        return self._deadline(self._diagnosed + self._diagnose_time, _CAUSES)

    def for_remedies(self) -> Deadline:
        """Return when the experiments that only explain the verdict have to end."""
        seconds = EXPERIMENTS * self._diagnose_time
        return self._deadline(self._diagnosed + seconds, _CAUSES)

    def for_second_run(self) -> Deadline:
        """Return when the second judged run, without the known causes, has to end."""
        # twice the first run's time: load from other processes may slow this one down
        seconds = max(self._diagnose_time, 2 * self.run_took)
        return self._deadline(perf_counter() + seconds, _SECOND_RUN)

    def for_holders(self) -> Deadline:
        """Return when the search for holders and lines has to end."""
        rest = perf_counter() + (1 - EXPERIMENTS) * self._diagnose_time
        at = max(rest, self._diagnosed + self._diagnose_time)
        return self._deadline(at, _HOLDERS)

    def _deadline(
        self, at: float, share: float, option: str = "diagnose_time"
    ) -> Deadline:
        if self._test_ends == inf:
            return Deadline(at, option)
        latest = self._started + share * (self._test_ends - self._started)
        if at <= latest:
            return Deadline(at, option, latest)
        return Deadline(latest, TIMEOUT, latest)
