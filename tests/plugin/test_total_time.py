"""A time limit for a run is shared among its tests, in turn."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tfleak.plugin.total_time import TotalTime
from pytest_tfleak.plugin.total_time import choose_tests

SUITE = """
import time
import pytest

@pytest.mark.parametrize("n", range(2))
def test_it(n):
    time.sleep(0.05)

@pytest.mark.tfleak
def test_marked():
    pass
"""
NAMES = ["a", "b", "c", "d"]


def test_without_earlier_runs_all_tests_may_have_a_turn() -> None:
    assert choose_tests(NAMES, {}, 10) == {"a", "b", "c", "d"}


def test_a_cache_that_anybody_has_written_is_read() -> None:
    stored = {
        "t_a": [1, 2.5],
        "t_b": [10**400, 1],
        "t_c": [1, 10**400],
        "t_d": [1, float("nan")],
        "t_e": [-1, 1],
        "t_f": ["1", 1],
        "t_g": 1,
    }
    config: Any = SimpleNamespace()
    config.cache = SimpleNamespace(get=lambda key, default: stored)
    assert TotalTime(config, 1.0)._read() == {"t_a": (1, 2.5)}


def test_those_never_measured_come_before_those_measured_longest_ago() -> None:
    known = {"a": (2, 4.0), "b": (1, 4.0), "d": (2, 4.0)}
    assert choose_tests([*NAMES, "e", "f"], known, 4) == {"c", "e", "f"}
    assert choose_tests(NAMES, known, 4) == {"c"}
    assert choose_tests(NAMES, known, 8) == {"c", "b"}
    assert choose_tests(NAMES, known, 12) == {"c", "b", "a"}
    assert choose_tests(NAMES, known, 100) == {"a", "b", "c", "d"}


def test_a_test_that_takes_long_leaves_less_for_others() -> None:
    known = {"a": (1, 30.0), "b": (1, 1.0), "c": (1, 1.0), "d": (1, 1.0)}
    assert choose_tests(NAMES, known, 10) == {"a"}


@pytest.mark.parametrize("value", ["0", "0s"])
def test_no_time_at_all_is_a_usage_error(pytester: pytest.Pytester, value: str) -> None:
    result = pytester.runpytest_inprocess(
        "--tfleak", f"--tfleak-max-total-time={value}"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*max_total_time=*expected more than 0 seconds*"])


def without_turn(pytester: pytest.Pytester, *options: str) -> set[str]:
    """Run the suite; return the tests that were not measured."""
    result = pytester.runpytest_subprocess(
        "-p", "cacheprovider", "--tfleak", "--tfleak-json=out.json", *options
    )
    result.assert_outcomes(passed=3)
    tests = json.loads((pytester.path / "out.json").read_text())["tests"]
    return {
        test["nodeid"].rpartition("::")[2]
        for test in tests
        if test["reason"] == "no_time_left"
    }


def test_each_run_measures_those_that_waited_longest(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS")
    pytester.makepyfile(SUITE)
    limit = "--tfleak-max-total-time=0.3"  # the body alone takes 0.4 s per test
    every = {"test_marked", "test_it[0]", "test_it[1]"}
    turns = [
        every - without_turn(pytester, "-p", "no:randomly", limit) for _ in range(3)
    ]
    assert turns[0] == {"test_it[0]"}
    assert turns[1] == {"test_it[1]"}
    assert set().union(*turns) == every  # marked tests wait without failing
    assert not without_turn(pytester, "-p", "no:randomly")


def test_a_test_without_a_turn_is_listed_with_what_helps(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_a(): pass\ndef test_b(): pass")
    result = pytester.runpytest_subprocess("--tfleak", "--tfleak-max-total-time=1ms")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["NOT MEASURED*::test_b", "    no time left: max_total_time is used up"]
    )


def test_a_limit_that_is_no_time_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(): pass")
    result = pytester.runpytest_inprocess("--tfleak-max-total-time=soon")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*max_total_time='soon'*"])
