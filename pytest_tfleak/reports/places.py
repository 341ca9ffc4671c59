"""Where tests and lines of code are in the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Position = tuple[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a test is defined, and whether pytest counts it as failed."""

    file: str  # an absolute path
    line: int | None
    failed: bool


def position_in(root: Path, file: str, line: int | None) -> Position | None:
    """Return a position in the repository, None if the file is outside of it."""
    try:
        path = (root / file).resolve().relative_to(root.resolve())
    except (OSError, ValueError):
        return None
    return path.as_posix(), line
