"""Puts the curve and the findings of a test into its row in pytest-html's report."""

from __future__ import annotations

import pytest


class HtmlRows:
    """Adds to the reports that the controlling process hands to pytest-html."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Append HTML in the shape that ``pytest_html.extras.html`` gives it."""
        from pytest_tfleak.reports.html_row import row_extra

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
    """Register the rows where pytest-html writes a report; workers write none."""
    if config.pluginmanager.hasplugin("html") and config.getoption("htmlpath", None):
        config.pluginmanager.register(HtmlRows(), "tfleak-html-rows")
