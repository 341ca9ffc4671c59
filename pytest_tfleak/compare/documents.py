"""Read JSON documents that have a schema number; each error is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any


class DocumentError(ValueError):
    """A file is not the expected document; the message says why in one line."""


def read_document(path: Path, *, what: str, schema: int) -> dict[str, Any]:
    """Return the JSON object in a file of this schema or an older one.

    Raises FileNotFoundError, and DocumentError for anything else that is wrong.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise DocumentError(f"{path}: is a directory, expected {what}") from None
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DocumentError(f"{path}: is not JSON: it is not UTF-8 text") from None
    try:
        data = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path}: {_why_not_json(text, error)}") from None
    found = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise DocumentError(f'{path}: is not {what}: it has no "schema" number')
    if found > schema:
        raise DocumentError(
            f"{path}: has schema {found}, and this version of pytest-tfleak reads "
            f"{schema}: update pytest-tfleak"
        )
    document: dict[str, Any] = data
    return document


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


def _why_not_json(text: str, error: Exception) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            return f"line {number}: an unresolved merge conflict"
    if not text.strip():
        return "is not JSON: it is empty"
    return f"is not JSON: {error}"
