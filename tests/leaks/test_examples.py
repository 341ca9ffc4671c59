"""The examples are right: the leaking tests fail as leaks, and the fixed ones pass."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.needs import needs_tensorflow
from tests.regenerate import expected_text

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("test_*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)

#: Begins the end of each example: what the tool says of its leaking tests.
HEAD = """

# What the tool says of the tests that leak; numbers vary:
"""
#: The lines of a message that are shown there.
TOLD = (
    *("only when", "what", "held by", "stored at", "made at", "cause", "what to do"),
    "leak 2",
)
# The signal that the message of each leaking test names first.
LEAKS = {
    "test_leaks_the_session_when_the_block_fails": "tf.sessions",
    "test_leaks_the_session_when_a_call_fails": "tf.sessions",
    "test_leaks_the_session_when_enter_fails": "tf.sessions",
    "test_leaks_an_operation_per_step": "tf.graphs.ops",
    "test_leaks_a_graph_per_step": "tf.graphs",
    "test_leaks_a_kernel_per_variable_name": "host.heap",
    "test_leaks_a_trace_per_number": "tf.traces",
    "test_leaks_a_tensor_per_step": "tf.tensors",
    "test_leaks_a_session_that_two_modules_own": "tf.sessions",
    "test_leaks_a_session_on_the_default_stack": "tf.sessions",
    "test_leaks_an_interactive_session": "tf.sessions",
    "test_leaks_the_session_of_the_second_try": "tf.sessions",
    "test_leaks_closed_sessions_that_are_kept": "tf.sessions.closed",
    "test_leaks_a_session_per_job": "tf.sessions",
}


def names_of_tests(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    names = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return [name for name in names if name.startswith("test_")]


def code_and_sayings(path: Path) -> tuple[str, dict[str, str]]:
    """Return the code of an example, and what the tool says of its leaking tests."""
    code, _, rest = path.read_text("utf-8").partition(HEAD)
    sayings: dict[str, str] = {}
    for part in re.split(r"^# (?=test_)", rest, flags=re.MULTILINE)[1:]:
        name, _, lines = part.partition("\n")
        sayings[name] = re.sub(r"^#(?:   )?", "", lines, flags=re.MULTILINE).strip()
    return code, sayings


def with_sayings(path: Path, sayings: dict[str, str]) -> str:
    """Return the text of an example with what the tool says of its leaking tests."""
    text, _ = code_and_sayings(path)
    text += HEAD
    for name in filter(sayings.get, names_of_tests(path)):
        lines = (f"#   {line}" for line in sayings[name].splitlines())
        text += "\n".join(["#", f"# {name}", *lines]) + "\n"
    return text


def told(failure: str) -> str:
    """Return the lines of a message that say what leaks, why, and what to do."""
    first, _, rest = failure.strip().partition("\n")
    parts = re.findall(r"^  (\S+(?: \S+)*)  +(.*(?:\n {15}.*)*)", rest, re.MULTILINE)
    lines = [f"{label:<12} {text}" for label, text in parts if label in TOLD]
    return "\n".join([first, *lines]).replace("\n" + " " * 15, "\n" + " " * 13)


def without_figures(text: str) -> str:
    """Return a text without numbers, except for those of lines, and line breaks."""
    text = re.sub(r"(?<![\w.:])[\d,.]*\d(?: [KMG]?i?B\b)?", "#", text)
    return " ".join(text.split())


def growing_signal(failure: str) -> str:
    """Return the signal that a failure names first, or else its beginning."""
    lines = failure.strip().splitlines() or [""]
    leak = re.match(r"LEAK: (\S+) \+\d", lines[0])
    return leak[1] if leak else lines[0]


@needs_tensorflow
def test_the_leaking_tests_fail_and_their_twins_pass(
    pytester: pytest.Pytester,
) -> None:
    """All run in one process: no leak may affect a later test."""
    failures = failures_of(pytester, "--tfleak-diagnose=off")
    found = {name: growing_signal(failure) for name, failure in failures.items()}
    every_test = [name for path in FILES for name in names_of_tests(path)]
    assert found == {name: LEAKS.get(name, "") for name in every_test}


def failures_of(pytester: pytest.Pytester, *options: str) -> dict[str, str]:
    """Run all examples in one process; return the message of each test, or ""."""
    for path in FILES:
        shutil.copy(path, pytester.path)
    pytester.runpytest_subprocess("--junitxml=report.xml", *options, timeout=900)
    report = ElementTree.parse(pytester.path / "report.xml")
    return {
        case.attrib["name"]: case.findtext("failure", "")
        for case in report.iter("testcase")
    }


@pytest.mark.slow
@needs_tensorflow
def test_the_examples_show_what_the_tool_says(pytester: pytest.Pytester) -> None:
    failures = failures_of(pytester, "--tfleak-diagnose-time=180")
    for path in FILES:
        sayings = {name: told(failures[name]) for name in names_of_tests(path)}
        text = with_sayings(path, sayings)
        assert without_figures(text) == without_figures(expected_text(path, text))


@each_file
def test_an_example_shows_the_leak_and_the_fix(path: Path) -> None:
    tests = names_of_tests(path)
    leaks = {name for name in tests if name.startswith("test_leaks_")}
    fixed = {name for name in tests if name.startswith("test_fixed_")}
    assert leaks
    assert fixed
    assert leaks | fixed == set(tests)
    assert leaks <= set(LEAKS)


@each_file
def test_an_example_is_listed_with_its_question(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    question = (docstring or "").splitlines()[0].replace("``", "`")
    assert question.endswith("?")
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    assert f"| [`{path.name}`]({path.name}) | {question} |" in listed


@each_file
def test_an_example_ends_with_what_the_tool_says(path: Path) -> None:
    _, sayings = code_and_sayings(path)
    leaks = [name for name in names_of_tests(path) if name.startswith("test_leaks_")]
    assert list(sayings) == leaks
    for name, text in sayings.items():
        assert growing_signal(text) == LEAKS[name]
        assert "\nwhat to do " in text
