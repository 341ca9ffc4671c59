"""Make the document that all report files show, and write files; nothing else does."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from select import select
from time import monotonic
from time import sleep
from typing import Any

from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.leaks import Leak
from pytest_tfleak.reports.leaks import group_by_leak
from pytest_tfleak.reports.links import cause_page
from pytest_tfleak.verdict import SCHEMA
from pytest_tfleak.verdict import Verdict

TOOL = "pytest-tfleak"
#: How many seconds a pipe may stay without a reader, or its reader may pause.
PATIENCE = 30.0
_PAUSE = 0.05
#: Not translated to other ends of lines on Windows; a link is not followed.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def make_document(
    verdicts: Iterable[Verdict],
    environment: Mapping[str, Any],
    *,
    complete: bool,
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the verdicts of a run as builtins, which any file format can hold."""
    verdicts = list(verdicts)
    return {
        "schema": SCHEMA,
        "tool": {"name": TOOL, "version": _own_version()},
        "environment": _fit(dict(environment)),
        "complete": complete,
        "baseline": None if baseline is None else _fit(dict(baseline)),
        "leaks": [_leak_entry(leak) for leak in group_by_leak(verdicts)],
        "tests": [document_entry(verdict) for verdict in verdicts],
    }


def _leak_entry(leak: Leak) -> dict[str, Any]:
    """Return a leak as it appears in the document: what it is, and its tests."""
    lead, path = leak.lead, leak.lead.path
    entry = {
        "fingerprint": leak.fingerprint,
        "signals": [finding.signal for finding in leak.verdicts[0].findings],
        "kind": lead.kind,
        "holder": None if path is None else list(edges_of(path)),
        "origin": None if lead.origin is None else asdict(lead.origin),
        "stored": None if lead.stored is None else asdict(lead.stored),
        "cause": lead.cause,
        "cause_page": cause_page(lead.cause),
        "tests": list(leak.tests),
    }
    fit: dict[str, Any] = _fit(entry)
    return fit


def document_entry(verdict: Verdict) -> dict[str, Any]:
    """Return one verdict as it appears in the document."""
    entry: dict[str, Any] = verdict.to_dict()
    del entry["schema"]  # the document has it
    for finding, data in zip(verdict.findings, entry["findings"], strict=True):
        path = finding.path
        data["holder"] = None if path is None else list(edges_of(path))
        data["cause_page"] = cause_page(finding.cause)
    fit: dict[str, Any] = _fit(entry)
    return fit


def sendable(value: Any) -> Any:
    """Return builtins without lone surrogates, on which xdist and JSON would fail."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, (list, tuple)):
        return [sendable(item) for item in value]
    if isinstance(value, dict):
        return {sendable(key): sendable(item) for key, item in value.items()}
    return value


def without_surrogates(text: str) -> str:
    """Return a text that UTF-8 can encode, with lone surrogates escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _fit(value: Any) -> Any:
    """Return builtins without NaN and infinity, which JSON cannot represent."""
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
    except PackageNotFoundError:  # the package is used without being installed
        return None


def prepare(path: Path) -> None:
    """Make the directory of a file, and check that it is writable. Raises OSError."""
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
    """Replace a file atomically: it has either the old text or all of the new text.

    Raises OSError, and then the old file is unchanged.
    """
    data = text.encode("utf-8", "backslashreplace")
    if path.is_fifo():
        _write_to_pipe(path, data)
        return
    if _is_special(path):  # such as /dev/stdout: not to be replaced by a file
        path.write_bytes(data)
        return
    path = Path(os.path.realpath(path))  # so that a symlink stays one
    new = _beside(path)
    mode = _mode_of(path)
    # as private as the old file from the start, not only once it is complete
    descriptor = os.open(new, _NEW, 0o666 if mode is None else mode & 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            new.chmod(mode)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _mode_of(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _write_to_pipe(path: Path, data: bytes) -> None:
    """Write to a FIFO; raise TimeoutError if nobody reads it, or no further."""
    descriptor = _open_pipe(path)
    try:
        while data:
            _, ready, _ = select([], [descriptor], [], PATIENCE)
            if not ready:
                raise TimeoutError(0, "nobody reads this pipe to the end")
            with suppress(BlockingIOError):
                data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _open_pipe(path: Path) -> int:
    """Open a FIFO once somebody reads it."""
    waited_until = monotonic() + PATIENCE
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if monotonic() > waited_until:
            raise TimeoutError(0, "nobody reads this pipe")
        sleep(_PAUSE)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _beside(path: Path) -> Path:
    """Return the path of a temporary file in the same directory."""
    return Path(os.path.realpath(path)).with_name(f".tfleak-{token_hex(8)}.tmp")
