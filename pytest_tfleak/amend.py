"""What a verdict learns after the run: what was never left, and that a GPU is missing.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from pytest_tfleak.isolation import Leftover
from pytest_tfleak.plan import Plan
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import fingerprint

_ALLOWANCES = {"session_stack": "sessions", "graph_stack": "graphs"}


def add_leftovers(
    verdict: Verdict, leftovers: Sequence[Leftover], plan: Plan
) -> Verdict:
    """Add what was entered and never left, where no finding shows it already."""
    if verdict.status is Status.NOT_MEASURED:
        return verdict
    found = {finding.signal for finding in verdict.findings}
    added = []
    for leftover in leftovers:
        signal = f"tf.{leftover.kind}"
        allow = _ALLOWANCES.get(leftover.kind, "")
        allowance = getattr(plan, allow) if allow else 0
        if not leftover.leak or signal in found or leftover.count <= allowance:
            continue
        added.append(
            Finding(
                signal=signal,
                unit="entries",
                per_iteration=None,
                total=leftover.count,
                allowance=allowance,
                first=1,
                last=verdict.iterations,
                allow=allow,
                what=leftover.text,
                fingerprint=fingerprint(f"{signal} is left"),
            )
        )
    if not added:
        return verdict
    return replace(
        verdict,
        status=Status.LEAK,
        reason=None,
        detail=None,
        findings=(*verdict.findings, *added),
    )


def accept_ignored(verdict: Verdict, plan: Plan) -> Verdict:
    """Accept the findings whose holder or line matches a pattern of ``ignore``."""
    matches = {f: _pattern(f, plan.ignore) for f in verdict.failing}
    if not any(matches.values()):
        return verdict
    findings = [
        replace(f, accepted=True, ignored=matches[f]) if matches.get(f) else f
        for f in verdict.findings
    ]
    notes = [
        f"{f.signal} grows, and does not fail the test: it matches ignore={pattern!r}."
        for f, pattern in matches.items()
        if pattern
    ]
    amended = replace(verdict, findings=tuple(findings), notes=(*verdict.notes, *notes))
    if amended.failing or verdict.status is not Status.LEAK:
        return amended
    return replace(amended, status=Status.CLEAN)


def _pattern(finding: Finding, patterns: Sequence[str]) -> str | None:
    names = list(finding.holder or ())
    names.append(" -> ".join(names))
    if finding.origin is not None:
        names += [finding.origin.file, f"{finding.origin.file}:{finding.origin.line}"]
        names.append(finding.origin.function)
    found = (p for p in patterns if any(fnmatchcase(name, p) for name in names))
    return next(found, None)


def demand_gpu(verdict: Verdict, plan: Plan) -> Verdict:
    """Return no verdict at all where GPU memory is required and was not measured."""
    if verdict.status is Status.LEAK:
        return verdict
    asked = ["gpu.allocator"] if plan.require_gpu else []
    if plan.gpu_process is not None:
        asked.append("gpu.process")
    missing = [name for name in asked if not _is_measured(verdict, name)]
    if not missing:
        return verdict
    name = missing[0]
    option = "require_gpu" if name == "gpu.allocator" else "gpu_process"
    return replace(
        verdict,
        status=Status.NOT_MEASURED,
        reason=Reason.GPU_NOT_MEASURED,
        detail=f"{option} is set, and GPU memory was not measured: "
        + _why_not(verdict, name),
    )


def _is_measured(verdict: Verdict, name: str) -> bool:
    signals = (s for s in verdict.signals if s.name.startswith(name))
    return any(signal.status == "measured" for signal in signals)


def _why_not(verdict: Verdict, name: str) -> str:
    for signal in verdict.signals:
        if signal.name.startswith(name) and signal.reason:
            return signal.reason
    return "TensorFlow has found no GPU"
