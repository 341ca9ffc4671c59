"""Each cause is named on a real leak, with advice; code that follows it is clean.

A planted test is named after its cause, ``test_CAUSE__VARIANT``; the same with
``_mended`` at the end does what the advice says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_tfleak import Reason
from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.diagnosis.advising import advise_leftovers
from pytest_tfleak.diagnosis.causes import CAUSES
from pytest_tfleak.reports.order import ordered
from pytest_tfleak.verdict import Finding

RunPlanted = Callable[..., dict[str, Verdict]]

PLANTED = Path(__file__).parent / "planted"
FILES = sorted(path.stem for path in PLANTED.glob("causes_*.py"))
#: Which end a test with an error, not with a leak.
OF_ERRORS = {"session-used-after-close"}
#: Of which no line is known: nothing is left that was made by one.
WITHOUT_LINE = {
    "eager-mode-switched",
    "native-memory",
    "scope-never-left",
    "session-keeps-data",
    "small-objects-pile-up",
    "tape-never-left",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_cause_is_named_and_its_advice_mends_it(
    run_planted: RunPlanted, name: str
) -> None:
    verdicts = run_planted(name)
    assert set(verdicts) == set(planted_in(name))
    wrong = {}
    for test, verdict in verdicts.items():
        slug = slug_of(test)
        if test.endswith("_mended"):
            if verdict.status is not Status.CLEAN:
                wrong[test] = f"{verdict.status} {verdict.detail} {verdict.findings}"
        elif slug in OF_ERRORS:
            assert verdict.reason is Reason.BODY_FAILED
        else:
            complaint = complaint_about(verdict, slug_here(slug))
            if complaint:
                wrong[test] = complaint
    assert not wrong


def test_every_cause_is_planted_and_mended() -> None:
    planted = {test for name in FILES for test in planted_in(name)}
    slugs = {slug_of(test) for test in planted if not test.endswith("_mended")}
    assert slugs == {cause.slug for cause in CAUSES}
    leaking = {test for test in planted if not test.endswith("_mended")}
    assert {f"{test}_mended" for test in leaking} == planted - leaking


def slug_here(slug: str) -> str:
    """Return the cause that can be told without the C++ functions of memray."""
    is_told_by_memray = slug == "session-keeps-data" and find_spec("memray") is None
    return "native-memory" if is_told_by_memray else slug


def complaint_about(verdict: Verdict, slug: str) -> str:
    """Say what is wrong with the leading finding of a leak, "" where nothing is."""
    if verdict.status is not Status.LEAK:
        return f"{verdict.status} {verdict.detail}"
    lead = finding_of(verdict)
    lines = [f.origin.text for f in verdict.failing if f.cause == slug and f.origin]
    is_line_there = any("# planted" in line for line in lines)
    if lead.known is not None or slug in WITHOUT_LINE:
        is_line_there = True
    if lead.cause == slug and lead.advice and is_line_there:
        return ""
    return f"{lead.cause}, lines {lines}, advice {lead.advice!r}"


def finding_of(verdict: Verdict) -> Finding:
    """Return the finding that leads the message."""
    lead = ordered(verdict.failing)[0]
    return lead if lead.cause else advise_leftovers([lead])[0]


def planted_in(name: str) -> list[str]:
    """Return the names of the tests in a planted file."""
    source = (PLANTED / f"{name}.py").read_text()
    return re.findall(r"^def (test_\w+)", source, re.MULTILINE)


def slug_of(test: str) -> str:
    """Return the cause that a planted test is named after."""
    name = test.removeprefix("test_").removesuffix("_mended")
    return name.partition("__")[0].replace("_", "-")
