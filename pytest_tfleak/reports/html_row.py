"""What pytest-html shows in a test's row: the headline, the curve, the findings."""

from __future__ import annotations

from typing import Any

from pytest_tfleak.reports.entry import make_entry
from pytest_tfleak.reports.html import make_templates
from pytest_tfleak.verdict import Verdict


def row_extra(verdict: dict[str, Any]) -> str:
    """Return HTML for a verdict as ``Verdict.to_dict`` gives it.

    The page that takes it in is not ours: the HTML brings its own style and no script.
    """
    entry = make_entry(Verdict.from_dict(verdict))
    curve = entry.failing[0].curve if entry.failing else entry.curve
    template = make_templates().get_template("row.html")
    return template.render(entry=entry, curve=curve).strip()
