"""Writing reports: good and bad paths, full disks, odd terminals."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pytest_tfleak.plugin import outputs

Run = Callable[..., pytest.RunResult]
SUITE = """
import os, pathlib, pytest
from leaks import leak

pathlib.Path("ran").touch()

@pytest.mark.tfleak(iterations=20)
def test_leaky(): leak()

@pytest.mark.tfleak(iterations=20)
def test_clean(): pass
"""
#: A conftest.py that makes writing fail in the middle of the file.
FULL_DISK = """
import resource

def pytest_sessionstart():
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
"""
needs_resource = pytest.mark.skipif(os.name != "posix", reason="no resource limits")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def suite(pytester: pytest.Pytester, leaks: None) -> pytest.Pytester:
    pytester.makepyfile(test_it=SUITE)
    return pytester


def assert_refused(suite: pytest.Pytester, result: pytest.RunResult, line: str) -> None:
    """Check that one clear line is printed before any test runs."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [text for text in result.stderr.lines if text]
    pytest.LineMatcher(errors).fnmatch_lines([line])
    assert len(errors) == 1
    assert not (suite.path / "ran").exists()


REPORTS = [reporter.option.command_line_flag for reporter in outputs.REPORTERS]
#: Reports that do not fit on the full disk; without leaks, a SARIF file does.
TOO_LARGE = [
    (flag, selected)
    for flag in REPORTS
    for selected in ("clean", "clean or leaky")
    if (flag, selected) != ("--tfleak-sarif", "clean")
]
FLAGS = [*REPORTS, "--tfleak-save-baseline"]


@pytest.mark.parametrize("flag", FLAGS)
def test_a_directory_is_refused(suite: pytest.Pytester, flag: str) -> None:
    suite.mkdir("reports")
    result = suite.runpytest_inprocess(f"{flag}=reports")
    assert_refused(suite, result, f"ERROR: {flag}: cannot write *: it is a directory")


def test_a_path_through_a_file_is_refused(suite: pytest.Pytester, run: Run) -> None:
    result = run("--tfleak-json=leaks.py/report.json")
    assert_refused(suite, result, "ERROR: --tfleak-json: cannot write *is no directory")


def test_a_read_only_directory_is_refused(suite: pytest.Pytester) -> None:
    if is_root:
        pytest.skip("root may write everywhere")
    directory = suite.mkdir("reports")
    directory.chmod(0o500)
    result = suite.runpytest_inprocess("--tfleak-json=reports/report.json")
    assert_refused(suite, result, "ERROR: --tfleak-json: cannot write *denied")


def test_a_read_only_file_is_refused(suite: pytest.Pytester) -> None:
    if is_root:
        pytest.skip("root may write everywhere")
    path = suite.path / "report.json"
    path.touch(0o400)
    result = suite.runpytest_inprocess("--tfleak-json=report.json")
    assert_refused(suite, result, "ERROR: --tfleak-json: cannot write *read-only")


