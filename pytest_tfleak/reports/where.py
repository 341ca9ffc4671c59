"""Who holds what leaks, and which line made it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.units import format_quantity
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin

_MOST_NATIVE = 6  # frames
_LONGEST_CODE = 120

Row = tuple[str, str]  # a label and a text


def place_of(origin: Origin) -> str:
    """Return ``app.py:12``, from the working directory where the file lies in it."""
    name = Path(origin.file)
    # a test may have left the process in a directory that is gone
    with suppress(OSError, ValueError):
        name = name.relative_to(Path.cwd())
    return f"{safe(str(name))}:{origin.line}"


def where_rows(finding: Finding, unicode: bool, callers: bool) -> Iterator[Row]:
    """Give the holder, the line and the C++ functions of a finding as rows.

    ``callers`` adds the lines that led to that one.
    """
    if finding.holder:
        arrow = " → " if unicode else " -> "
        yield "held by", arrow.join(safe(edge, unicode) for edge in finding.holder)
    if finding.origin is not None:
        yield "made at", _called(finding.origin)
        if finding.origin.text:
            yield "", shorten(safe(finding.origin.text, unicode), _LONGEST_CODE)
        for caller in finding.stack if callers else ():
            yield "called at", _called(caller)
    if finding.native:
        functions = [safe(frame) for frame in finding.native[:_MOST_NATIVE]]
        yield "allocated", " < ".join(functions)
    if finding.python_bytes is not None and finding.per_iteration:
        if finding.native or finding.python_bytes < finding.per_iteration / 2:
            explained = format_quantity(finding.python_bytes, "B")
            growth = format_quantity(finding.per_iteration, "B")
            yield "explained", f"Python objects explain {explained} of {growth}"


def located(finding: Finding) -> Iterator[str]:
    """Say in ever shorter forms where a finding comes from; nothing is nothing."""
    held = safe(finding.holder[0]) if finding.holder else ""
    if finding.origin is not None:
        made = f"made at {place_of(finding.origin)}"
        if held:
            yield f", held by {held}, {made}"
            yield f", held by {held.partition(' (')[0]}, {made}"
        yield f", {made}"
    elif held:
        yield f", held by {held}"


def _called(origin: Origin) -> str:
    return f"{place_of(origin)} in {safe(origin.function)}"
