"""Which of several findings tells most."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_tfleak.reports.words import rank
from pytest_tfleak.verdict import Finding

#: A tensor that stands for something else, of which the system may count a part.
_HANDLE = re.compile(r"EagerTensor (resource|variant)\[")
_LAST_OF_SYSTEM = "process.children"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the most telling one first."""

    def key(found: Finding) -> tuple[float, bool, float, str]:
        is_left = found.per_iteration is None
        is_handle = found.holder is not None and _HANDLE.match(found.holder[-1])
        signal = _LAST_OF_SYSTEM if is_handle else found.signal
        group, place, name = rank(signal, found.unit, is_left)
        is_whole = _is_held_itself(found) and not is_handle
        return group, not is_whole, place, name

    return sorted(findings, key=key)


def _is_held_itself(finding: Finding) -> bool:
    """Say whether what is counted is what is held, and not a part of it."""
    kind = (finding.kind or "?").rpartition(".")[2]
    return finding.holder is not None and finding.holder[-1].startswith(kind)
