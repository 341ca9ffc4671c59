"""Each cause is named for a real leak, with advice; code that follows it is clean.

A planted test is named after its cause, ``test_CAUSE__VARIANT``. In the test of that
name with ``_mended`` appended, the code of the advice is typed in, word for word.
``TFLEAK_REGENERATE=1 TFLEAK_SLOW=1`` writes the messages that ``docs/causes`` shows.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.diagnosis.causes.all_causes import CAUSES
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding
from tests.pages import MESSAGES
from tests.planted_pairs import planted_pairs
from tests.planted_pairs import rows_to_show
from tests.regenerate import REGENERATE

#: Causes for which nothing is known that would help.
SILENT = {
    *("kept-by-native-code", "native-memory", "small-objects-pile-up"),
    "session-keeps-data",  # unless the line or the C++ functions show what it keeps
}
#: Causes whose remedy is to write the code in another way: no line of it can be given.
SENTENCES = {
    "class-made-in-loop",  # and instances of it, in place of new classes
    "code-compiled-in-loop",
    "gradient-registered-in-loop",
    "losses-pile-up",  # from call(), not from outside
    "registered-in-loop",
    "tape-kept",  # C++ holds what it has recorded: who holds the tape is not known
    *("default-graph-grows", "graph-kept", "retrace-context"),
    # known growth, of which no line is known
    *("keras-lookup-tables", "kernels-made-again", "nest-types"),
    *("py-function-wrappers", "xla-executables"),
}
#: The Python with which the messages on the pages were written.
MESSAGES_FROM = (3, 11)
#: A separator, but not within code.
_OUTSIDE = "{}(?=(?:[^`]*`[^`]*`)*[^`]*$)"
RunPlanted = Callable[..., dict[str, Verdict]]

PLANTED = Path(__file__).parent / "planted"
FILES = sorted(path.stem for path in PLANTED.glob("causes_*.py"))
#: Causes without an allocation site: no Python object is left to have one.
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
        else:
            complaint = complaint_about(verdict, slug_here(slug))
            if not complaint and slug not in {*SILENT, *SENTENCES}:
                source = (PLANTED / f"{name}.py").read_text()
                advice = str(lead_of(verdict).advice)
                complaint = missing_in(f"{test}_mended", advice, source)
            if not complaint and test in on_pages():
                complaint = differs_on_page(verdict, slug)
            if complaint:
                wrong[test] = complaint
    assert not wrong


def test_every_cause_is_planted_and_mended() -> None:
    planted = {test for name in FILES for test in planted_in(name)}
    slugs = {slug_of(test) for test in planted if not test.endswith("_mended")}
    assert slugs == {cause.slug for cause in CAUSES}, "see planted/causes_*.py"
    leaking = {test for test in planted if not test.endswith("_mended")}
    assert {f"{test}_mended" for test in leaking} == planted - leaking


def missing_in(twin: str, advice: str, source: str) -> str:
    """Return the first clause of a remedy if its code is not in the mended test.

    Quotes and line breaks may differ.
    """
    clause = re.split(_OUTSIDE.format("; "), advice)[0]
    first = re.split(_OUTSIDE.format("(?:, or | \\()"), clause)[0]
    code = [text.partition(": ...")[0] for text in re.findall(r"`([^`]+)`", first)]
    typed = plain(reached_from(twin, source))
    return "" if code and all(plain(text) in typed for text in code) else first


def reached_from(test: str, source: str) -> str:
    """Return the source of a test and of what it uses of its file."""
    defined: dict[str, ast.stmt] = {}
    for node in ast.parse(source).body:
        targets = [node] if hasattr(node, "name") else ast.walk(node)
        for target in targets:
            is_set = isinstance(getattr(target, "ctx", None), ast.Store)
            name = getattr(target, "name", getattr(target, "id", ""))
            if target is node or is_set:
                defined.setdefault(name, node)
    reached, pending = {}, [test]
    while pending:
        name = pending.pop()
        if name in defined and name not in reached:
            reached[name] = ast.unparse(defined[name])  # with decorators
            words = re.findall(r"\w+", reached[name])
            pending += [word for word in words if not word.startswith("test_")]
    return "\n".join(reached.values())


def plain(code: str) -> str:
    """Return code with one kind of quotes, and without line breaks."""
    return re.sub(r"\s+", " ", code.replace('"', "'"))


def on_pages() -> set[str]:
    """Return the tests that a page of ``docs/causes`` shows."""
    return {pair.test for pair in planted_pairs().values()}


def differs_on_page(verdict: Verdict, slug: str) -> str:
    """Return the cause and remedy of a message if its page has others."""
    rows = rows_to_show(failure_text(verdict))
    page = MESSAGES / f"{slug}.txt"
    if REGENERATE and slug_here(slug) == slug:
        page.write_text(rows, "utf-8")
    if sys.version_info[:2] != MESSAGES_FROM or slug_here(slug) != slug:
        return ""
    if not page.exists():
        return "its page has no message yet: set TFLEAK_REGENERATE"
    is_same = advice_in(rows) == advice_in(page.read_text("utf-8"))
    return "" if is_same else f"the page of {slug} has another advice"


def advice_in(rows: str) -> str:
    return re.sub(r"[\d.,]+", "#", rows[rows.find("  cause ") :])


def slug_here(slug: str) -> str:
    """Return the cause that is found without memray's C++ functions."""
    is_told_by_memray = slug == "session-keeps-data" and find_spec("memray") is None
    return "native-memory" if is_told_by_memray else slug


def lead_of(verdict: Verdict) -> Finding:
    """Return the leading finding, one of the user's own if there is any."""
    failing = ordered(verdict.failing)
    return next((f for f in failing if f.known is None), failing[0])


def complaint_about(verdict: Verdict, slug: str) -> str:
    """Return what is wrong with the leading finding of a leak, "" if nothing is."""
    if verdict.status is not Status.LEAK:
        return f"{verdict.status} {verdict.detail}"
    lead = lead_of(verdict)
    lines = [f.origin.text for f in verdict.failing if f.cause == slug and f.origin]
    is_line_there = any("# planted" in line for line in lines)
    if lead.known is not None or slug in WITHOUT_LINE:
        is_line_there = True
    if lead.cause == slug and is_line_there and bool(lead.advice) != (slug in SILENT):
        return ""
    return f"{lead.cause}, lines {lines}, advice {lead.advice!r}"


def planted_in(name: str) -> list[str]:
    """Return the names of the tests in a planted file."""
    source = (PLANTED / f"{name}.py").read_text()
    return re.findall(r"^def (test_\w+)", source, re.MULTILINE)


def slug_of(test: str) -> str:
    """Return the cause that a planted test is named after."""
    name = test.removeprefix("test_").removesuffix("_mended")
    return name.partition("__")[0].replace("_", "-")
