"""Tell after each iteration whether the readings so far show that nothing grows.

Pure: no clock, no randomness, no I/O. A run may stop early if each signal that could
fail the test has been level for ``FEWEST`` iterations or more, and for at least twice
as many as it took to settle: a count that last rose in the fourth iteration must be
the same from then until the twelfth. Level means:

- a count of objects is the same in each iteration;
- memory stays within half of what its allowance adds up to in as many iterations, so
  growth by the allowance or more is not level even if noise hides half of it.

What grows in each iteration is never level. What grows in every k-th iteration, or once
after the run has stopped, is missed where the iterations read show no rise: a leak in
every tenth call mostly is. ``tests/quality`` measures both.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf

from pytest_tfleak.judge import allowance_of
from pytest_tfleak.plan import Plan
from pytest_tfleak.signals import row_of
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace

#: Iterations that must be level.
FEWEST = 6
#: After so many judged iterations a run goes on to its end: readings that are level
#: only by then mostly belong to a buffer that fills and empties.
LAST = 20
#: Iterations that run before them, fewer if the plan says so.
WARMUP = 2
#: The share of the iterations that may pass until the readings are level.
_SETTLING = 1 / 3
#: The share of an allowance that the readings of memory may use up.
_LEVEL = 0.5
#: The signal that counts all objects; it rarely decides, but a rise in each iteration
#: is worth a full run.
_ALL_OBJECTS = "python.objects"


def warmup_of(plan: Plan) -> int:
    """Return how many iterations run before the first one that is judged."""
    return min(plan.warmup, WARMUP) if plan.depth == "quick" else plan.warmup


def is_settled(trace: Trace, plan: Plan) -> bool:
    """Return whether the measured iterations show that nothing grows."""
    if not FEWEST <= trace.measured <= LAST:
        return False
    first = min(trace.measured - FEWEST, int(trace.measured * _SETTLING))
    return all(
        _is_level(signal, trace.judged_series(signal.name)[first:], trace, plan)
        for signal in trace
    )


def _is_level(
    signal: Signal, series: Sequence[int | None], trace: Trace, plan: Plan
) -> bool:
    if series[-1] is None:  # it is read rarely, or not at all
        return True
    readings = [value for value in series if value is not None]
    if signal.name == _ALL_OBJECTS and all(a < b for a, b in pairwise(readings)):
        return False
    accepted = _accepted(signal, trace, plan)
    if accepted == inf:
        return True
    if len(readings) < FEWEST:
        return False
    steps = len(readings) - 1
    moves = max(readings) - min(readings)
    if accepted < 1:
        return moves == 0
    return moves <= _LEVEL * min(accepted, _share_of_total(signal, plan)) * steps


def _accepted(signal: Signal, trace: Trace, plan: Plan) -> float:
    """Return the growth per iteration that is accepted, ``inf`` if any is."""
    allowance = allowance_of(signal, trace, plan)
    if allowance is not None:
        return allowance
    doubtful = row_of(signal.name, signal.unit).doubtful
    if doubtful is None or signal.name in trace.untrusted:
        return inf
    return max(doubtful, plan.host_per_iteration)


def _share_of_total(signal: Signal, plan: Plan) -> float:
    """Return what a limit for the whole run allows in one of its iterations."""
    limit: int | None = getattr(plan, signal.total) if signal.total else None
    return inf if limit is None else limit / plan.iterations
