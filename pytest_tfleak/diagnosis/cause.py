"""One way in which code leaks: what shows it, what it means, what helps.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_tfleak.diagnosis.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A row of the table of causes."""

    slug: str
    explains: str  # what happens, and why it grows
    remedy: str  # what to do, with code; {holder} is what keeps it
    rule: Callable[[Evidence], bool]
    #: Says less than the cause of anything else that is kept.
    is_vague: bool = False
