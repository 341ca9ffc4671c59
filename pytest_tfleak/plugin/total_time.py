"""Share a limited time for measuring among the tests of a run.

Tests are measured in turn while time is left. Those that were never measured, or
longest ago, are sure of their turn: others wait for a later run if, to judge by earlier
runs, there is no time for all. The order of the tests stays.
"""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from math import inf
from statistics import fmean
from time import perf_counter
from typing import TYPE_CHECKING
from typing import Any

import pytest

if TYPE_CHECKING:
    from pytest_tfleak.verdict import Verdict

_KEY = "tfleak/measured"
_MOST_TESTS = 20_000
_MOST = 2**62  # anybody may have written the file
#: The number of the run in which a test was last measured, and how long that took.
Turn = tuple[int, float]


class TotalTime:
    """Decides which tests there is time to measure; ``seconds`` is inf without a limit.

    Each xdist worker has that time for itself, since workers run side by side.
    """

    def __init__(self, config: pytest.Config, seconds: float) -> None:
        self._config = config
        self._left = seconds
        self._total = seconds
        #: How long the chosen tests that are yet to be measured are expected to take;
        #: None without a choice.
        self._waiting: dict[str, float] | None = None
        self._turns: dict[str, Turn] = {}

    def choose(self, nodeids: Sequence[str]) -> None:
        """Choose those of the tests that are sure of their turn."""
        if self._total < inf:
            workers = getattr(self._config, "workerinput", {}).get("workercount", 1)
            self._turns = self._read()
            chosen = choose_tests(nodeids, self._turns, self._total * workers)
            self._waiting = {nodeid: self._expected(nodeid) for nodeid in chosen}

    def has_turn(self, nodeid: str) -> bool:
        """Return whether to measure a test in this run.

        A test that was not chosen is measured if there is time for it and for those
        that are still waiting.
        """
        if self._left <= 0:
            return False
        if self._waiting is None or self._waiting.pop(nodeid, None) is not None:
            return True
        return self._expected(nodeid) + sum(self._waiting.values()) <= self._left

    @property
    def why_not(self) -> str:
        """Return why a test is not measured, as text."""
        if self._left <= 0:
            return "max_total_time is used up"
        return "the rest of max_total_time is for tests that have waited longer"

    def _expected(self, nodeid: str) -> float:
        if nodeid in self._turns:
            return self._turns[nodeid][1]
        return typical_seconds(self._turns)

    @contextmanager
    def spent(self) -> Generator[None, None, None]:
        """Take the time of the block from what is left."""
        started = perf_counter()
        try:
            yield
        finally:
            self._left -= perf_counter() - started

    def remember(self, verdicts: Sequence[Verdict]) -> None:
        """Store which tests had their turn in this run."""
        cache = getattr(self._config, "cache", None)
        if cache is None or self._total == inf:
            return
        known = self._read()
        number = 1 + max((turn[0] for turn in known.values()), default=0)
        for verdict in verdicts:
            if not is_without_turn(verdict):
                known[verdict.nodeid] = (number, verdict.seconds)
        latest = sorted(known, key=lambda nodeid: -known[nodeid][0])[:_MOST_TESTS]
        cache.set(_KEY, {nodeid: list(known[nodeid]) for nodeid in latest})

    def _read(self) -> dict[str, Turn]:
        cache = getattr(self._config, "cache", None)
        stored: Any = None if cache is None else cache.get(_KEY, None)
        if not isinstance(stored, dict):
            return {}
        turns: dict[str, Turn] = {}
        for nodeid, turn in stored.items():
            match turn:
                case [int(number), int() | float() as seconds] if (
                    0 <= number < _MOST and 0 <= seconds < _MOST  # also false for NaN
                ):
                    turns[nodeid] = (number, float(seconds))
        return turns


def choose_tests(
    nodeids: Sequence[str], known: Mapping[str, Turn], total: float
) -> frozenset[str]:
    """Return the tests to measure in a total time, given their earlier turns.

    All that were never measured are among them: nobody knows how long they take. The
    others are expected to find as much less time as that takes for typical tests.
    """
    chosen = {nodeid for nodeid in nodeids if nodeid not in known}
    expected = typical_seconds(known) * len(chosen)
    others = (nodeid for nodeid in nodeids if nodeid in known)
    for nodeid in sorted(others, key=lambda nodeid: known[nodeid][0]):
        if expected >= total:
            break
        chosen.add(nodeid)
        expected += known[nodeid][1]
    return frozenset(chosen)


def typical_seconds(known: Mapping[str, Turn]) -> float:
    """Return how long measuring a test took on average, 0 if that is unknown."""
    return fmean(seconds for _, seconds in known.values()) if known else 0.0


def is_without_turn(verdict: Verdict) -> bool:
    """Return whether a test was not measured for lack of time."""
    from pytest_tfleak.verdict import Reason

    return verdict.reason is Reason.NO_TIME_LEFT
