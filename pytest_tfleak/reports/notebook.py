"""Write a verdict for whoever asked for it by hand: printed, or shown in a notebook."""

from __future__ import annotations

import sys
from html import escape

from pytest_tfleak.reports.curves import draw_large
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.page import curve_of_lead
from pytest_tfleak.reports.text import can_draw
from pytest_tfleak.verdict import Verdict


def as_text(verdict: Verdict) -> str:
    """Return the message in characters that standard output can write."""
    return failure_text(verdict, unicode=can_draw(sys.stdout))


def as_html(verdict: Verdict) -> str:
    """Return the message and the curve of the most important signal as HTML.

    The page is not ours, so the HTML contains its own style and needs no script.
    """
    curve = curve_of_lead(verdict)
    drawn = draw_large(curve) if curve is not None else ""
    return (
        f'<div style="max-width:48em"><pre>{escape(failure_text(verdict))}</pre>'
        f"{drawn}</div>"
    )
