"""The README shows what really happens.

``TFLEAK_REGENERATE=1 pytest tests/meta/test_readme.py`` rewrites tables and outputs.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.plan import Plan
from pytest_tfleak.plugin.command_line import all_options
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.signals import SIGNALS
from pytest_tfleak.signals import SignalRow
from pytest_tfleak.signals import base_name
from pytest_tfleak.tf.access import KERASES
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import Origin
from tests.builders import make_finding
from tests.builders import make_leak
from tests.regenerate import REGENERATE

README = Path(__file__).parents[2] / "README.md"
needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
BLOCK = r"<!-- {kind}: {name} -->\n```\w+\n(.*?)```\n"


def block(kind: str, name: str) -> str:
    match = re.search(BLOCK.format(kind=kind, name=name), README.read_text(), re.DOTALL)
    assert match is not None, f"README has no {kind} {name!r}"
    return match[1]


def assert_shown(kind: str, name: str, wanted: str) -> None:
    """Compare a block of the README, except figures of time and memory."""
    if REGENERATE:
        text = README.read_text()
        match = re.search(BLOCK.format(kind=kind, name=name), text, re.DOTALL)
        assert match is not None
        start, end = match.span(1)
        README.write_text(text[:start] + wanted + text[end:])
    assert scrub(block(kind, name)) == scrub(wanted)


def assert_table(name: str, rows: list[str]) -> None:
    marker = f"<!-- table: {name} -->\n"
    table = "\n".join(rows) + "\n"
    if REGENERATE:
        before, _, after = README.read_text().partition(marker)
        after = re.sub(r"\A(\|.*\n)+", "", after)
        README.write_text(before + marker + table + after)
    assert marker + table in README.read_text()


def scrub(text: str) -> str:
    # line breaks depend on the length of the figures
    text = re.sub(r"\n {15,}(?=\S)", " ", text)
    text = re.sub(r"[\d.,]+ (ms|s|min|B|KiB|MiB)\b", r"# \1", text)
    text = re.sub(r"# \w+(?= ?\()|# (ms|s)\b", "#", text)
    text = re.sub(r"(python\.blocks \+)[\d.,]+", r"\1#", text)
    # the number of calls depends on how much the diagnosis had time for, and how early
    # it began
    text = re.sub(r"((?:of|→|=) ?|\w: )[\d,]+", r"\1#", text)
    text = re.sub(r"(readings +)\d+( .* )\d+", r"\1#\2#", text)
    return re.sub(r" +(?=\n|$)", "", text)


def test_newcomer_has_two_commands() -> None:
    assert re.findall(r"<!-- command: (\w+) -->", README.read_text()) == [
        "demo",
        "test",
    ]


def test_table_of_known_growth_is_complete() -> None:
    rows = ["| what grows | issues | remedy |", "|---|---|---|"]
    for known in KNOWN:
        issues = ", ".join(known.issues)
        remedy = name_clear_session(known.remedy or "none", KERASES[0].clear_session)
        rows.append(f"| {known.title} | {issues} | {remedy} |")
    assert_table("known", rows)


def test_table_of_signals_is_complete() -> None:
    section = README.read_text().partition("### What is read\n")[2]
    section = section.partition("\n#")[0]
    shown = {
        base_name(name): decides.partition(",")[0].strip()
        for names, decides in re.findall(
            r"^\| (`.*?) \|.*\|(.*)\|$", section, re.MULTILINE
        )
        for name in re.findall(r"`(.+?)`", names)
    }
    assert shown == {row.name: decides_when(row) for row in SIGNALS}


def decides_when(row: SignalRow) -> str:
    if row.allowance is None:
        return "no"
    if row.instead_of:
        return f"if `{row.instead_of}` has no figure"
    if row.name == "python.objects":
        return "if objects of your own classes pile up"
    is_off = row.option and getattr(Plan(), row.option) is None
    return f"if you set `{row.option}`" if is_off else "yes"


def test_option_table_is_complete() -> None:
    rows = [
        "| option | default | unit | what |",
        "|---|---|---|---|",
        *(
            f"| `{row.name if 'marker' in row.sources else row.command_line_flag}` "
            f"| {row.default_text} | {row.unit.replace('|', 'or')} | {row.help} |"
            for row in all_options()
        ),
    ]
    assert_table("options", rows)


@pytest.mark.layout
@needs_tensorflow
@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("quick", "test_predict"),
        ("session", "test_connection"),
        ("retrace", "test_train"),
    ],
)
def test_an_example_prints_what_is_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, test: str
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    pytester.makepyfile(**{test: block("example", name)})
    # a busy machine must not cut the diagnosis short
    options = ["--color=no", "-p", "no:randomly", "--tfleak-diagnose-time=180"]
    # on Python 3.13, TensorFlow's AutoGraph uses deprecated functions
    options += ["-W", "ignore::DeprecationWarning:gast.astn"]
    result = pytester.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = result.stdout.str().splitlines()
    start = next(i for i, line in enumerate(lines) if f" {test} " in line)
    end = next(i for i, line in enumerate(lines) if "short test summary" in line)
    assert_shown("output", name, "\n".join(lines[start:end]) + "\n")


def test_probe_example_works(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(myapp="POOL = []")
    pytester.makeconftest(block("example", "probe"))
    pytester.makepyfile(
        """
        import myapp
        import pytest

        @pytest.mark.tfleak(iterations=10)
        def test_pool():
            myapp.POOL.append(object())
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["LEAK: pool.connections +1 per iteration*"])


def test_the_row_on_failing_calls_is_as_shown() -> None:
    first, last = (
        FailedCall(
            number=number,
            operation=operation,
            origin=Origin(file="app/train.py", line=line, function="f", text=""),
        )
        for number, operation, line in ((1, "MatMul", 40), (7, "Sum", 52))
    )
    failing = FailingCalls(count=7, total=9, first=first, last=last)
    text = failure_text(make_leak(make_finding(failing=failing)))
    assert block("output", "failing calls") in text
