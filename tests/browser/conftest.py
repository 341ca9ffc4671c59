from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.html import make_document
from pytest_tfleak.reports.html import render
from tests.browser.chromium import open_chromium
from tests.browser.chromium import why_no_chromium

TESTS = 120


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a report of tests of every kind."""
    return write(tmp_path_factory.mktemp("report") / "report.html", TESTS)


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a large suite."""
    path = tmp_path_factory.mktemp("report") / "large.html"
    write(path, 2_000)
    return path


def write(path: Path, tests: int) -> str:
    """Write a report and return its address."""
    path.write_text(render(make_document(tests)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Run a browser for all tests of the session."""
    why = why_no_chromium()
    if why is not None:
        pytest.skip(why)
    with open_chromium() as driver:
        yield driver


@pytest.fixture
def opened(browser: Any, page: str) -> Any:
    """Return the browser with the report just opened."""
    browser.get(page)
    return browser
