"""The marker that would accept what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pytest_tfleak.ledger import is_total
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Verdict

#: Signals whose option says how many may be left, not how fast they may grow.
_LEFT = ("tf.sessions", "tf.graphs")
_DOORS = {
    "marker": "@pytest.mark.tfleak({})",
    "fixture": "tfleak.check(..., {})",
    "library": "{}",
}
#: An allowance that was suggested must also hold in the next run.
_MARGIN = 1.25


def how_to_allow(verdict: Verdict, findings: Sequence[Finding]) -> str:
    """Return the call that accepts what was found, "" where no keyword does."""
    needed: dict[str, float] = {}
    units: dict[str, str] = {}
    for finding in _whole(findings):
        if finding.allow:
            value = max(_needed(finding, verdict), needed.get(finding.allow, 0.0))
            needed[finding.allow], units[finding.allow] = value, finding.unit
    if not needed:
        return ""
    keywords = ", ".join(
        f"{safe(name)}={_value(value, units[name])}" for name, value in needed.items()
    )
    text = _DOORS[verdict.door].format(keywords)
    without = [short_name(f.signal) for f in _whole(findings) if not f.allow]
    return text + (f"; nothing allows {', '.join(without)}" if without else "")


def _whole(findings: Sequence[Finding]) -> list[Finding]:
    """Return one finding for each signal: what several leaks share, in all."""
    by_signal: dict[str, Finding] = {}
    for finding in findings:
        before = by_signal.get(finding.signal)
        if before is None:
            by_signal[finding.signal] = finding
        else:
            rates = (before.per_iteration, finding.per_iteration)
            by_signal[finding.signal] = replace(
                before,
                per_iteration=None if None in rates else sum(r or 0.0 for r in rates),
                total=before.total + finding.total,
            )
    return list(by_signal.values())


def _needed(finding: Finding, verdict: Verdict) -> float:
    """Return the allowance with which a finding would not have been one."""
    growth = finding.per_iteration
    if growth is None:
        return finding.total
    if finding.signal in _LEFT:
        # what the warm-up left counts too; the next run may leave one in each iteration
        rate = math.ceil(growth) if 0.5 <= growth < 10 else growth * _MARGIN
        return math.ceil(max(rate * (verdict.warmup + finding.last), finding.total))
    if is_total(finding):
        growth = float(finding.total)
    if finding.unit == "B" or not 0.5 <= growth < 10:
        return growth * _MARGIN
    # an exact rate is one that the judge takes at its word
    return growth if growth == int(growth) else math.ceil(growth * _MARGIN)


def _value(needed: float, unit: str) -> str:
    if unit != "B":
        return f"{_rounded_up(needed):.10g}"
    size, name = needed / 1024, "KiB"
    for larger in ("MiB", "GiB"):
        if _rounded_up(size) >= 1024:
            size, name = size / 1024, larger
    return f'"{max(_rounded_up(size), 1.0):.10g} {name}"'


def _rounded_up(value: float) -> float:
    """Return a value rounded up to two digits, a small whole number as it is."""
    if value <= 0 or (value < 1000 and value == int(value)):
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-9) * step
