"""What the experiments say of each finding: whose growth it is, and what would stop it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_tfleak.diagnosis.experiments import PART
from pytest_tfleak.diagnosis.experiments import Explanation
from pytest_tfleak.diagnosis.experiments import is_lowered
from pytest_tfleak.diagnosis.experiments import limit_of
from pytest_tfleak.diagnosis.neutralisers import NEUTRALISERS
from pytest_tfleak.known import Known
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding


def what_is_known(
    findings: Sequence[Finding],
    left: Sequence[Finding],
    explanation: Explanation,
    accepted: bool,
) -> tuple[Finding, ...]:
    """Return what is left, and what went away with the known causes.

    ``left`` are the findings of the second judgement; without known causes they are
    ``findings`` themselves.
    """
    remaining = [_with_remedy(finding, explanation) for finding in left]
    if not explanation.causes:
        return tuple(remaining)
    still = {finding.signal: finding for finding in left}
    main = explanation.causes[0]
    known = []
    for finding in findings:
        rest = still.get(finding.signal)
        gone = finding
        if rest is not None:
            before, after = finding.per_iteration, rest.per_iteration
            if before is None or after is None:
                continue
            if not is_lowered(before, after, limit_of(finding), PART):
                continue
            share = (before - after) / before
            gone = replace(
                finding,
                per_iteration=before - after,
                total=round(finding.total * share),
            )
        elif finding.per_iteration is None:
            remaining.append(finding)  # it is still there, whatever grows
            continue
        shown = explanation.known.get(finding.signal)
        if shown is None and not _is_memory_of(finding, explanation):
            remaining.append(finding)  # no experiment took it away
            continue
        entry = shown[0] if shown else main
        known.append(
            replace(
                gone,
                known=entry.name,
                accepted=accepted,
                experiments=_of(explanation, finding.signal, entry),
            )
        )
    return (*remaining, *known)


def _is_memory_of(finding: Finding, explanation: Explanation) -> bool:
    """Say whether a finding is memory, which goes with whatever a cause pins."""
    return finding.unit in ("B", "blocks") and any(
        finding.signal in cause.signals for cause in explanation.causes
    )


def _with_remedy(finding: Finding, explanation: Explanation) -> Finding:
    signal = finding.signal
    found = explanation.remedies.get(signal)
    advice = None
    if signal in explanation.released:
        advice = "keras.utils.clear_session() releases it: call it after each iteration"
    experiments = tuple(explanation.experiments.get(signal, ()))
    if found is None:
        return replace(finding, advice=advice, experiments=experiments)
    entry = found[0]
    rest = min((one.per_iteration for one in experiments), default=0.0)
    part = "for the larger part: " if rest > limit_of(finding) else ""
    return replace(
        finding,
        known=entry.name,
        advice=f"{part}{entry.remedy}",
        experiments=_of(explanation, signal, entry),
    )


def _of(explanation: Explanation, signal: str, entry: Known) -> tuple[Experiment, ...]:
    words = NEUTRALISERS[entry.experiment].words
    done = explanation.experiments.get(signal, ())
    return tuple(experiment for experiment in done if experiment.name == words)
