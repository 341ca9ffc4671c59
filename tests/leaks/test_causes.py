"""Each cause is named for a real leak, with advice; code that follows it is clean.

A planted test is named after its cause, ``test_CAUSE__VARIANT``. In the test of that
name with ``_mended`` appended, the code of the advice is typed in, word for word.
``TFLEAK_REGENERATE=1 TFLEAK_SLOW=1`` writes the messages that ``docs/causes`` shows;
``TFLEAK_PLANTED=WORD`` runs only the planted tests with this word in their names.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding
from tests.pages import MESSAGES
from tests.planted_pairs import FILES
from tests.planted_pairs import PLANTED
from tests.planted_pairs import planted_in
from tests.planted_pairs import planted_pairs
from tests.planted_pairs import rows_to_show
from tests.planted_pairs import slug_of
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

CHOSEN = os.environ.get("TFLEAK_PLANTED", "").replace("-", "_")
WRITE = (
    "TFLEAK_REGENERATE=1 TFLEAK_SLOW=1 TFLEAK_PLANTED={} "
    f"python{MESSAGES_FROM[0]}.{MESSAGES_FROM[1]} -m pytest tests/leaks/test_causes.py"
)
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
    chosen = [test for test in planted_in(name) if CHOSEN in test]
    if not chosen:
        everywhere = [test for file in FILES for test in planted_in(file)]
        text = f"no planted test has {CHOSEN!r} in its name"
        assert any(CHOSEN in test for test in everywhere), text
        pytest.skip(f"{text} in this file")
    nodes = [f"test_{name}.py::{test}" for test in chosen if CHOSEN]
    verdicts = run_planted(name, *nodes)
    assert set(verdicts) == set(chosen)
    source = (PLANTED / f"{name}.py").read_text()
    complaints = {
        test: complaint_about_planted(test, verdict, source)
        for test, verdict in verdicts.items()
    }
    wrong = [f"{test}: {text}" for test, text in complaints.items() if text]
    assert not wrong, "\n".join(wrong)  # pytest would shorten a list


@pytest.mark.parametrize(
    ("advice", "complaint"),
    [
        ("Close it: `pool.close()`; or `make(1)` once.", ""),
        (
            "End it: `pool.close()`, `pool.join()`.",
            "this code of the remedy is not in test_it_mended: `pool.join()`",
        ),
        (
            "End it when it is done; or `pool.close()`.",
            "the first clause of the remedy has no code: End it when it is done",
        ),
    ],
)
def test_a_complaint_names_the_code_that_is_not_typed_in(
    advice: str, complaint: str
) -> None:
    source = "def test_it_mended():\n    pool.close()\n"
    assert missing_in("test_it_mended", advice, source) == complaint


def complaint_about_planted(test: str, verdict: Verdict, source: str) -> str:
    """Return what is wrong with the verdict on a planted test, "" if nothing is."""
    if test.endswith("_mended"):
        is_clean = verdict.status is Status.CLEAN
        found = f"{verdict.status.value} {verdict.detail} {verdict.findings}"
        return "" if is_clean else f"must be clean: {found}"
    slug = slug_of(test)
    complaint = complaint_about(verdict, slug_here(slug))
    if not complaint and slug not in {*SILENT, *SENTENCES}:
        advice = str(lead_of(verdict).advice)
        complaint = missing_in(f"{test}_mended", advice, source)
    if not complaint and test in on_pages():
        complaint = differs_on_page(verdict, slug)
    return complaint


def missing_in(twin: str, advice: str, source: str) -> str:
    """Return a complaint if code of a remedy's first clause is not in the mended test.

    Quotes and line breaks may differ.
    """
    clause = re.split(_OUTSIDE.format("; "), advice)[0]
    first = re.split(_OUTSIDE.format("(?:, or | \\(|\\. )"), clause)[0]
    code = [text.partition(": ...")[0] for text in re.findall(r"`([^`]+)`", first)]
    if not code:
        return f"the first clause of the remedy has no code: {first}"
    typed = plain(reached_from(twin, source))
    missing = [f"`{text}`" for text in code if plain(text) not in typed]
    if not missing:
        return ""
    return f"this code of the remedy is not in {twin}: {', '.join(missing)}"


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
    """Return a complaint if the page of a cause has another advice than its message."""
    rows = rows_to_show(failure_text(verdict))
    page = MESSAGES / f"{slug}.txt"
    before = page.read_text("utf-8") if page.exists() else ""
    if slug_here(slug) != slug:
        return ""
    if REGENERATE and scrub(before) != scrub(rows):
        page.write_text(rows, "utf-8")
        before = rows
    if sys.version_info[:2] != MESSAGES_FROM:
        return ""
    write = WRITE.format(slug.replace("-", "_"))
    if not before:
        return f"its page has no message yet: {write}"
    is_same = advice_in(rows) == advice_in(before)
    return "" if is_same else f"its page has another advice: {write}"


def advice_in(rows: str) -> str:
    return scrub(rows[rows.find("  cause ") :])


def scrub(rows: str) -> str:
    """Return a message without figures, of which the line breaks depend, too."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]+", "#", rows))


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
        return f"must leak: {verdict.status.value} {verdict.detail}"
    lead = lead_of(verdict)
    if lead.cause != slug:
        return f"the leading finding, {lead.signal}, has the cause {lead.cause}"
    lines = [f.origin.text for f in verdict.failing if f.cause == slug and f.origin]
    needs_line = lead.known is None and slug not in WITHOUT_LINE
    if needs_line and not any("# planted" in line for line in lines):
        return f"no finding is made at a line with `# planted`, but at {lines}"
    if slug in SILENT:
        return f"must have no remedy: {lead.advice}" if lead.advice else ""
    return "" if lead.advice else "its remedy is empty: no clause has its evidence"