def test_a_name_that_is_too_long_is_refused(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess(f"--tfleak-json={'x' * 300}")
    assert_refused(suite, result, "ERROR: --tfleak-json: cannot write *too long")


def test_none_is_no_file(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\ntfleak_json = report.json\ntfleak_html = none")
    result = suite.runpytest_inprocess("--tfleak-json=none", "-k", "clean")
    assert result.ret == pytest.ExitCode.OK
    assert not list(suite.path.glob("*.json"))


def test_no_name_is_refused(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--tfleak-json=")
    assert_refused(suite, result, "ERROR: tfleak command line: json='': expected *")


def test_one_file_for_two_reports_is_refused(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--tfleak-json=report", "--tfleak-html=./report")
    assert_refused(suite, result, "ERROR: --tfleak-json and --tfleak-html name one*")


@pytest.mark.parametrize("other", ["--junitxml", "--log-file"])
def test_the_file_of_another_plugin_is_refused(
    suite: pytest.Pytester, other: str
) -> None:
    result = suite.runpytest_inprocess(f"{other}=report", "--tfleak-json=./report")
    assert_refused(suite, result, f"ERROR: {other} and --tfleak-json name one file*")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_report_does_not_replace_the_baseline(
    suite: pytest.Pytester, is_there: bool
) -> None:
    path = suite.path / "base.json"
    if is_there:
        path.write_text('{"schema": 1, "findings": []}')
    result = suite.runpytest_inprocess(
        "--tfleak-baseline=base.json", "--tfleak-json=./base.json"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *--tfleak-baseline* name one file: *"])
    assert path.exists() == is_there
    assert not (suite.path / "ran").exists()


def test_an_unknown_home_directory_is_taken_literally(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--tfleak-json=~no such user/report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (suite.path / "~no such user/report.json").exists()


@pytest.mark.parametrize("flag", ["--tfleak-baseline", "--tfleak-save-baseline"])
def test_a_file_that_is_no_baseline_is_refused(
    suite: pytest.Pytester, run: Run, flag: str
) -> None:
    result = run(f"{flag}=test_it.py")
    assert_refused(suite, result, f"ERROR: {flag}: *test_it.py: is not JSON*")
    assert (suite.path / "test_it.py").read_text().startswith("import os")


def test_missing_directories_are_created(suite: pytest.Pytester, run: Run) -> None:
    run("--tfleak-json=new/deep/report.json", "--tfleak-html=new/report.html")
    assert json.loads((suite.path / "new/deep/report.json").read_text())
    assert (suite.path / "new/report.html").read_text("utf-8").startswith("<!")
    assert [path.name for path in (suite.path / "new/deep").iterdir()] == [
        "report.json"
    ]


def test_a_path_is_relative_to_where_pytest_was_started(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.mkdir("elsewhere")
    monkeypatch.setenv("REPORTS", str(suite.path / "by variable"))
    suite.makepyfile(
        test_it="import os, pytest\n\n@pytest.mark.tfleak\n"
        "def test_it(): os.chdir('elsewhere' if os.path.exists('elsewhere') else '.')"
    )
    suite.runpytest_subprocess(
        "--tfleak-json=report.json", "--tfleak-html=$REPORTS/report.html"
    )
    assert (suite.path / "report.json").exists()
    assert (suite.path / "by variable/report.html").exists()


@needs_resource
def test_a_symlink_stays_one_and_the_mode_is_kept(suite: pytest.Pytester) -> None:
    target = suite.mkdir("kept") / "report.json"
    target.write_text("old")
    target.chmod(0o640)
    link = suite.path / "report.json"
    link.symlink_to(target)
    suite.runpytest_inprocess("--tfleak-json=report.json")
    assert link.is_symlink()
    assert json.loads(target.read_text())
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.usefixtures("diagnosed")
@needs_resource
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("flag", "selected"), TOO_LARGE)
def test_on_a_full_disk_the_old_file_stays_and_the_exit_status_says_so(
    suite: pytest.Pytester, flag: str, selected: str
) -> None:
    suite.makeconftest(FULL_DISK)
    (suite.path / "report").write_text("old")
    result = suite.runpytest_subprocess(f"{flag}=report", "-k", selected)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert (suite.path / "report").read_text() == "old"
    assert not list(suite.path.glob(".tfleak*"))
    result.stdout.fnmatch_lines(
        ["*= tfleak =*", "1 clean", "tfleak: * report not written to *report: *"]
    )
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


@needs_resource
@pytest.mark.usefixtures("untraced")
def test_on_a_full_disk_workers_change_nothing(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    suite.makeconftest(FULL_DISK)
    (suite.path / "report").write_text("old")
    result = suite.runpytest_subprocess("-n2", "--tfleak-json=report")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert (suite.path / "report").read_text() == "old"
    result.stdout.fnmatch_lines(["LEAK *test_leaky*", "tfleak: JSON report not*"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_report_that_fails_does_not_affect_the_others(
    suite: pytest.Pytester,
) -> None:
    result = suite.runpytest_inprocess(
        "--tfleak-json=/dev/full", "--tfleak-html=report.html"
    )
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert (suite.path / "report.html").exists()
    assert not Path("/dev/full").is_file()
    result.stdout.fnmatch_lines(["*JSON report not written to /dev/full: No space*"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_without_a_terminal_the_error_is_on_stderr(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess(
        "--tfleak-json=/dev/full", "-p", "no:terminal", "-k", "clean"
    )
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert result.stdout.str() == ""
    result.stderr.fnmatch_lines(["tfleak: JSON report not written to /dev/full: *"])


def test_a_baseline_of_a_run_that_was_cut_short_is_not_saved(
    suite: pytest.Pytester,
) -> None:
    old = '{"schema": 1, "findings": []}'
    (suite.path / "baseline.json").write_text(old)
    result = suite.runpytest_inprocess("-x", "--tfleak-save-baseline=baseline.json")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["tfleak: baseline not written to *: *cut short"])
    assert (suite.path / "baseline.json").read_text() == old


def test_a_missing_baseline_is_recorded_and_then_accepts(
    suite: pytest.Pytester, run: Run
) -> None:
    first = run("--tfleak-baseline=baseline.json")
    first.assert_outcomes(passed=2)
    first.stdout.fnmatch_lines(["baseline baseline.json: there was none*"])
    again = run("--tfleak-baseline=baseline.json", "--tfleak-json=report.json")
    again.assert_outcomes(passed=2)
    again.stdout.fnmatch_lines(["baseline baseline.json: *accepted*"])
    report = json.loads((suite.path / "report.json").read_text())
    assert len(report["baseline"]["accepted"]) >= 1
    assert report["baseline"]["new"] == []
    found = [f["baseline"] for test in report["tests"] for f in test["findings"]]
    assert set(found) == {"accepted"}


def test_a_check_in_a_test_uses_the_baseline_too(
    pytester: pytest.Pytester, leaks: None, run: Run
) -> None:
    pytester.makepyfile(
        """
        from leaks import leak

        def test_it(tfleak):
            tfleak.check(leak, iterations=20)
        """
    )
    run().assert_outcomes(failed=1)
    run("--tfleak-save-baseline=baseline.json").assert_outcomes(failed=1)
    run("--tfleak-baseline=baseline.json").assert_outcomes(passed=1)


def outcome(suite: pytest.Pytester) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the JSON and JUnit files say about each test, except figures."""
    document = json.loads((suite.path / "report.json").read_text())
    by_json = {test["nodeid"]: test["status"] for test in document["tests"]}
    cases = ElementTree.parse(suite.path / "junit.xml").iter("testcase")
    by_junit = {
        case.attrib["name"]: (
            [p.get("value") for p in case.iter("property")][:1],
            [child.tag for child in case if child.tag != "properties"],
        )
        for case in cases
    }
    return by_json, by_junit


@pytest.mark.parametrize(
    "args",
    [
        "-n2",
        "-p no:terminal",
        *(
            pytest.param(args, marks=pytest.mark.slow)
            for args in (
                *("-n0", "-n2 --dist=loadscope", "--tb=no", "--color=no"),
                *("-s", "--no-summary", "-qq", "--color=yes"),
            )
        ),
    ],
)
def test_files_are_the_same_whatever_the_terminal_and_the_workers(
    suite: pytest.Pytester, args: str
) -> None:
    if args.startswith("-n"):
        pytest.importorskip("xdist")
    files = ["--tfleak-json=report.json", "--junitxml=junit.xml"]
    result = suite.runpytest_inprocess(*files, *args.split())
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert outcome(suite) == (
        {"test_it.py::test_leaky": "leak", "test_it.py::test_clean": "clean"},
        {"test_leaky": (["leak"], ["failure"]), "test_clean": (["clean"], [])},
    )


@pytest.mark.parametrize(
    "environment",
    [{"COLUMNS": "20"}, {"PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}],
    ids=lambda environment: next(iter(environment)),
)
def test_an_ascii_terminal_shows_what_was_written(
    suite: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    files = ["--tfleak-json=repört.json", "--tfleak-html=report.html"]
    result = suite.runpytest_subprocess(*files)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert json.loads((suite.path / "repört.json").read_text())
    assert (suite.path / "report.html").exists()
    result.stdout.fnmatch_lines(
        ["*tfleak: JSON report written to*", "*tfleak: HTML report written to*"]
    )


def test_a_quiet_run_prints_no_names_of_files(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-q", "--tfleak-json=report.json")
    result.stdout.no_fnmatch_line("*report.json*")
    assert (suite.path / "report.json").exists()


def test_a_row_in_the_table_of_reporters_makes_a_report(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(
        names="""
        def render(document):
            return "\\n".join(test["nodeid"] for test in document["tests"])
        """
    )
    row = outputs.Reporter(
        name="names",
        title="list of names",
        help="write the names of the measured tests to this file",
        module="names",
    )
    monkeypatch.setattr(outputs, "REPORTERS", (*outputs.REPORTERS, row))
    suite.syspathinsert()
    result = suite.runpytest_inprocess("--tfleak-names=out/names.txt", "-k", "clean")
    result.stdout.fnmatch_lines(["*tfleak: list of names written to *names.txt*"])
    text = (suite.path / "out" / "names.txt").read_text()
    assert text == "test_it.py::test_clean"
    help_text = " ".join(suite.runpytest_inprocess("--help").stdout.str().split())
    assert "--tfleak-names=FILE write the names of the measured tests" in help_text
