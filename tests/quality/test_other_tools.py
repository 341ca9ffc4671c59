"""The comparison with other tools is fair, and its pages show the same results."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import other_tools

ROOT = Path(__file__).parents[2]
CASE = SimpleNamespace(line=7, holder="KEPT", kind="a list", twin_is="emptied")


@pytest.mark.parametrize("is_leak", [True, False])
def test_a_line_counts_only_in_the_report_of_a_leak(is_leak: bool) -> None:
    text = "allocated here:\n  keep:/work/other_tools_cases.py:7"
    answer = other_tools.Answer(leaks=is_leak, text=text)
    assert other_tools._judge(answer, CASE)["line"] is is_leak


def tables_of(page: str) -> list[str]:
    """Return the tables of results of a page: by leak, and by tool."""
    text = (ROOT / page).read_text("utf-8")
    pattern = r"^\| (?:leak \| its twin|tool \| finds) \|.*\n(?:\|.*\n)+"
    return re.findall(pattern, text, re.MULTILINE)


def test_both_pages_have_the_results_of_the_same_tools() -> None:
    by_leak, by_tool = tables_of("docs/other-tools.md")
    assert [by_leak, by_tool] == tables_of("benchmarks/other_tools.md")
    head, *rows = by_leak.splitlines()
    tools = [cell.strip() for cell in head.split("|")[3:-1]]
    assert tools == list(other_tools.TOOLS)
    assert {row.count("|") for row in rows} == {head.count("|")}
    assert re.findall(r"^\| (\S+) \| \d", by_tool, re.MULTILINE) == tools
