from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Ledger
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import closeness
from pytest_tfleak.verdict import excess
from tests.builders import make_finding
from tests.builders import make_report


def report(
    name: str, rate: float | None, allowance: float | None, decides: bool = True
) -> SignalReport:
    return make_report(name, rate, unit="B", allowance=allowance, decides=decides)


def finding(
    rate: float | None, allowance: float, allow: str = "x", total: int = 1
) -> Finding:
    return make_finding(
        "host.heap", rate, allowance=allowance, allow=allow, total=total
    )


def leak(nodeid: str, *findings: Finding) -> Verdict:
    return Verdict(nodeid=nodeid, status=Status.LEAK, findings=findings)


def clean(nodeid: str, *signals: SignalReport) -> Verdict:
    return Verdict(nodeid=nodeid, status=Status.CLEAN, signals=signals)


def no_verdict(nodeid: str, reason: Reason) -> Verdict:
    return Verdict(nodeid=nodeid, status=Status.NOT_MEASURED, reason=reason)


WORST_FIRST = [
    leak("still there", finding(None, 0, total=3)),
    leak("one object", finding(1.0, 0)),
    leak("one object, the same", finding(1.0, 0)),
    leak("total", finding(1.0, 10, "host_total", total=400)),
    leak("large", finding(20_000, 6_000)),
    leak("small", finding(7_000, 6_000)),
    Verdict(nodeid="doubt", status=Status.INCONCLUSIVE, reason=Reason.FADING),
    no_verdict("failed", Reason.BODY_FAILED),
    no_verdict("no gpu", Reason.GPU_NOT_MEASURED),
    no_verdict("unsupported", Reason.UNSUPPORTED),
    no_verdict("skipped", Reason.BODY_SKIPPED),
    no_verdict("itself", Reason.MEASURES_ITSELF),
    no_verdict("a disabled", Reason.DISABLED),
    clean("near", report("host.heap", 5_000, 6_000)),
    clean("far", report("host.heap", 100, 6_000)),
    clean("flat", report("host.heap", 0, 6_000)),
    clean("nothing decides"),
]


@pytest.mark.parametrize("seed", range(5))
def test_lists_the_worst_first_whatever_came_first(seed: int) -> None:
    shuffled = random.Random(seed).sample(WORST_FIRST, len(WORST_FIRST))
    ledger = Ledger()
    for verdict in shuffled:
        ledger.add(verdict)
    expected = [verdict.nodeid for verdict in WORST_FIRST]
    assert [verdict.nodeid for verdict in ledger.verdicts()] == expected


def test_weighs_leaks_of_objects_by_the_bytes_beside_them() -> None:
    ledger = Ledger()
    ledger.add(leak("a", finding(1.0, 0), finding(7_000, 6_000)))
    ledger.add(leak("b", finding(1.0, 0), finding(400_000, 6_000)))
    assert [verdict.nodeid for verdict in ledger.verdicts()] == ["b", "a"]


def test_keeps_several_verdicts_of_one_test() -> None:
    ledger = Ledger()
    ledger.add(clean("a", report("host.heap", 1, 6_000)))
    ledger.add(leak("a", finding(1.0, 0)))
    assert [v.status for v in ledger.verdicts()] == [Status.LEAK, Status.CLEAN]


def test_counts_every_status() -> None:
    ledger = Ledger()
    assert set(ledger.counts().values()) == {0}
    for verdict in WORST_FIRST:
        ledger.add(verdict)
    assert ledger.counts() == {
        Status.LEAK: 6,
        Status.INCONCLUSIVE: 1,
        Status.NOT_MEASURED: 6,
        Status.CLEAN: 4,
    }


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ((), None),
        ((report("context", 9_000, 6_000, decides=False),), None),
        ((report("too short", None, 6_000),), None),
        ((report("a", 3_000, 6_000), report("b", 1, 64)), ("a", 0.5)),
        ((report("a", -3_000, 6_000),), ("a", 0.0)),
        ((report("a", 0, 0), report("b", 0, 6_000)), ("b", 0.0)),
        ((report("a", 0.5, 0), report("b", 6_000, 6_000)), ("a", math.inf)),
        ((replace(report("tf.sessions", 1, 10), total=5),), ("tf.sessions", 0.5)),
    ],
)
def test_closeness(
    signals: tuple[SignalReport, ...], expected: tuple[str, float] | None
) -> None:
    found = closeness(clean("a", *signals))
    assert (found and (found[0].name, found[1])) == expected


def test_measures_excess_of_a_total_by_the_total() -> None:
    assert excess(finding(10.0, 100, "host_total", total=300)) == 3.0
    assert excess(finding(300.0, 100, "host_per_iteration", total=1)) == 3.0
    assert excess(finding(1.0, 10, "sessions", total=30)) == 3.0
    assert excess(finding(None, 5)) == math.inf
