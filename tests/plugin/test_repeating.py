"""Tests that pass once and do not bear repeating."""

from __future__ import annotations

import pytest

MKDIR = """
    import pytest

    {mark}
    def test_mkdir(tmp_path):
        (tmp_path / "folder").mkdir()
"""


def test_a_test_that_nobody_marked_passes_as_without_us(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(MKDIR.format(mark=""))
    result = pytester.runpytest("--tfleak")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "NOT MEASURED *::test_mkdir",
            "*cannot be repeated: passed at first, FileExistsError in iteration 2;*",
        ]
    )


def test_a_marked_test_fails_and_says_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MKDIR.format(mark="@pytest.mark.tfleak"))
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * FileExistsError: *",
            'not measured: passed at first*in iteration 2; repeat="test"*',
        ]
    )


def test_with_new_fixtures_it_is_measured(pytester: pytest.Pytester) -> None:
    mark = '@pytest.mark.tfleak(repeat="test", iterations=5)'
    pytester.makepyfile(MKDIR.format(mark=mark))
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_test_that_fails_at_once_fails_as_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_wrong(): assert 1 == 2")
    result = pytester.runpytest("--tfleak")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["not measured: the test ended with Assert* in iteration 1"]
    )
