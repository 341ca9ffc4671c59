"""Slow tests: none run by default, one in 28 each day in CI, all on request."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SUITE = """
import pytest

@pytest.mark.slow
@pytest.mark.parametrize("number", range(28))
def test_slow(number): pass

def test_fast(): pass
"""


@pytest.mark.parametrize(
    ("asked", "passed"), [("", 1), ("today", 2), ("1", 29)], ids=["none", "part", "all"]
)
def test_slow_tests_run_where_they_are_asked_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, asked: str, passed: int
) -> None:
    monkeypatch.setenv("TFLEAK_SLOW", asked)
    pytester.makeconftest(CONFTEST.read_text("utf-8"))
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=passed, skipped=29 - passed)
