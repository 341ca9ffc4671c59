"""Read JSON documents that have a schema number; each error is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from pytest_tfleak.quantities import format_bytes

LARGEST = 2**29  # bytes: a larger file is not read
#: Lists and objects in one another: JSON of ours has no more than a dozen.
DEEPEST = 100
#: No schema will have a number as large, nor a message that names it.
_LARGEST_SCHEMA = 1_000_000


class DocumentError(ValueError):
    """A file is not the expected document; the message says why in one line."""


def read_document(path: Path, *, what: str, schema: int) -> dict[str, Any]:
    """Return the JSON object in a file of this schema or an older one.

    Raises FileNotFoundError, and DocumentError for anything else that is wrong.
    """
    content = _content(path, what)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DocumentError(f"{path}: is not JSON: it is not UTF-8 text") from None
    try:
        data = json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
        _check_depth(data)
    except DocumentError as error:
        raise DocumentError(f"{path}: is not {what}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path}: {_why_not_json(text, error)}") from None
    found = data.get("schema") if isinstance(data, dict) else None
    if (
        not isinstance(found, int)
        or isinstance(found, bool)
        or not 1 <= found <= _LARGEST_SCHEMA
    ):
        raise DocumentError(f'{path}: is not {what}: it has no "schema" number')
    if found > schema:
        raise DocumentError(
            f"{path}: has schema {found}, and this version of pytest-tfleak reads "
            f"{schema}: update pytest-tfleak"
        )
    document: dict[str, Any] = data
    return document


def _content(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:  # perhaps a pipe, whose size nobody knows
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise DocumentError(f"{path}: is a directory, expected {what}") from None
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST:
        most = format_bytes(LARGEST)
        raise DocumentError(f"{path}: is not {what}: it has more than {most}")
    return content


def text_in(data: Mapping[str, Any], key: str) -> str:
    """Return a text. Raises DocumentError if it is missing or not a text."""
    value = data.get(key)
    if not isinstance(value, str):
        raise DocumentError(f'"{key}" must be a text, got {shown(value)}')
    return value


def optional_text_in(data: Mapping[str, Any], key: str) -> str | None:
    """Return a text or None. Raises DocumentError for anything else."""
    return None if data.get(key) is None else text_in(data, key)


def number_in(data: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number or None. Raises DocumentError for anything else."""
    value = data.get(key)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or abs(value) > 2**63 or not isfinite(value):
        raise DocumentError(f'"{key}" must be a number, got {shown(value)}')
    return float(value)


def shown(value: object) -> str:
    """Return a value as short ASCII text for a message."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Raises DocumentError if a key would hide another."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DocumentError(f"an object has the key {shown(name)} twice")
        found[name] = value
    return found


def _check_depth(data: object) -> None:
    level = [data]
    for _ in range(DEEPEST):
        inner = [item for item in level if isinstance(item, (dict, list))]
        if not inner:
            return
        level = [
            item
            for found in inner
            for item in (found.values() if isinstance(found, dict) else found)
        ]
    raise DocumentError("it is nested too deeply")


def _why_not_json(text: str, error: Exception) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            return f"line {number}: an unresolved merge conflict"
    if not text.strip():
        return "is not JSON: it is empty"
    return f"is not JSON: {error}"
