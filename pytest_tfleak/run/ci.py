"""Tell whether a CI service runs the tests, and not somebody at a terminal.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os

_NAMES = ("CI", "BUILD_NUMBER")  # those that pytest reads; Jenkins sets the second


def ci_variable() -> str | None:
    """Return the variable that says so; ``CI=false`` and ``CI=0`` say no."""
    values = ((name, os.environ.get(name, "").lower()) for name in _NAMES)
    return next((name for name, v in values if v not in ("", "0", "false")), None)
