"""A baseline in real runs: recorded, read, worse, new, gone, with and without xdist."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("untraced")  # the figures are close to allowances
Run = Callable[..., pytest.RunResult]
FILE = "tfleak.json"
READ = f"--tfleak-baseline={FILE}"
SAVE = f"--tfleak-save-baseline={FILE}"

SUITE = """
import json
import pytest
from pathlib import Path

KEPT = []
RATES = json.loads(Path(__file__).with_name("rates.json").read_text())

def keep(name):
    KEPT.extend(bytearray(2000) for _ in range(RATES.get(name, 0)))

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_one():
    keep("one")

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_two():
    keep("two")

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_three():
    keep("three")

def test_checks(tfleak):
    tfleak.check(lambda: keep("first"), iterations=20, diagnose="off")
    tfleak.check(lambda: keep("second"), iterations=20, diagnose="off")
"""


@pytest.fixture
def leaking(pytester: pytest.Pytester) -> Callable[..., None]:
    """Write a test file whose tests each keep some blocks of 2 KB per iteration."""
    pytester.makepyfile(test_it=SUITE)

    def write(**rates: int) -> None:
        (pytester.path / "rates.json").write_text(json.dumps(rates))

    write(one=10, three=10, first=10, second=40)
    return write


def recorded(pytester: pytest.Pytester) -> list[dict[str, Any]]:
    data = json.loads((pytester.path / FILE).read_text())
    entries: list[dict[str, Any]] = data["findings"][:-1]
    return entries


def names_recorded(pytester: pytest.Pytester) -> list[str]:
    return sorted({line["nodeid"].partition("::")[2] for line in recorded(pytester)})


def test_a_missing_baseline_is_recorded_now(
    pytester: pytest.Pytester, run: Run, leaking: Callable[..., None]
) -> None:
    result = run(READ)
    result.assert_outcomes(passed=4)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [f"baseline {FILE}: there was none; * findings in 3 tests recorded and*"]
    )
    assert names_recorded(pytester) == ["test_checks", "test_one", "test_three"]
    text = (pytester.path / FILE).read_text()
    again = run(READ)
    again.assert_outcomes(passed=4)
    again.stdout.fnmatch_lines([f"baseline {FILE}: * findings in 3 tests accepted"])
    assert (pytester.path / FILE).read_text() == text


def test_only_what_is_new_or_clearly_worse_fails(
    pytester: pytest.Pytester, run: Run, leaking: Callable[..., None]
) -> None:
    run(READ)
    leaking(one=30, two=10, first=10, second=40)
    result = run(READ)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            f"*Worse than in the baseline {FILE}: *",
            f"baseline {FILE}: * accepted, * worse, * new, * gone",
            "  worse * test_it.py::test_one*",
            "  new * test_it.py::test_two*",
            "  gone * test_it.py::test_three*",
            "  accepted * test_it.py::test_checks*",
        ]
    )


def test_saving_records_and_drops_what_is_gone(
    pytester: pytest.Pytester, run: Run, leaking: Callable[..., None]
) -> None:
    run(READ)
    leaking(two=10, second=40)
    result = run(READ, SAVE)
    result.assert_outcomes(passed=3, failed=1)
    assert names_recorded(pytester) == ["test_checks", "test_two"]
    run(READ).assert_outcomes(passed=4)


def test_a_missing_baseline_is_recorded_beside_one_that_is_saved(
    pytester: pytest.Pytester, run: Run, leaking: Callable[..., None]
) -> None:
    leaking(two=10)
    result = run(READ, "--tfleak-save-baseline=other.json")
    result.assert_outcomes(passed=4)
    assert names_recorded(pytester) == ["test_two"]
    assert (pytester.path / "other.json").exists()


@pytest.mark.parametrize(
    ("variables", "ini", "args", "why"),
    [
        ({"CI": "true"}, "", [], "CI"),
        ({"BUILD_NUMBER": "7"}, "", [], "BUILD_NUMBER"),
        ({}, "", ["--tfleak-baseline-required"], "--tfleak-baseline-required"),
        ({}, "tfleak_baseline_required = true", [], "--tfleak-baseline-required"),
        ({"CI": "1"}, "", ["--tfleak-save-baseline=other.json"], "CI"),
        ({"CI": "1"}, "", ["-n2"], "CI"),
    ],
    ids=["CI", "Jenkins", "flag", "ini", "saved elsewhere", "xdist"],
)
def test_a_missing_baseline_is_an_error_where_it_must_be_there(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    leaking: None,
    variables: dict[str, str],
    ini: str,
    args: list[str],
    why: str,
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if "-n2" in args:
        pytest.importorskip("xdist")
    result = pytester.runpytest_inprocess(READ, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, result.stderr.lines)
    assert f"{FILE} does not exist, and is not written because {why} is set" in line
    assert f"to record it, add {SAVE} to this command" in line
    assert "test session starts" not in result.stdout.str()
    assert not (pytester.path / FILE).exists()


def test_tests_are_listed_without_a_baseline(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, leaking: None
) -> None:
    monkeypatch.setenv("CI", "1")
    result = pytester.runpytest_inprocess(READ, "--collect-only")
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_a_missing_baseline_is_written_where_ci_is_off(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    leaking: Callable[..., None],
    value: str,
) -> None:
    leaking()
    monkeypatch.setenv("CI", value)
    assert pytester.runpytest_inprocess(READ).ret == pytest.ExitCode.OK
    assert recorded(pytester) == []


def test_ci_writes_a_baseline_that_it_is_told_to_save(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    leaking: Callable[..., None],
) -> None:
    monkeypatch.setenv("CI", "true")
    pytester.runpytest_inprocess(SAVE, "-k", "one").assert_outcomes(failed=1)
    assert names_recorded(pytester) == ["test_one"]
    pytester.runpytest_inprocess(READ, "-k", "one").assert_outcomes(passed=1)
    (pytester.path / FILE).unlink()
    pytester.runpytest_inprocess(READ, SAVE, "-k", "one").assert_outcomes(passed=1)
    assert names_recorded(pytester) == ["test_one"]


def test_tests_that_do_not_run_keep_their_entries(
    pytester: pytest.Pytester, run: Run, leaking: Callable[..., None]
) -> None:
    run(READ)
    text = (pytester.path / FILE).read_text()
    result = run(READ, SAVE, "-k", "two")
    result.assert_outcomes(passed=1)
    assert "gone" not in result.stdout.str()
    assert (pytester.path / FILE).read_text() == text


@pytest.mark.layout
def test_the_json_report_holds_what_became_of_the_baseline(
    pytester: pytest.Pytester, run: Run, leaking: Callable[..., None]
) -> None:
    run(READ)
    leaking(one=22, three=10, first=10, second=40)  # few enough blocks to be allowed
    run(READ, "--tfleak-json=report.json")
    report = json.loads((pytester.path / "report.json").read_text())
    baseline = report["baseline"]
    assert Path(baseline["file"]).name == FILE
    assert baseline["recorded"] is False
    assert {row["nodeid"] for row in baseline["worse"]} == {"test_it.py::test_one"}
    by_name = {test["nodeid"]: test for test in report["tests"]}
    worse = by_name["test_it.py::test_one"]["findings"]
    assert {finding["baseline"] for finding in worse} == {"worse"}
    rates = {f["signal"]: f["per_iteration"] for f in worse}
    shown = {row["signal"]: row["per_iteration"] for row in baseline["worse"]}
    assert shown == rates


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is not JSON"),
        ('{"schema": 2, "findings": []}', "has schema 2*update pytest-tfleak"),
        ('{"schema": 1}', 'it has no list of "findings"'),
        (None, "is a directory"),
    ],
)
def test_a_bad_baseline_ends_the_run_before_any_test(
    pytester: pytest.Pytester, run: Run, leaking: None, content: str | None, why: str
) -> None:
    path = pytester.path / FILE
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    result = run(READ)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{FILE}*{why}*"])
    assert "test session starts" not in result.stdout.str()


def test_an_accepted_leak_hides_no_doubt_from_strict(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
from itertools import count
from pytest_tfleak.testing import FakeProbe

UNSTEADY = [sum(rise <= row for rise in (2, 7, 21, 35, 38)) for row in range(40)]

def pytest_tfleak_probes(census):
    return [FakeProbe({"steady": count()}), FakeProbe({"unsteady": UNSTEADY})]
"""
    )
    pytester.makepyfile(
        """
import pytest

@pytest.mark.tfleak(iterations=20, warmup=0, diagnose="off")
def test_it(): pass
"""
    )
    pytester.runpytest_subprocess(SAVE).assert_outcomes(failed=1)
    pytester.runpytest_subprocess(READ).assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess(READ, "--tfleak-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["INCONCLUSIVE: *unsteady*"])
