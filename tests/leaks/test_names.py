"""Private names of the installed TensorFlow, tested in a process of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_tfleak.tf import names

CASES = Path(__file__).parent / "alone" / "names_cases.py"


#: Tests of names that only another Keras than the one installed has.
_ELSEWHERE = 8


def test_every_private_name_is_where_it_should_be(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(CASES, "-q", "-rs", "-p", "no:randomly")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "skipped", "warnings"}, outcomes
    rows = len(names.all_names()) + len(names.all_fields())
    assert outcomes["passed"] + outcomes.get("skipped", 0) == 2 * rows + 5
    newer = re.findall(r"SKIPPED \[(\d+)\] .*: of a newer ", result.stdout.str())
    assert outcomes.get("skipped", 0) - sum(map(int, newer)) <= _ELSEWHERE
