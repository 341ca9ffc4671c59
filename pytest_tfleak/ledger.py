"""The verdicts of a run, worst first."""

from __future__ import annotations

import math
from collections import Counter

from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

_STATUSES = (Status.LEAK, Status.INCONCLUSIVE, Status.NOT_MEASURED, Status.CLEAN)
#: Reasons for measuring nothing that nobody needs to act on come last.
_HARMLESS = (Reason.BODY_SKIPPED, Reason.MEASURES_ITSELF, Reason.DISABLED)


class Ledger:
    """The verdicts of a run."""

    def __init__(self) -> None:
        """Start without verdicts."""
        self._verdicts: list[Verdict] = []

    def add(self, verdict: Verdict) -> None:
        """Take in one verdict; a test may have several."""
        self._verdicts.append(verdict)

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return all verdicts, worst first, in an order that is always the same."""
        return tuple(sorted(self._verdicts, key=_badness))

    def counts(self) -> dict[Status, int]:
        """Return how many verdicts there are of each status, 0 included."""
        found = Counter(verdict.status for verdict in self._verdicts)
        return {status: found[status] for status in _STATUSES}


def closeness(verdict: Verdict) -> tuple[SignalReport, float] | None:
    """Return the deciding signal closest to its allowance, and its share of it.

    The share is ``inf`` for a signal that grew with nothing allowed, and 0.0 for one
    that did not grow.
    """
    shares = [
        (signal, _share(signal.per_iteration, signal.allowance))
        for signal in verdict.signals
        if signal.decides
        and signal.per_iteration is not None
        and signal.allowance is not None
    ]
    if not shares:
        return None
    # Among signals that are level, one with an allowance says more than "0 of 0".
    return min(shares, key=lambda pair: (-pair[1], not pair[0].allowance, pair[0].name))


def is_total(finding: Finding) -> bool:
    """Say whether the allowance of a finding is one for all iterations together."""
    return finding.allow.endswith("_total")


def excess(finding: Finding) -> float:
    """Return how many times its allowance a finding has reached; ``inf`` for none."""
    if finding.per_iteration is None:
        return math.inf
    growth = finding.total if is_total(finding) else finding.per_iteration
    return _share(growth, finding.allowance)


def _share(growth: float | None, allowance: float | None) -> float:
    if not growth or growth < 0:
        return 0.0
    return growth / allowance if allowance else math.inf


def _badness(verdict: Verdict) -> tuple[int, float, float, float, str]:
    first, second, third = 0.0, 0.0, 0.0
    if verdict.status is Status.LEAK:
        shares = [excess(finding) for finding in verdict.failing]
        first = max(shares, default=0.0)
        # Most objects have no allowance: then the bytes beside them tell the size.
        second = max((share for share in shares if share < math.inf), default=0.0)
        third = max((f.per_iteration or f.total for f in verdict.failing), default=0.0)
    elif verdict.status is Status.NOT_MEASURED:
        first = -_order_of(verdict.reason)
    else:
        closest = closeness(verdict)
        first = closest[1] if closest else -1.0
    rank = _STATUSES.index(verdict.status)
    return rank, -first, -second, -third, verdict.nodeid


def _order_of(reason: Reason | None) -> int:
    if reason is Reason.BODY_FAILED:
        return 0
    return 2 + _HARMLESS.index(reason) if reason in _HARMLESS else 1
