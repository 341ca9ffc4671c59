"""What piles up, in words, on real TensorFlow and Keras objects.

The cases import TensorFlow; other tests say what happens in a process without it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ALONE = Path(__file__).parent / "alone"
CASES = [ALONE / f"{name}_cases.py" for name in ("details", "retraces", "operations")]


def test_tensorflow_objects_say_what_they_are(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(*CASES, "-q", "-p", "no:randomly")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "warnings"}, outcomes
    assert outcomes["passed"] > 50
