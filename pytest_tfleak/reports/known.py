"""What belongs to TensorFlow, what an experiment showed, and what helps, in words."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from pytest_tfleak.known import find_known
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.units import format_quantity
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Verdict

MOST_CHANGES = 3
_MEMORY = ("B", "blocks", "objects")  # units
#: The signals that tell the size of known growth best.
_SIZES = ("host.heap", "host.rss", "host.allocator")


def known_growth(verdict: Verdict) -> Iterator[str]:
    """Name the growth that did not fail the test, once for each cause."""
    for name in dict.fromkeys(finding.known for finding in verdict.known):
        findings = [f for f in verdict.known if f.known == name]
        lead = next((f for f in findings if f.signal in _SIZES), findings[0])
        growth = format_quantity(lead.per_iteration or 0.0, lead.unit)
        what = "" if lead.signal in _SIZES else f" {short_name(lead.signal)}"
        yield f"{named(name)} {growth}{what} per iteration"


def causes(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Give the causes, the experiments and the advice of findings as rows.

    Where the objects that pile up have a cause, the memory beside them needs no other.
    """
    lead = findings[0]
    if lead.cause is not None and lead.known is None:
        findings = [f for f in findings if f is lead or f.unit not in _MEMORY]
    whys = {_why(f): None for f in findings}
    #: Advice stands below the last cause that it is for.
    advice = {f.advice: _why(f) for f in findings if f.advice}
    for place, why in enumerate(sorted(whys, key=lambda why: why == "")):
        if why:
            yield "cause", why
        if place == 0:
            yield from _experiments(findings)
        for text, cause in advice.items():
            if cause == why:
                yield "what to do", safe(text)


def _why(finding: Finding) -> str:
    return named(finding.known) if finding.known else safe(finding.why or "")


def _experiments(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    for words in dict.fromkeys(e.name for f in findings for e in f.experiments):
        changes = [
            _change(f, e) for f in findings for e in f.experiments if e.name == words
        ]
        yield "experiment", f"{', '.join(changes[:MOST_CHANGES])} {safe(words)}"


def _change(finding: Finding, experiment: Experiment) -> str:
    before = format_quantity(finding.per_iteration or 0.0, finding.unit)
    after = format_quantity(experiment.per_iteration, finding.unit)
    return f"{short_name(finding.signal)} {before} becomes {after}"


def named(name: str | None) -> str:
    """Return what grows, with its issue."""
    entry = find_known(name or "")
    if entry is None:  # from a newer version of this package
        return safe(name or "known growth")
    return f"{entry.title} ({entry.issue})"
