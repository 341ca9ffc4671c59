"""The README is short, and its links and those of ``docs/`` lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import DOCS
from tests.pages import ROOT

README = ROOT / "README.md"
MOST_LINES = 150
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def test_newcomer_has_two_commands() -> None:
    commands = re.findall(r"<!-- command: (\w+) -->", README.read_text("utf-8"))
    assert commands == ["demo", "test"]


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path = target.partition("#")[0]
        if path and not re.match(r"\w+:", path):
            assert (page.parent / path).exists(), target
