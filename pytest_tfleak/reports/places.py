"""Where tests and lines of code are in the repository."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

Position = tuple[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a test is defined, and whether pytest counts it as failed."""

    file: str  # an absolute path
    line: int | None
    failed: bool


def place_by_name(rootdir: Path, nodeid: str) -> Place:
    """Return the place of a test whose outcome pytest has not reported."""
    file = rootdir / nodeid.partition("::")[0]
    return Place(file=str(file), line=None, failed=True)


def repository_of(rootdir: Path) -> Path:
    """Return the folder to which paths in reports are relative."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace:
        return Path(workspace)
    tops = (path for path in (rootdir, *rootdir.parents) if (path / ".git").exists())
    return next(tops, rootdir)


def position_in(root: Path, file: str, line: int | None) -> Position | None:
    """Return a position in the repository, None if the file is outside of it."""
    try:
        path = (root / file).resolve().relative_to(root.resolve())
    except (OSError, ValueError):
        return None
    return path.as_posix(), line
