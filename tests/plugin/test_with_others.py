"""What else may surround a measured test."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def test_a_skipped_test_of_an_unsupported_shape_is_skipped(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import unittest
        import pytest

        @pytest.mark.skip(reason="later")
        @pytest.mark.tfleak
        class TestOld(unittest.TestCase):
            def test_it(self): ...
        """
    )
    pytester.runpytest().assert_outcomes(skipped=1)


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


@pytest.mark.skipif(
    find_spec("pytest_timeout") is None, reason="pytest-timeout is not installed"
)
def test_the_loop_stays_inside_the_limit_of_pytest_timeout(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import time
        import pytest

        @pytest.mark.timeout(6)
        @pytest.mark.tfleak
        def test_slow():
            time.sleep(0.1)
        """
    )
    result = pytester.runpytest_subprocess("-v")
    result.assert_outcomes(passed=1)


def test_a_wrapped_runtest_is_wrapped_afterwards(pytester: pytest.Pytester) -> None:
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
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*The check at test_a_check_says_which_one_it_was.py:5.",
            "*to allow it  tfleak.check(..., blocks=*",
        ]
    )
