"""The examples are right: the leaking tests fail as leaks, and the fixed ones pass."""

from __future__ import annotations

import ast
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("test_*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)

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


def growing_signal(failure: str) -> str:
    """Return the signal that a failure names first, or else its beginning."""
    lines = failure.strip().splitlines() or [""]
    leak = re.match(r"LEAK: (\S+) \+.* per (iteration|failed call)", lines[0])
    return leak[1] if leak else lines[0]


@pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
def test_the_leaking_tests_fail_and_their_twins_pass(
    pytester: pytest.Pytester,
) -> None:
    """All run in one process: no leak may affect a later test."""
    for path in FILES:
        shutil.copy(path, pytester.path)
    options = ("--junitxml=report.xml", "--tfleak-diagnose=off")
    pytester.runpytest_subprocess(*options, timeout=600)
    report = ElementTree.parse(pytester.path / "report.xml")
    found = {
        case.attrib["name"]: growing_signal(case.findtext("failure", ""))
        for case in report.iter("testcase")
    }
    every_test = [name for path in FILES for name in names_of_tests(path)]
    assert found == {name: LEAKS.get(name, "") for name in every_test}


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
