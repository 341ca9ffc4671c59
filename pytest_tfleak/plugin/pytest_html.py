"""Add the curve and the findings of a test to its row in pytest-html's report."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest


class HtmlRows:
    """Adds HTML to the reports that pytest-html reads in the controlling process."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Append HTML, in the form that ``pytest_html.extras.html`` returns."""
        rows = []
        with suppress(Exception):  # if this fails, the row stays as it is
            rows = [
                {
                    "name": "tfleak",
                    "format_type": "html",
                    "content": row_extra(verdict),
                    "mime_type": None,
                    "extension": None,
                }
                for verdict in getattr(report, "tfleak", [])
            ]
        if rows:
            vars(report)["extras"] = [*getattr(report, "extras", []), *rows]


def add_rows(config: pytest.Config) -> None:
    """Register ``HtmlRows`` if pytest-html writes a report, which workers never do."""
    if config.pluginmanager.hasplugin("html") and config.getoption("htmlpath", None):
        config.pluginmanager.register(HtmlRows(), "tfleak-html-rows")


def row_extra(verdict: dict[str, Any]) -> str:
    """Return HTML for a verdict as ``Verdict.to_dict`` returns it.

    The page is not ours, so the HTML contains its own style and needs no script.
    """
    from pytest_tfleak.reports.html import make_templates
    from pytest_tfleak.reports.page import make_entry
    from pytest_tfleak.verdict import Verdict

    entry = make_entry(Verdict.from_dict(verdict))
    curve = entry.failing[0].curve if entry.failing else entry.curve
    template = make_templates().get_template("row.html")
    return template.render(entry=entry, curve=curve).strip()
