"""Share growth out: what TensorFlow does by itself, and what is left for the test.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import replace

from pytest_tfleak.diagnosis.attribution import what_is_known
from pytest_tfleak.diagnosis.experiments import Explanation
from pytest_tfleak.ending import undecided
from pytest_tfleak.judge import judge
from pytest_tfleak.plan import Plan
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

#: The trace without the known causes, and what is found on it.
SecondLook = tuple[Trace, tuple[Finding, ...]]
Told = tuple[Verdict, list[str]]


def share_out(
    verdict: Verdict,
    explanation: Explanation,
    again: SecondLook | None,
    trace: Trace,
    plan: Plan,
) -> Told:
    """Return the verdict with known growth told apart, and notes on it."""
    if again is None:
        return _without_causes(verdict, explanation, plan)
    retrace, left = again
    retrace.seconds = trace.seconds
    retrace.reasons, retrace.codes = trace.reasons, trace.codes
    retrace.untrusted = trace.untrusted
    retrace.body_seconds += trace.body_seconds
    second = judge(retrace, plan, verdict.nodeid)
    if second.reason in (Reason.OUT_OF_TIME, Reason.TOO_FEW_ITERATIONS):
        why = (
            "a part of this is known growth of TensorFlow, and there was no time "
            "to judge what is left without it"
        )
        return undecided(verdict, why), []
    accepted = plan.known == "report"
    known = what_is_known(verdict.findings, left, explanation, accepted)
    shown = {finding.known for finding in known}
    notes = [
        f"A part of it is known growth: {entry.title} ({entry.issue})."
        for entry in explanation.causes
        if entry.name not in shown
    ]
    notes.append(
        f"Judged on {second.iterations} iterations without the known growth of "
        "TensorFlow, which is shown apart."
    )
    second = replace(second, findings=known)
    if second.failing:
        notes.extend(explanation.notes)
        second = replace(second, status=Status.LEAK, reason=None, detail=None)
    return second, notes


def _without_causes(verdict: Verdict, explanation: Explanation, plan: Plan) -> Told:
    findings, accepted = verdict.findings, plan.known == "report"
    known = what_is_known(findings, findings, explanation, accepted)
    verdict = replace(verdict, findings=known)
    growing = {f.signal for f in known if f.per_iteration is not None}
    has_left = any(f.per_iteration is None for f in known)
    for entry in explanation.untried:
        if growing <= set(entry.signals) and not has_left:
            growth = f"{entry.title} ({entry.issue})"
            why = f"no experiment could tell this from known growth: {growth}"
            verdict = undecided(verdict, why)
            break
    return verdict, explanation.notes
