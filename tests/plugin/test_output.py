"""The output for users: header, letters, summary line, section at the end, help."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from xml.etree import ElementTree

import pytest

from pytest_tfleak.plugin.command_line import all_options

Run = Callable[..., pytest.RunResult]
SUITE = """
import pytest
from leaks import leak

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_leaky(): leak()

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_clean(): pass

@pytest.mark.tfleak(iterations=3)
def test_short(): pass

def test_plain(): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, leaks: None) -> pytest.Pytester:
    pytester.makepyfile(test_it=SUITE)
    return pytester


def section(result: pytest.RunResult) -> list[str]:
    """Return the lines of the section ``tfleak``."""
    lines = result.stdout.lines
    starts = [n for n, line in enumerate(lines) if line.strip("= ") == "tfleak"]
    if not starts:
        return []
    rest = lines[starts[0] + 1 :]
    ends = [n for n, line in enumerate(rest) if line.startswith("=====")]
    return [line for line in rest[: ends[0] if ends else None] if line]


@pytest.mark.usefixtures("diagnosed")
def test_a_leak_has_a_letter_a_word_and_a_line(
    suite: pytest.Pytester, run: Run
) -> None:
    result = run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(
        [
            "*L*",
            "*= FAILURES =*",
            "LEAK: python.blocks +* per iteration*",
            "*to allow it*@pytest.mark.tfleak(blocks=*",
            "*= tfleak =*",
            "LEAK *test_it.py::test_leaky  python.blocks +* at leaks.py:4",
            "INCONCLUSIVE  test_it.py::test_short*",
            "1 clean",
            "*= short test summary info =*",
            "LEAK test_it.py::test_leaky - python.blocks +* at leaks.py:4",
            "*1 failed, 3 passed*",
        ]
    )


HEADER = [
    "tfleak: probes: python, host, process",
    "tfleak: off: allocator, nvml, tensorflow (until the tests import *)",
]


@pytest.mark.parametrize("args", [["-k", "clean"], ["-k", "clean", "-v"]])
def test_the_header_names_the_probes_where_tests_are_measured(
    suite: pytest.Pytester, args: list[str]
) -> None:
    lines = suite.runpytest(*args).stdout
    lines.fnmatch_lines(["*4 items / 3 deselected*", *HEADER, "test_it.py*"])
    assert sum(line.startswith("tfleak: probes") for line in lines.lines) == 1
    start = next(k for k, line in enumerate(lines.lines) if "= tfleak =" in line)
    assert lines.lines[start - 1] == ""
    assert "clean" in lines.lines[start + 1]


