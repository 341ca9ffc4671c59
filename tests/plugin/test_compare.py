"""``python -m pytest_tfleak compare`` on the reports of real runs."""

from __future__ import annotations

import pytest

from pytest_tfleak.__main__ import main

SUITE = """
import pytest
from leaks import leak

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_mended():
    {mended}

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_spoilt():
    {spoilt}

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_kept():
    leak()
"""


@pytest.mark.usefixtures("leaks")
def test_two_runs_are_compared(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mended, spoilt in [("a", "leak()", "pass"), ("b", "pass", "leak()")]:
        pytester.makepyfile(SUITE.format(mended=mended, spoilt=spoilt))
        pytester.runpytest_inprocess(f"--tfleak-json={name}.json")
    capsys.readouterr()
    assert main(["compare", "a.json", "a.json"]) == 0
    same = "0 worse, 0 new, 0 better, 0 gone; 3 tests the same\n"
    assert capsys.readouterr().out == same
    assert main(["compare", "a.json", "b.json"]) == 1
    lines = capsys.readouterr().out.splitlines()
    new, gone = lines.index("NEW"), lines.index("GONE")
    assert "::test_spoilt" in lines[new + 1]
    assert "::test_mended" in lines[gone + 1]
    assert not any("::test_kept" in line for line in lines)
