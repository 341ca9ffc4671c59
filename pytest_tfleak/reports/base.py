"""The document that every file shows, and the one place where files are written."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any

from pytest_tfleak.verdict import SCHEMA
from pytest_tfleak.verdict import Verdict

TOOL = "pytest-tfleak"


def make_document(
    verdicts: Iterable[Verdict],
    environment: Mapping[str, Any],
    *,
    complete: bool,
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what was found in a run, as builtins that any file format can hold."""
    return {
        "schema": SCHEMA,
        "tool": {"name": TOOL, "version": _own_version()},
        "environment": _fit(dict(environment)),
        "complete": complete,
        "baseline": None if baseline is None else _fit(dict(baseline)),
        "tests": [make_entry(verdict) for verdict in verdicts],
    }


def make_entry(verdict: Verdict) -> dict[str, Any]:
    """Return one verdict as it stands in the document."""
    entry: dict[str, Any] = _fit(verdict.to_dict())
    del entry["schema"]  # the document has it
    return entry


def sendable(value: Any) -> Any:
    """Return builtins whose texts any encoding of Unicode can hold.

    A lone surrogate becomes the text of its escape: one of them would end the session
    of xdist, and most readers of JSON refuse it.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, (list, tuple)):
        return [sendable(item) for item in value]
    if isinstance(value, dict):
        return {sendable(key): sendable(item) for key, item in value.items()}
    return value


def _fit(value: Any) -> Any:
    """Return sendable builtins without NaN and infinity, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_fit(item) for item in value]
    if isinstance(value, dict):
        return {sendable(key): _fit(item) for key, item in value.items()}
    return sendable(value)


def _own_version() -> str | None:
    try:
        return version(TOOL)
    except PackageNotFoundError:  # a checkout that is not installed
        return None


def prepare(path: Path) -> None:
    """Make the directory of a file, and try to write there.

    Raises OSError where the file could not be written.
    """
    if path.is_dir():
        raise IsADirectoryError(0, "it is a directory")
    if _is_special(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(0, f"{path.parent} is no directory") from None
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(0, "the file is read-only")
    trial = _beside(path)
    trial.touch(exist_ok=False)
    trial.unlink()


def write_file(path: Path, text: str) -> None:
    """Replace a file by a new one at once: it holds the old text or all of the new.

    Raises OSError, and leaves the old file as it was.
    """
    data = text.encode("utf-8", "backslashreplace")
    if _is_special(path):  # such as /dev/stdout: not to be replaced by a file
        path.write_bytes(data)
        return
    path = Path(os.path.realpath(path))  # a link stays a link
    new = _beside(path)
    try:
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            new.chmod(stat.S_IMODE(path.stat().st_mode))
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _beside(path: Path) -> Path:
    """Return a new name in the directory that the file itself is in."""
    return Path(os.path.realpath(path)).with_name(f".tfleak-{token_hex(8)}.tmp")
