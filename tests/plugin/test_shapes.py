"""Tests whose body cannot be repeated: an error with a marker, a note without."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]
SHAPES = """
import unittest
import pytest
{marker}

class TestCase(unittest.TestCase):
    def test_case(self): pass

def test_with_fixture(tfleak):
    assert tfleak.check(lambda: None, iterations=5).status == "clean"

async def test_async(): pass
"""


def test_a_marker_on_a_shape_that_is_not_supported_is_an_error(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(SHAPES.format(marker="pytestmark = pytest.mark.tfleak"))
    result = run()
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "the tfleak marker does not support unittest.TestCase yet: *",
            "the tfleak marker does not support async tests yet: *",
            "the tfleak marker does not go with the tfleak fixture: *",
        ]
    )


def test_without_a_marker_such_a_test_runs_once_and_is_listed(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(test_it=SHAPES.format(marker=""))
    result = run("--tfleak", "--deselect", "test_it.py::test_async", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(
        [
            "NOT MEASURED*test_it.py::TestCase::test_case*",
            "*unittest.TestCase yet*",
            "NOT MEASURED*test_it.py::test_with_fixture*",
            "*uses the tfleak fixture*",
            "clean*test_it.py::test_with_fixture*",
        ]
    )


def test_a_hypothesis_test_is_not_supported_yet(pytester: pytest.Pytester) -> None:
    pytest.importorskip("hypothesis")
    pytester.makepyfile(
        """
        import pytest
        from hypothesis import given
        from hypothesis import settings
        from hypothesis import strategies as st

        @pytest.mark.tfleak
        @given(st.integers())
        def test_marked(x): pass

        @settings(max_examples=3, database=None)
        @given(st.integers())
        def test_plain(x): pass
        """
    )
    result = pytester.runpytest("--tfleak")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*does not support Hypothesis tests yet*"])
    result.stdout.fnmatch_lines(["NOT MEASURED*test_plain*"])


def test_a_doctest_runs_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        module="""
        calls = []

        def call():
            '''Append.

            >>> calls.append(0)
            >>> len(calls)
            1
            '''
        """
    )
    result = pytester.runpytest("--tfleak", "--doctest-modules", "module.py")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["NOT MEASURED*call*", "*DoctestItem*"])


def test_an_opted_out_test_may_have_any_shape(pytester: pytest.Pytester) -> None:
    marker = "pytestmark = pytest.mark.tfleak(enabled=False)"
    pytester.makepyfile(SHAPES.format(marker=marker).partition("async")[0])
    pytester.runpytest().assert_outcomes(passed=2)
