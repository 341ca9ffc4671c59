"""Parse and format bytes, counts and durations; a value shown as 0 is 0.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

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


def _parse_quantity(
    value: object, units: dict[str, float] | dict[str, int], default: str, example: str
) -> float:
    names = ", ".join(_unit_name(unit) for unit in units)
    expected = f"expected {example} (units: {names})"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # also false for NaN; the nearest float of an integer may be larger
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
    """Return bytes for a reader, in binary units: ``6 KiB``, ``1.5 MiB``, ``-12 B``."""
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
    """Return a count for a reader: ``1``, ``0.2``, ``1,024``; small is never 0."""
    sign, size = ("-" if value < 0 else "", abs(value))  # abs: -0.0 is "0"
    if 0 < size < 0.01:
        return f"{sign}<0.01"
    if size >= 100:
        return f"{sign}{size:,.0f}"
    return sign + (f"{size:.2f}".rstrip("0").rstrip("."))


def format_seconds(value: float) -> str:
    """Return a duration for a reader: ``12 ms``, ``1.5 s``, ``3 min``."""
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
    """Return a figure of a signal in the signal's unit: ``"B"``, or a noun as count."""
    return format_bytes(value) if unit == "B" else format_count(value)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
