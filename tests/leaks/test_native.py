"""Memory that C++ keeps, in a process of its own: memray reaches into all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).parent / "alone" / "native_cases.py"


def test_native_memory_is_traced_to_the_user_s_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("memray", reason="memray is not installed")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    result = pytester.runpytest_subprocess(
        CASES, "-q", "-p", "no:randomly", "-p", "no:memray"
    )
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "warnings"}, outcomes
    assert outcomes["passed"] == 7