def test_the_header_names_the_probes_where_all_tests_are_measured(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile("def test_plain(): pass")
    lines = run("--tfleak").stdout
    lines.fnmatch_lines([*HEADER, "*passed*"])
    assert sum(line.startswith("tfleak: probes") for line in lines.lines) == 1


def test_the_header_names_the_probes_where_a_test_uses_the_fixture(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_it(tfleak): tfleak.check(int, iterations=5)")
    pytester.runpytest().stdout.fnmatch_lines(["collected 1 item", *HEADER])


def test_with_workers_the_header_comes_late_if_only_they_know_what_is_measured(
    suite: pytest.Pytester,
) -> None:
    pytest.importorskip("xdist")
    lines = suite.runpytest_inprocess("-n1", "-k", "clean", "-v").stdout
    lines.fnmatch_lines(["*= tfleak =*", *HEADER, "*clean*"])
    assert sum(line.startswith("tfleak: probes") for line in lines.lines) == 1


@pytest.mark.parametrize(("version", "is_told"), [("2.9.1", True), ("2.13.0", False)])
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["alone", "xdist"])
def test_a_tensorflow_that_is_too_old_is_told_in_one_line(
    pytester: pytest.Pytester, version: str, is_told: bool, workers: list[str]
) -> None:
    if workers:
        pytest.importorskip("xdist")
    pytester.makepyfile(
        tensorflow=f"__version__ = '{version}'",
        test_it="import tensorflow\ndef test_clean(): pass",
    )
    result = pytester.runpytest_subprocess("--tfleak", *workers)
    result.assert_outcomes(passed=1)
    text = f"TensorFlow {version} is not supported, 2.13 and later are: *"
    line = f"tfleak: {text}"
    if not is_told:
        result.stdout.no_fnmatch_line(f"*{text}")
    elif workers:  # only they import TensorFlow
        result.stdout.fnmatch_lines(["*= tfleak =*", text])
    else:
        result.stdout.fnmatch_lines(["collected *", line, "tfleak: probes: *", text])


def test_the_lines_on_the_marker_fit_the_terminal(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, width in (("60", 60), ("100", 100), ("10", 80)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = pytester.runpytest("--markers").stdout.lines
        start = lines.index(next(ln for ln in lines if "mark.tfleak(" in ln))
        own = lines[start : lines.index("", start)]
        assert width - 20 < max(map(len, own)) <= width
        assert own[1].startswith("    ")
        assert any(line.startswith("    iterations=50: iterations") for line in own)


def test_the_header_says_where_rss_decides(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        no_heap="""
        from pytest_tfleak.probes import host

        host.find_heap_reader = lambda: None
        """
    )
    # in a process of its own: runs in this one may hold another copy of the module
    result = suite.runpytest_subprocess("-p", "no_heap", "-k", "clean")
    result.stdout.fnmatch_lines(
        ["tfleak: probes: python, host (*: RSS decides), process"]
    )


@pytest.mark.parametrize(
    "args",
    [
        ["-k", "plain"],
        ["-k", "plain", "-v"],
        ["-k", "clean", "-q"],
        ["-k", "clean", "--collect-only"],
        ["-k", "plain", "-v", "-n1"],
    ],
    ids=" ".join,
)
def test_there_is_no_header_where_nothing_is_measured_and_with_q(
    suite: pytest.Pytester, args: list[str]
) -> None:
    if "-n1" in args:
        pytest.importorskip("xdist")
    suite.makepyfile(
        test_off="import pytest\n@pytest.mark.tfleak(enabled=False)\n"
        "def test_plain(): pass"
    )
    assert "tfleak: " not in suite.runpytest_inprocess(*args).stdout.str()


@pytest.mark.parametrize(
    ("args", "first", "last"),
    [
        (["-q"], "LEAK  test_it.py::test_leaky*", "INCONCLUSIVE  test_it.py*"),
        (["-vv"], "LEAK *test_it.py::test_leaky*", "*process.fds*"),
        (["--color=yes"], "*LEAK *test_it.py::test_leaky*", "*1 clean*"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                (["-qq"], "LEAK  test_it.py::test_leaky*", "INCONCLUSIVE  test_it.py*"),
                (["-v"], "LEAK *test_it.py::test_leaky*", "clean *::test_clean*"),
                *(
                    (args, "LEAK *test_it.py::test_leaky*", "1 clean")
                    for args in (
                        *(["--tb=no"], ["-s"], ["-p", "no:logging"]),
                        *(["-p", "no:capture"], ["-p", "no:warnings"]),
                        *(["-p", "no:faulthandler"], ["--setup-show"]),
                    )
                ),
            )
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_section_names_measured_tests_worst_first(
    suite: pytest.Pytester, args: list[str], first: str, last: str
) -> None:
    if "no:capture" in args:
        args = [*args, "-p", "no:logging"]
    result = suite.runpytest_inprocess(*args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = section(result) or result.stdout.lines
    pytest.LineMatcher(lines).fnmatch_lines([first, last])
    if args == ["--color=yes"]:
        assert "\x1b[31mLEAK" in result.stdout.str()
    else:
        assert "\x1b[" not in result.stdout.str()
        assert max(map(len, section(result))) <= 80


def test_verbose_words_name_a_leak(suite: pytest.Pytester) -> None:
    result = suite.runpytest("-v")
    result.stdout.fnmatch_lines(
        ["test_it.py::test_leaky LEAK *", "test_it.py::test_clean PASSED *"]
    )


def test_lines_are_no_wider_than_the_terminal(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = section(suite.runpytest("-vv"))
    assert lines
    assert max(map(len, lines)) <= 60


def test_a_message_is_as_narrow_as_the_terminal(
    suite: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    lines = run("--tb=native").stdout.lines
    start = next(n for n, line in enumerate(lines) if line.startswith("LEAK: "))
    end = next(n for n, line in enumerate(lines) if line.startswith("  iterations:"))
    assert start < end
    assert max(map(len, lines[start:end])) <= 50


def test_one_line_for_each_failure_names_the_test(
    suite: pytest.Pytester, run: Run
) -> None:
    result = run("--tb=line")
    result.stdout.fnmatch_lines(["*test_it.py:*: python.blocks +*"])
    result.stdout.no_fnmatch_line("*item.py*")


@pytest.mark.usefixtures("diagnosed")
def test_a_directory_that_is_gone_is_no_trouble(
    pytester: pytest.Pytester, leaks: None
) -> None:
    pytester.makepyfile(
        """
        import os, pytest
        from leaks import leak

        @pytest.mark.tfleak(iterations=20)
        def test_it(tmp_path_factory):
            if os.path.exists("leaks.py"):
                path = tmp_path_factory.mktemp("gone")
                os.chdir(path)
                path.rmdir()
            leak()
        """
    )
    result = pytester.runpytest_subprocess()
    result.stdout.fnmatch_lines(["LEAK: python.blocks +*", "*made at *leaks.py:4*"])
    result.stdout.no_fnmatch_line("*FileNotFoundError*")


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_a_terminal_without_unicode_is_no_trouble(
    suite: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    result = suite.runpytest_subprocess("-vv")
    result.assert_outcomes(failed=1, passed=3)
    assert section(result)
    if "PYTHONIOENCODING" in environment:
        assert result.stdout.str().isascii()
        assert "\\u2581" not in result.stdout.str()


def test_a_suite_without_markers_prints_no_section(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_it(): pass")
    for args in ([], ["-v"], ["-q"]):
        result = pytester.runpytest(*args)
        result.assert_outcomes(passed=1)
        assert section(result) == []


def test_nothing_is_printed_without_a_terminal(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.stdout.str().strip() == ""


def test_junit_holds_the_message(suite: pytest.Pytester, run: Run) -> None:
    run("--junitxml=junit.xml")
    tree = ElementTree.parse(suite.path / "junit.xml")
    failures = tree.findall(".//failure")
    assert len(failures) == 1
    assert "python.blocks" in failures[0].get("message", "")
    assert "@pytest.mark.tfleak(blocks=" in (failures[0].text or "")


def test_the_section_is_the_same_under_xdist(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    alone = section(suite.runpytest_inprocess("-q"))
    parallel = section(suite.runpytest_inprocess("-q", "-n2"))
    words = [line.split()[:2] for line in alone]
    assert words
    assert [line.split()[:2] for line in parallel] == words


def test_collecting_measures_nothing(suite: pytest.Pytester) -> None:
    result = suite.runpytest("--collect-only", "--tfleak")
    assert result.ret == pytest.ExitCode.OK
    assert section(result) == []


def test_help_gives_every_option_with_unit_and_default(
    pytester: pytest.Pytester,
) -> None:
    text = " ".join(pytester.runpytest("--help").stdout.str().split())
    for row in all_options("command line"):
        assert f" {row.command_line_flag}" in text
        assert f"{row.help} [{row.unit}; default: {row.default_text}]" in text
    for row in all_options("ini"):
        assert f" {row.ini_key} (" in text


def test_markers_give_every_keyword_with_unit_and_default(
    pytester: pytest.Pytester,
) -> None:
    text = " ".join(pytester.runpytest("--markers").stdout.str().split())
    assert "@pytest.mark.tfleak(**options): repeat the test" in text
    for row in all_options("marker"):
        assert f"{row.name}={row.default_text}: {row.help} [{row.unit}]" in text


def test_strict_markers_know_the_marker(suite: pytest.Pytester) -> None:
    result = suite.runpytest("--strict-markers", "-k", "test_clean")
    result.assert_outcomes(passed=1, deselected=3)


def test_strict_fails_an_inconclusive_test(suite: pytest.Pytester, run: Run) -> None:
    result = run("--tfleak-strict", "-k", "short")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["INCONCLUSIVE: too few iterations*"])


def test_a_gpu_that_is_required_and_missing_fails_the_test(
    suite: pytest.Pytester,
) -> None:
    result = suite.runpytest("--tfleak-require-gpu", "-k", "clean")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["NOT MEASURED: *GPU*"])


def test_the_plugin_can_be_left_out(pytester: pytest.Pytester) -> None:
    if not entry_points(group="pytest11", name="tfleak"):
        pytest.skip("not installed: loaded by the name of its module")
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-p", "no:tfleak")
    result.assert_outcomes(passed=1)
    assert "tfleak:" not in result.stdout.str()


def test_the_plugin_works_without_its_entry_point(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = suite.runpytest_subprocess("-p", "pytest_tfleak.plugin", "-q")
    result.assert_outcomes(failed=1, passed=3)
    assert section(result)


def test_v_names_objects_that_pile_up_within_the_allowances(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from fractions import Fraction

        PRICES = []

        @pytest.mark.tfleak
        def test_it():
            PRICES.append(Fraction(1, 3))
        """
    )
    result = pytester.runpytest_subprocess("-v")
    result.assert_outcomes(passed=1)
    said = " ".join(result.stdout.str().split())
    assert "Python objects pile up, within the allowances of memory: 1 " in said
    assert " Fraction" in said and "objects=0 would judge them" in said
    quiet = pytester.runpytest_subprocess()
    quiet.stdout.no_fnmatch_line("*pile up*")


@pytest.mark.parametrize("verbose", [[], ["-v"]])
def test_options_without_a_test_to_measure_say_that_they_do_nothing(
    pytester: pytest.Pytester, verbose: list[str]
) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest("--tfleak-depth=quick", *verbose)
    [line] = [o for o in result.outlines if "--tfleak-depth" in o and "nothing" in o]
    assert line.startswith("tfleak: no test is measured, so --tfleak-depth does")
    assert "@pytest.mark.tfleak" in line and "--tfleak" in line


def test_options_that_measure_a_test_need_no_remark(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(tfleak): pass")
    assert "nothing" not in pytester.runpytest("--tfleak-depth=quick").stdout.str()
    pytester.makepyfile("def test_it(): pass")
    for arguments in ([], ["--tfleak", "--tfleak-depth=leftovers"]):
        out = pytester.runpytest(*arguments).stdout.str()
        assert "no test is measured" not in out
