"""Add the curves of a test to its row in pytest-html's report.

What the log of the row does not say stands beside them as text.
"""

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
                    "content": content,
                    "mime_type": None,
                    "extension": None,
                }
                for verdict in getattr(report, "tfleak", [])
                if (content := row_extra(verdict, is_said_in(report, verdict)))
            ]
        if rows:
            vars(report)["extras"] = [*getattr(report, "extras", []), *rows]


def add_rows(config: pytest.Config) -> None:
    """Register ``HtmlRows`` if pytest-html writes a report, which workers never do."""
    if config.pluginmanager.hasplugin("html") and config.getoption("htmlpath", None):
        config.pluginmanager.register(HtmlRows(), "tfleak-html-rows")


def is_said_in(report: pytest.TestReport, verdict: dict[str, Any]) -> bool:
    """Return whether the log of a report, which pytest-html shows, has the verdict."""
    if verdict["status"] == "leak":
        return "LEAK: " in report.longreprtext
    return any(name == "tfleak" for name, _ in report.sections)


def row_extra(verdict: dict[str, Any], is_said: bool = False) -> str:
    """Return HTML for a verdict as ``Verdict.to_dict`` returns it, "" if it needs none.

    If the log says the text, it is the curves alone. The page is not ours, so the HTML
    contains its own style and needs no script.
    """
    from pytest_tfleak.reports.html import make_templates
    from pytest_tfleak.reports.page import make_entry
    from pytest_tfleak.verdict import Verdict

    entry = make_entry(Verdict.from_dict(verdict))
    found = [one for leak in entry.leaks for one in (leak.lead, *leak.others)]
    curves = [one.curve for one in found if one.curve is not None]
    first, others = (curves[0], curves[1:]) if curves else (entry.curve, [])
    if is_said and first is None:
        return ""
    template = make_templates().get_template("row.html")
    return template.render(
        entry=entry, curve=first, others=others, is_said=is_said
    ).strip()
