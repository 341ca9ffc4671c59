"""SARIF files of real runs: whole, cut short, on workers, below a repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., pytest.RunResult]
QUICKLY = ("-k", "leaky", "--tfleak-diagnose=off")
SUITE = """
import pytest
from leaks import leak

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_leaky(): leak()

@pytest.mark.tfleak(iterations=20, warmup=2)
@pytest.mark.parametrize("x", ["a[b](c)"])
def test_again(x): leak()

@pytest.mark.xfail
@pytest.mark.tfleak(iterations=20, warmup=2, diagnose="off")
def test_expected(): leak()

@pytest.mark.tfleak(iterations=3)
def test_short(): pass
"""


@pytest.fixture(autouse=True)
def _suite(pytester: pytest.Pytester, leaks: None) -> None:
    pytester.makepyfile(test_it=SUITE)


def written(pytester: pytest.Pytester, name: str = "leaks.sarif") -> dict[str, Any]:
    (run,) = json.loads((pytester.path / name).read_text("ascii"))["runs"]
    found: dict[str, Any] = run
    return found


def at(location: dict[str, Any]) -> tuple[str, int]:
    physical = location["physicalLocation"]
    return physical["artifactLocation"]["uri"], physical["region"]["startLine"]


def test_a_leak_of_several_tests_is_one_result_at_its_line(
    pytester: pytest.Pytester, run: Run
) -> None:
    run("--tfleak-sarif=leaks.sarif").assert_outcomes(failed=2, passed=1, xfailed=1)
    found = written(pytester)
    (result,) = found["results"]
    assert at(result["locations"][0]) == ("leaks.py", 4)
    assert {
        (at(one), one["message"]["text"]) for one in result["relatedLocations"]
    } == {
        (("test_it.py", 4), "test_it.py::test_leaky"),
        (("test_it.py", 7), "test_it.py::test_again\\[a\\[b](c)]"),
    }
    assert result["ruleId"] == "object-kept"
    assert result["partialFingerprints"]
    (invocation,) = found["invocations"]
    assert invocation["executionSuccessful"]
    (short,) = invocation["toolExecutionNotifications"]
    assert at(short["locations"][0]) == ("test_it.py", 15)


def test_a_run_that_is_cut_short_says_so(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess("-x", "--tfleak-sarif=leaks.sarif", *QUICKLY)
    found = written(pytester)
    assert len(found["results"]) == 1
    (invocation,) = found["invocations"]
    assert not invocation["executionSuccessful"]
    notified = invocation["toolExecutionNotifications"]
    assert [one["descriptor"]["id"] for one in notified] == ["cut-short"]


def test_a_test_that_is_interrupted_is_at_the_top_of_its_file(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.tfleak(iterations=20)
        def test_it(): raise KeyboardInterrupt
        """
    )
    pytester.inline_run("--tfleak-sarif=leaks.sarif", no_reraise_ctrlc=True)
    (invocation,) = written(pytester)["invocations"]
    test, _ = invocation["toolExecutionNotifications"]
    assert at(test["locations"][0]) == ("test_it.py", 1)


@pytest.mark.parametrize("variable", [False, True], ids=[".git", "GITHUB_WORKSPACE"])
def test_paths_are_relative_to_the_repository(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    project = pytester.mkdir("project")
    for name in ("test_it.py", "leaks.py"):
        (pytester.path / name).rename(project / name)
    if variable:
        monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    else:
        pytester.mkdir(".git")
    (project / "pytest.ini").write_text("[pytest]\ntfleak_sarif = out/leaks.sarif")
    monkeypatch.chdir(project)
    pytester.runpytest_inprocess(*QUICKLY, "--rootdir", str(project))
    found = written(pytester, "project/out/leaks.sarif")
    (result,) = found["results"]
    assert at(result["locations"][0]) == ("project/test_it.py", 4)
    base = found["originalUriBaseIds"]["%SRCROOT%"]["uri"]
    assert base == pytester.path.resolve().as_uri() + "/"
