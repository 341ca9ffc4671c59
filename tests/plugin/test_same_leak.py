"""A leak that an earlier test has is recognised, and what only looks like it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.needs import needs_tensorflow

APP = """
HISTORY, OTHERS = [], []

class Record:
    def __init__(self, size):
        self.data = [object() for _ in range(size)]

def remember(size=100):
    HISTORY.append(Record(size))

def remember_here(size=100):
    HISTORY.append(Record(size))
"""
OPTIONS = ("--tfleak-iterations=10", "--tfleak-json=report.json")


def measured(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult] | None = None
) -> tuple[pytest.RunResult, dict[str, Any]]:
    """Run the tests, and return the report with its tests by name."""
    run = run or pytester.runpytest_inprocess
    result = run("--tfleak", *OPTIONS)
    report = json.loads(pytester.path.joinpath("report.json").read_text("utf-8"))
    tests = {t["nodeid"].partition("::")[2]: t for t in report["tests"]}
    return result, {**report, "tests": tests}


def lines_of(test: dict[str, Any]) -> set[int]:
    return {finding["origin"]["line"] for finding in test["findings"]}


def test_a_leak_is_searched_for_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        app=APP,
        test_it="""
        import app
        import pytest

        def test_first():
            app.remember()

        def test_same():
            app.remember()

        def test_other_line():
            app.remember_here(200)

        def test_beside_its_own():
            app.remember()
            app.OTHERS.append(app.Record(100))

        @pytest.mark.xfail
        def test_expected():
            app.remember()
        """,
    )
    result, report = measured(pytester)
    tests = report["tests"]
    first, same, other_line = (
        tests[f"test_{name}"] for name in ("first", "same", "other_line")
    )
    assert all(test["status"] == "leak" for test in tests.values())
    referring = {name for name, test in tests.items() if test["same_as"]}
    assert referring == {"test_same"}  # another line may be another mistake
    assert same["same_as"]["nodeid"] == "test_it.py::test_first"
    assert {same["same_as"]["origin"]["line"]} == lines_of(first) == lines_of(same)
    assert lines_of(other_line) != lines_of(first)
    assert same["seconds_by_part"]["known_growth"] == 0
    for field in ("fingerprint", "cause", "advice"):
        assert same["findings"][0][field] == first["findings"][0][field]
    assert same["findings"][0]["holder"][0].startswith("app.HISTORY (list of ")
    [shared] = [leak for leak in report["leaks"] if len(leak["tests"]) > 1]
    assert {"test_it.py::test_same", "test_it.py::test_first"} < set(shared["tests"])
    result.stdout.fnmatch_lines(
        [
            "*_ test_first _*",
            "  cause *",
            "  what to do *",
            "*_ test_same _*",
            "  same as      test_it.py::test_first: app.py:8",
            "*= tfleak =*",
            "    held by app.HISTORY, made at app.py:*; also in * tests:",
        ]
    )
    text = result.stdout.str().partition("_ test_same _")[2]
    same_message = text.partition("_ test_other_line _")[0]
    assert "  same as " in same_message
    assert "  cause " not in same_message
    assert "  what to do " not in same_message


@pytest.mark.slow
@needs_tensorflow
def test_tensors_in_the_same_list_are_counted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        app="""
        import tensorflow as tf

        HISTORY, OTHERS, BYTES = [], [], []

        def remember(into=HISTORY, times=1):
            for _ in range(times):
                into.append(tf.ones([100]))
        """,
        test_it="""
        import app
        import tensorflow as tf

        def test_first():
            app.remember()

        def test_two_in_each_call():
            app.remember(times=2)

        def test_beside_another_list():
            app.remember()
            app.remember(app.OTHERS)

        def test_variables():
            app.HISTORY.append(tf.Variable(1.0))

        def test_beside_memory():
            app.remember()
            app.BYTES.append(bytearray(50_000))
        """,
    )
    tests = measured(pytester, pytester.runpytest_subprocess)[1]["tests"]
    assert all(test["status"] == "leak" for test in tests.values())
    referring = {name for name, test in tests.items() if test["same_as"]}
    assert referring == {"test_two_in_each_call"}
