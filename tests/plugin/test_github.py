"""GitHub Actions: how its runner and its Markdown interpret the output."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

Run = Callable[..., pytest.RunResult]
SUITE = """
import pytest
from leaks import leak

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_leaky(): leak()

@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_clean(): pass

@pytest.mark.tfleak(iterations=3, diagnose="off")
def test_short(): pass

@pytest.mark.xfail
@pytest.mark.tfleak(iterations=20, diagnose="off")
def test_known(): leak()

@pytest.mark.tfleak
def test_fails(): assert 0
"""
Command = tuple[str, dict[str, str], str]


def commands(result: pytest.RunResult) -> list[Command]:
    """Return the commands that GitHub's runner sees, with its own unescaping."""
    found = []
    for line in result.stdout.lines:
        match = re.match(r"::(\w+)(?: (.*?))?::(.*)", line)
        if match:
            pairs = [pair.split("=", 1) for pair in (match[2] or "").split(",")]
            values = {key: unescape(value) for key, value in pairs}
            found.append((match[1], values, unescape(match[3])))
    return found


def unescape(text: str) -> str:
    for code, char in (
        ("%0D", "\r"),
        ("%0A", "\n"),
        ("%3A", ":"),
        ("%2C", ","),
        ("%25", "%"),
    ):
        text = text.replace(code, char)
    return text


def table(text: str) -> list[list[str]]:
    """Return the cells of the only table in a text that contains no HTML or link."""
    rows: list[list[str]] = []
    for token in MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text):
        assert token.type != "html_block"
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows:
            kinds = {child.type for child in token.children or ()}
            assert kinds <= {"text", "text_special"}, kinds
            rows[-1].append("".join(child.content for child in token.children or ()))
    return rows


@pytest.fixture
def summary(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run as a job of GitHub Actions, and return the file of its summary."""
    path = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


@pytest.fixture
def suite(pytester: pytest.Pytester, leaks: None) -> pytest.Pytester:
    pytester.makepyfile(test_it=SUITE)
    return pytester


@pytest.mark.usefixtures("suite")
def test_a_leak_is_an_error_at_its_line(run: Run, summary: Path) -> None:
    found = commands(run())
    assert [level for level, _, _ in found] == ["error", "warning"]
    _, properties, message = found[0]
    assert properties["file"] == "test_it.py"
    assert properties["line"] == "4"  # the decorator, as pytest has it
    assert properties["title"].startswith("LEAK: python.blocks +")
    assert message.startswith("test_it.py::test_leaky\nLEAK: python.blocks +")
    assert "@pytest.mark.tfleak(blocks=" in message
    assert found[1][1]["line"] == "10"
    assert found[1][1]["title"].startswith("INCONCLUSIVE: too few iterations")


@pytest.mark.usefixtures("suite")
def test_a_verdict_that_fails_a_test_is_an_error(run: Run, summary: Path) -> None:
    found = commands(run("--tfleak-strict", "-k", "short"))
    assert [level for level, _, _ in found] == ["error"]


def test_the_summary_is_a_table_of_what_is_not_clean(
    suite: pytest.Pytester, run: Run, summary: Path
) -> None:
    summary.write_text("before\n")
    run()
    text = summary.read_text("utf-8")
    assert text.startswith("before\n\n## tfleak\n")
    assert "2 LEAK, 1 INCONCLUSIVE, 1 NOT MEASURED, 1 clean" in text
    rows = table(text)
    assert rows[0] == ["verdict", "test", "what"]
    assert [row[0] for row in rows[1:]] == ["LEAK", "LEAK", "INCONCLUSIVE"] + [
        "NOT MEASURED"
    ]
    assert {row[1] for row in rows[1:3]} == {
        "test_it.py::test_leaky",
        "test_it.py::test_known",
    }
    assert rows[1][2].startswith("python.blocks +")


def test_a_run_that_is_cut_short_says_so(suite: pytest.Pytester, summary: Path) -> None:
    suite.runpytest_inprocess("-x")
    assert "The run was cut short" in summary.read_text("utf-8")


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize("args", [["-p", "no:terminal"], ["-qq"], ["--tb=no"]])
def test_annotations_need_no_terminal(
    suite: pytest.Pytester, summary: Path, args: list[str]
) -> None:
    found = commands(suite.runpytest_subprocess(*args))
    assert [level for level, _, _ in found] == ["error", "warning"]


def test_nothing_is_said_where_nothing_is_measured(
    pytester: pytest.Pytester, summary: Path
) -> None:
    pytester.makepyfile("def test_it(): pass")
    assert commands(pytester.runpytest_inprocess()) == []
    assert not summary.exists()


@pytest.mark.usefixtures("suite")
def test_elsewhere_there_are_no_annotations(
    suite: pytest.Pytester, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert commands(suite.runpytest_inprocess()) == []
    assert not summary.exists()


@pytest.mark.usefixtures("suite")
def test_a_summary_that_cannot_be_written_is_a_line(
    suite: pytest.Pytester, summary: Path
) -> None:
    summary.mkdir()
    result = suite.runpytest_inprocess("-k", "clean")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["tfleak: no step summary written to *summary.md: *"])


def test_paths_are_relative_to_the_repository(
    pytester: pytest.Pytester, leaks: None, summary: Path
) -> None:
    inner = pytester.mkdir("inner")
    (inner / "pytest.ini").write_text("[pytest]\npythonpath = ..")
    (inner / "test_it.py").write_text(SUITE)
    result = pytester.runpytest_subprocess("inner", "--rootdir=inner")
    assert commands(result)[0][1]["file"] == "inner/test_it.py"


def test_bad_text_does_not_break_out(
    pytester: pytest.Pytester, run: Run, summary: Path
) -> None:
    evil = (
        "<script>alert(1)</script>\x1b[31m`|]]>&amp;\udcff\r\n::error::own%0A,:"
        "\n| a | b |\n# title\n[link](https://x.y) ![i](https://x.y) **b** ~~s~~ @me"
    )
    pytester.makeconftest(
        f"""
        from itertools import count
        from pytest_tfleak.testing import FakeProbe

        def pytest_tfleak_probes(census):
            return [FakeProbe({{"t" + {evil!r}: count()}}, unit={evil!r})]
        """
    )
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.tfleak(iterations=10, diagnose="off")
        @pytest.mark.parametrize("x", [1], ids=[{evil!r}])
        def test_it(x): pass

        @pytest.mark.tfleak(enabled=False, reason={evil!r} + "r" * 100_000)
        def test_opted_out(): pass
        """
    )
    result = run()
    ((level, properties, message),) = commands(result)
    assert level == "error"
    assert set(properties) == {"file", "line", "title"}
    assert "test_it[<script>" in message
    assert len(message) < 5_000
    assert "\x1b" not in result.stdout.str()
    rows = table(summary.read_text("utf-8"))
    assert len(rows) == 3
    assert {len(row) for row in rows} == {3}
    assert "<script>alert(1)</script>\\x1b[31m`|]]>&amp;" in rows[1][1]
