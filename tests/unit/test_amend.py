from __future__ import annotations

from typing import Any

import pytest

from pytest_tfleak.amend import accept_ignored
from pytest_tfleak.amend import add_leftovers
from pytest_tfleak.amend import demand_gpu
from pytest_tfleak.isolation import Leftover
from pytest_tfleak.plan import Plan
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

HELD = ("app.CACHE (list of 5)", "dict['loss']", "EagerTensor")
MADE = Origin(file="/src/legacy/app.py", line=12, function="Cache.put", text="x")


def finding(**more: Any) -> Finding:
    fields: dict[str, Any] = {
        "signal": "tf.tensors",
        "unit": "tensors",
        "per_iteration": 1.0,
        "total": 50,
        "allowance": 0.0,
        "first": 1,
        "last": 50,
        "allow": "tensors",
    }
    return Finding(**{**fields, **more})


def leak(*findings: Finding) -> Verdict:
    return Verdict(nodeid="test_it", status=Status.LEAK, findings=findings)


@pytest.mark.parametrize(
    "pattern",
    [
        "app.CACHE*",
        "*loss*",
        "* -> EagerTensor",
        "*/legacy/*.py",
        "*/app.py:12",
        "Cache.*",
    ],
)
def test_a_leak_is_ignored_by_its_holder_or_its_line(pattern: str) -> None:
    verdict = leak(finding(holder=HELD, origin=MADE))

    amended = accept_ignored(verdict, Plan(ignore=("nothing", pattern)))

    assert amended.status is Status.CLEAN
    assert amended.findings[0].ignored == pattern
    assert amended.notes == (
        f"tf.tensors grows, and does not fail the test: it matches ignore={pattern!r}.",
    )


def test_what_does_not_match_still_fails() -> None:
    verdict = leak(finding(holder=HELD, origin=MADE), finding(signal="tf.graphs"))

    amended = accept_ignored(verdict, Plan(ignore=("app.CACHE*",)))

    assert amended.status is Status.LEAK
    assert [f.signal for f in amended.failing] == ["tf.graphs"]
    assert accept_ignored(verdict, Plan(ignore=("other*",))) == verdict


def test_what_was_never_left_is_a_leak() -> None:
    left = Leftover(kind="tapes", count=2, text="2 tapes were never left", leak=True)
    clean = Verdict(nodeid="test_it", status=Status.CLEAN, iterations=50)

    amended = add_leftovers(clean, [left], Plan())

    assert amended.status is Status.LEAK
    assert (amended.findings[0].signal, amended.findings[0].total) == ("tf.tapes", 2)


def gpu(name: str, status: str, reason: str | None = None) -> SignalReport:
    return SignalReport(
        name=name,
        unit="B",
        status=status,
        reason=reason,
        per_iteration=None,
        total=None,
        allowance=None,
        decides=False,
        series=(),
    )


@pytest.mark.parametrize(
    ("plan", "missing", "option"),
    [
        (Plan(require_gpu=True), "gpu.allocator", "require_gpu"),
        (Plan(gpu_process=1024), "gpu.process", "gpu_process"),
    ],
)
def test_a_gpu_that_is_asked_for_must_be_measured(
    plan: Plan, missing: str, option: str
) -> None:
    signals = [
        gpu("gpu.allocator[GPU:0]", "measured"),
        gpu("gpu.process[A]", "measured"),
    ]
    measured = Verdict(nodeid="t", status=Status.CLEAN, signals=tuple(signals))
    others = [s for s in signals if not s.name.startswith(missing)]
    absent = gpu(missing, "unavailable", "the driver is not loaded")
    lacking = Verdict(nodeid="t", status=Status.CLEAN, signals=(*others, absent))

    assert demand_gpu(measured, plan) is measured
    assert demand_gpu(lacking, Plan()) is lacking
    demanded = demand_gpu(lacking, plan)

    assert demanded.status is Status.NOT_MEASURED
    assert demanded.reason is Reason.GPU_NOT_MEASURED
    assert demanded.detail == (
        f"{option} is set, and GPU memory was not measured: the driver is not loaded"
    )
