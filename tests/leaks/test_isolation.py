"""The state that tests leave behind, in a process of its own.

The cases import TensorFlow; other tests say what happens in a process without it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).parent / "alone" / "isolation_cases.py"


def test_what_a_test_leaves_behind_is_put_back(pytester: pytest.Pytester) -> None:
    options = ("-q", "-p", "no:randomly", "--tfleak-diagnose=off")
    result = pytester.runpytest_subprocess(CASES, *options)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "warnings"}, outcomes
    assert outcomes["passed"] > 100
