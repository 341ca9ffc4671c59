"""The line under pytest's header. Imports little: every run of pytest prints it."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_tfleak.reports.text import safe


def header_lines(
    probes: Sequence[tuple[str, str | None]], verbosity: int = 0
) -> list[str]:
    """Return which probes are on, and why the others are off."""
    if verbosity < 0:
        return []
    names = ", ".join(safe(name) for name, why in probes if why is None)
    off: dict[str, list[str]] = {}
    for name, why in probes:
        if why is not None:
            off.setdefault(safe(why), []).append(safe(name))
    texts = [f"{', '.join(idle)} ({why})" for why, idle in off.items()]
    lines = [f"tfleak: probes: {names or 'none'}"]
    return lines + [f"tfleak: off: {text}" for text in texts]
