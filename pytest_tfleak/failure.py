"""How a verdict fails a test: pytest's own failure, raised in the call phase."""

from __future__ import annotations

import sys

from _pytest.outcomes import Failed  # pytest.fail.Exception, as a type


class LeakFailed(Failed):
    """The test leaks. Raised in the call phase, so that ``xfail`` and ``-x`` work."""

    def __init__(self, msg: str | None = None, pytrace: bool = False) -> None:
        super().__init__(msg, pytrace)


class MeasurementFailed(Failed):
    """The test could not be measured or decided, and the plan demands it."""

    def __init__(self, msg: str | None = None, pytrace: bool = False) -> None:
        super().__init__(msg, pytrace)


def terminal_draws() -> bool:
    """Say whether the terminal's encoding has the characters of a sparkline."""
    encoding = getattr(sys.__stdout__, "encoding", None) or "ascii"
    try:
        "\u2581\u2588".encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
