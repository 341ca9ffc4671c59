"""The failures that a verdict raises in the call phase, as subtypes of pytest's own.

They have a small module of their own: even runs without measured tests import it.
"""

from __future__ import annotations

import sys

from _pytest.outcomes import Failed  # pytest.fail.Exception, as a type

from pytest_tfleak.reports.text import can_draw


class LeakFailed(Failed):
    """The test leaks. Raised in the call phase, so that ``xfail`` and ``-x`` work."""

    def __init__(
        self, msg: str | None = None, pytrace: bool = False, summary: str = ""
    ) -> None:
        super().__init__(msg, pytrace)
        self.summary = summary  # what pytest's short summary says after the test's name


class MeasurementFailed(Failed):
    """The plan demands a verdict, but the test could not be measured or judged."""

    def __init__(self, msg: str | None = None, pytrace: bool = False) -> None:
        super().__init__(msg, pytrace)


def terminal_draws() -> bool:
    """Return whether the terminal's encoding can represent a sparkline."""
    return can_draw(sys.__stdout__)
