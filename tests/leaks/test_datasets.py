"""What takes away TensorFlow's growth of datasets, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).parent / "alone" / "datasets_cases.py"


def test_datasets_give_the_same_elements(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(CASES, "-q", "-p", "no:randomly")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "warnings"}, outcomes
    assert outcomes["passed"] > 20
