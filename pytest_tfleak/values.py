"""What a user writes for an option, as the value that a plan holds.

Each parser raises ValueError, which says what was expected.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_WHOLE = re.compile(r"\s*-?[0-9]{1,100}\s*")
_LARGEST = 2**31 - 1


def whole(minimum: int) -> Callable[[object], int]:
    """Return a parser of whole numbers, ``minimum`` or more."""

    def parse(value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if value > _LARGEST:
                raise ValueError(f"expected a whole number, {_LARGEST} or less")
            if value >= minimum:
                return int(value)
        raise ValueError(f"expected a whole number, {minimum} or more")

    return parse


def number(value: object) -> float:
    """Return a number, 0 or more."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value < 2**62  # also false for NaN
    ):
        return int(value) if isinstance(value, int) else float(value)
    raise ValueError("expected a number, 0 or more")


def none_or(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    """Return a parser that also takes None."""

    def parse_or_none(value: object) -> Any:
        if value is None or value == "none":
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "none"') from None

    return parse_or_none


def choice(*choices: str) -> Callable[[object], str]:
    """Return a parser of one of some words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise ValueError("expected one of " + ", ".join(f'"{c}"' for c in choices))

    return parse


def switch(value: object) -> bool:
    """Return a truth value."""
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    if isinstance(value, bool):
        return value
    raise ValueError("expected true or false")


def on_or_off(value: object) -> str:
    """Return "on" or "off", also for a truth value."""
    words = {"true": "on", "false": "off", "on": "on", "off": "off"}
    word = words.get(str(value).strip().lower())
    if word is None or not isinstance(value, (bool, str)):
        raise ValueError('expected "on" or "off"')
    return word


def text(value: object) -> str:
    """Return a text that is not blank."""
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("expected a text")


def patterns(value: object) -> tuple[str, ...]:
    """Return a tuple of patterns, from one or from a list."""
    if isinstance(value, str):
        value = [] if value == "none" else [value]
    if isinstance(value, (list, tuple)) and all(
        isinstance(pattern, str) and pattern.strip() for pattern in value
    ):
        return tuple(pattern.strip() for pattern in value)
    raise ValueError('expected a pattern such as "mylib.cache*", or a list of them')
