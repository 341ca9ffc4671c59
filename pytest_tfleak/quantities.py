"""Parse and format bytes, counts and durations; only a true 0 is ever shown as 0.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: The value of a limit that depends on the machine.
HALF = "half"
_BYTES = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*")


def parse_bytes(value: object) -> int:
    """Return a number of bytes from an int or from text such as ``"4 KiB"``.

    Raises ValueError for anything else, a negative number included.
    """
    example = '4096 or "4 KiB"'
    return round(_parse_quantity(value, _BYTES, default="b", example=example))


def parse_seconds(value: object) -> float:
    """Return seconds from a number or from text such as ``"30 s"`` or ``"5 min"``.

    Raises ValueError for anything else, a negative number included.
    """
    example = '30, "30 s" or "5 min"'
    return float(_parse_quantity(value, _SECONDS, default="s", example=example))


def parse_positive_seconds(value: object) -> float:
    """Return seconds as ``parse_seconds`` does. Raises ValueError for 0, too."""
    seconds = parse_seconds(value)
    if not seconds:
        raise ValueError("expected more than 0 seconds")
    return seconds


def _parse_quantity(
    value: object, units: dict[str, float] | dict[str, int], default: str, example: str
) -> float:
    names = ", ".join(_unit_name(unit) for unit in units)
    expected = f"expected {example} (units: {names})"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # also false for NaN; rounding an int to a float may yield 2**62
        if not (0 <= value < 2**62 and float(value) < 2**62):
            raise ValueError(expected)
        return value
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[2].lower() or default) not in units:
        raise ValueError(expected)
    quantity = float(match[1]) * units[match[2].lower() or default]
    if not quantity < 2**62:
        raise ValueError(expected)
    return quantity


def _unit_name(unit: str) -> str:
    if unit in _SECONDS:
        return unit
    return unit.upper().replace("IB", "iB")


def format_bytes(value: float) -> str:
    """Return bytes as text in binary units: ``6 KiB``, ``1.5 MiB``, ``-12 B``."""
    sign, size = ("-" if value < 0 else "", abs(value))
    if size == 0:
        return "0 B"
    if size < 1:
        return f"{sign}<1 B"
    if round(size) < 1024:
        return f"{sign}{round(size)} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1023.95 or unit == "GiB":
            break
    return f"{sign}{_short(size)} {unit}"


def format_count(value: float) -> str:
    """Return a count as text: ``1``, ``0.2``, ``1,024``, ``<0.01``."""
    sign, size = ("-" if value < 0 else "", abs(value))  # abs turns -0.0 into "0"
    if 0 < size < 0.01:
        return f"{sign}<0.01"
    if size >= 100:
        return f"{sign}{size:,.0f}"
    return sign + (f"{size:.2f}".rstrip("0").rstrip("."))


def format_seconds(value: float) -> str:
    """Return a duration as text: ``12 ms``, ``1.5 s``, ``3 min``."""
    if value == 0:
        return "0 s"
    if value < 0.001:
        return "<1 ms"
    if round(value * 1000) < 1000:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{_short(value)} s"
    return f"{_short(value / 60)} min"


def format_quantity(value: float, unit: str) -> str:
    """Return a signal's figure as text: bytes if its unit is ``"B"``, else a count."""
    return format_bytes(value) if unit == "B" else format_count(value)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


_WHOLE = re.compile(r"\s*-?[0-9]{1,100}\s*")
_LARGEST = 2**31 - 1


def whole(minimum: int, maximum: int = _LARGEST) -> Callable[[object], int]:
    """Return a parser of whole numbers from ``minimum`` to ``maximum``."""

    def parse(value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if value > maximum:
                raise ValueError(f"expected a whole number, {maximum} or less")
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


def in_short(value: object, most: int = 200) -> str:
    """Return any value as text of one line for a message."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # such as an int of 5,000 digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def none_or(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    """Return a parser that also takes None."""

    def parse_or_none(value: object) -> Any:
        if value is None or (isinstance(value, str) and value == "none"):
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "none"') from None

    return parse_or_none


def choice(*choices: str) -> Callable[[object], str]:
    """Return a parser that accepts only these words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise ValueError("expected one of " + ", ".join(f'"{c}"' for c in choices))

    return parse


def bytes_or_half(value: object) -> int | str:
    """Return a number of bytes above 0, or ``HALF``."""
    if isinstance(value, str) and value == HALF:
        return HALF
    try:
        size = parse_bytes(value)
    except ValueError as error:
        raise ValueError(f'{error}, "{HALF}"') from None
    if size == 0:
        raise ValueError(f'expected more than 0 bytes, "{HALF}"')
    return size


def switch(value: object) -> bool:
    """Return a truth value."""
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    if isinstance(value, bool):
        return value
    raise ValueError("expected true or false")


def on_or_off(value: object) -> str:
    """Return "on" or "off"; true and false are also accepted."""
    words = {"true": "on", "false": "off", "on": "on", "off": "off"}
    word = str(value).strip().lower() if isinstance(value, (bool, str)) else ""
    if word not in words:
        raise ValueError('expected "on" or "off"')
    return words[word]


def text(value: object) -> str:
    """Return a text that is not blank."""
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("expected a text")


def patterns(value: object) -> tuple[str, ...]:
    """Return a tuple of patterns, given one pattern or a list."""
    if isinstance(value, str):
        value = [] if value == "none" else [value]
    if isinstance(value, (list, tuple)) and all(
        isinstance(pattern, str) and pattern.strip() for pattern in value
    ):
        return tuple(pattern.strip() for pattern in value)
    raise ValueError('expected a pattern such as "mylib.cache*", or a list of them')
