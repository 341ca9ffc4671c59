"""A measurement ends before the test's own timeout, or the test fails by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("pytest_timeout")

Run = Callable[..., pytest.RunResult]
BEFORE = """
import itertools, time
import pytest
from leaks import leak

calls = itertools.count(1)
"""


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=f"{BEFORE}\n{source}")
    return pytester.runpytest_subprocess("-v", *options)


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_a_clean_test_passes_in_its_time(
    pytester: pytest.Pytester, leaks: None, method: str
) -> None:
    result = run(
        pytester,
        f"""
@pytest.mark.timeout(6, method="{method}")
@pytest.mark.tfleak
def test_slow():
    time.sleep(0.1)

def test_other(): pass
""",
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_a_leak_is_diagnosed_in_its_time(
    pytester: pytest.Pytester, leaks: None, method: str
) -> None:
    result = run(
        pytester,
        f"""
@pytest.mark.timeout(20, method="{method}")
@pytest.mark.tfleak(iterations=20, diagnose_time=300)
def test_leaky():
    time.sleep(0.05)
    leak()

def test_other(): pass
""",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["LEAK *::test_leaky*"])
    result.stdout.no_fnmatch_line("*Timeout*")


@pytest.mark.parametrize("mark", ["@pytest.mark.tfleak", ""], ids=["marked", "all"])
@pytest.mark.parametrize("call", [1, 8], ids=["first", "eighth"])
def test_a_test_that_hangs_fails_by_its_timeout(
    pytester: pytest.Pytester, leaks: None, mark: str, call: int
) -> None:
    result = run(
        pytester,
        f"""
{mark}
@pytest.mark.timeout(6, method="signal")
def test_hangs():
    if next(calls) == {call}:
        time.sleep(60)

def test_other(): pass
""",
        "--tfleak",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *Timeout (>6.0s) from pytest-timeout."])
    result.stdout.fnmatch_lines(["NOT MEASURED *::test_hangs*"])


def test_a_test_that_hangs_in_the_diagnosis_fails_and_has_leaked(
    pytester: pytest.Pytester, leaks: None
) -> None:
    result = run(
        pytester,
        """
@pytest.mark.timeout(9, method="signal")
@pytest.mark.tfleak(iterations=10, warmup=0)
def test_hangs():
    leak()
    if next(calls) > 20:
        time.sleep(60)
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *Timeout (>9.0s) from pytest-timeout."])
    result.stdout.fnmatch_lines(["LEAK *::test_hangs*python.blocks*"])


@pytest.mark.parametrize("limit", ["timeout(6)", "timeout(4, func_only=True)"])
def test_a_check_ends_in_the_time_that_is_left_of_the_test(
    pytester: pytest.Pytester, leaks: None, limit: str
) -> None:
    result = run(
        pytester,
        f"""
@pytest.fixture
def slow(): time.sleep(2)

@pytest.mark.{limit}
def test_check(slow, tfleak):
    time.sleep(1)
    tfleak.check(lambda: time.sleep(0.1))
    tfleak.check(lambda: time.sleep(0.1))
""",
    )
    result.assert_outcomes(passed=1)


def test_the_message_names_the_timeout_where_that_was_too_short(
    pytester: pytest.Pytester, leaks: None
) -> None:
    result = run(
        pytester,
        """
@pytest.mark.timeout(3)
@pytest.mark.tfleak(warmup=1)
def test_slow():
    time.sleep(0.2)
""",
    )
    result.assert_outcomes(passed=1)
    _, _, said = result.stdout.str().partition("= tfleak =")
    text = " ".join(said.split())
    assert "the test's timeout ended the loop after" in text
    assert "max_time" not in text


def test_pytests_own_limit_counts_where_it_ends_the_process(
    pytester: pytest.Pytester, leaks: None
) -> None:
    pytester.makeini(
        "[pytest]\nfaulthandler_timeout = 4\nfaulthandler_exit_on_timeout = true"
    )
    result = run(
        pytester,
        """
@pytest.mark.tfleak
def test_slow():
    time.sleep(0.1)
""",
    )
    result.assert_outcomes(passed=1)
