"""A measured test together with other features of pytest."""

from __future__ import annotations

import pytest


def test_a_test_that_calls_the_library_measures_itself(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        from pytest_tfleak import find_leaks

        def test_it():
            assert find_leaks(lambda: None, iterations=5).iterations == 5
        """
    )
    result = pytester.runpytest("--tfleak", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*measures itself: calls the library"])


def test_a_wrapped_runtest_is_still_wrapped_afterwards(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        """
        def pytest_collection_modifyitems(items):
            for item in items:
                item.runtest = item.runtest

        def pytest_runtest_teardown(item):
            assert "runtest" in vars(item)
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.tfleak(iterations=5)
        def test_it(): ...
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_check_says_which_one_it_was(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        KEPT = []

        def test_two(tfleak):
            tfleak.check(lambda: None, iterations=5)
            tfleak.check(lambda: KEPT.append(object()), iterations=10, blocks=0)
        """
    )
    # threads that earlier tests left here may free blocks meanwhile
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*The check at test_a_check_says_which_one_it_was.py:5.",
            "*to allow it  tfleak.check(..., blocks=*",
        ]
    )
