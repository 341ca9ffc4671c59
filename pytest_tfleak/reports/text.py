"""Make text for a terminal: safe to print, of limited width, with honest figures."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from collections.abc import Sequence
from itertools import pairwise
from typing import TextIO

from pytest_tfleak.quantities import format_quantity

CUT = "..."  # stands for what is left out
NARROWEST = 20  # columns, even if the terminal is narrower
LONGEST_NAME = 40
_LONGEST_PATH = 1_000
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.:-=+*#"
_GAP = " "
#: Replacements for our own texts, for a terminal that shows only ASCII.
_PLAIN = str.maketrans({"→": "->", "…": "...", "×": "x", "–": "-"})
#: A figure and its unit stay on one line.
_SPACE = re.compile(r"\s+(?!(?:B|[KMG]iB|ms|s|min|%)(?!\w))")
_PATH = re.compile(r".*(/|::|^\W*[A-Za-z]:\\)")


def can_draw(stream: TextIO | None) -> bool:
    """Return whether a stream's encoding can represent a sparkline."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        _BLOCKS.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def safe(text: str, unicode: bool = True) -> str:
    """Return text with escapes for all characters that could control a terminal."""
    if not unicode:
        text = text.translate(_PLAIN)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() and (unicode or char.isascii())
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(char) for char in text)


def shorten(text: str, width: int) -> str:
    """Return a name that fits, with its middle left out if necessary."""
    if columns(text) <= width:
        return text
    room = max(width - 3, 0)
    head = _fitting(text, room - room // 2)
    tail = _fitting(text[::-1], room // 2)[::-1]
    return head + "..."[: max(width, 0)] + tail


def shorten_left(path: str, width: int) -> str:
    """Return a path that fits, with its beginning left out if necessary.

    A whole folder is left out if the file still fits.
    """
    if columns(path) <= width:
        return path
    tail = _fitting(path[::-1], max(width - len(CUT), 0))[::-1]
    start = re.search(r"[/\\]", tail)
    return CUT + (tail[start.start() :] if start is not None else tail)


def short_name(name: str) -> str:
    """Return the name of a signal or of a type, safe and not too long."""
    return shorten(safe(name), LONGEST_NAME)


def truncate(text: str, width: int) -> str:
    """Return a sentence that fits, with its end left out if necessary."""
    if columns(text) <= width:
        return text
    return _fitting(text, width - 3).rstrip() + "..." if width > 3 else ""


def pad(text: str, width: int) -> str:
    """Return text padded with spaces to a width."""
    return text + " " * (width - columns(text))


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Return text as lines; the first begins with ``first``, others with ``rest``.

    A word that does not fit is shortened, but a path or a node id stays whole.
    """
    lines: list[str] = []
    line, empty = first, True
    for word in _SPACE.split(text.strip()):
        room = width - columns(line) - (not empty)
        if columns(word) > room and (not empty or columns(line) > columns(rest)):
            lines.append(line.rstrip())
            line, empty = rest, True
            room = width - columns(line)
        if not empty:
            line += " " + word
        else:
            line += word if _is_path(word) else shorten(word, room)
        empty = False
    lines.append(line.rstrip())
    return lines


def _is_path(word: str) -> bool:
    """Return whether a word is a path or node id, which users may want to copy."""
    is_figure = word.startswith("+")  # +1/iteration
    fits = len(word) <= _LONGEST_PATH and not is_figure
    return fits and _PATH.match(word) is not None


def first_that_fits(texts: Iterable[str], width: int) -> str:
    """Return the first text that fits; if none does, truncate the last."""
    text = ""
    for text in texts:
        if columns(text) <= width:
            return text
    return truncate(text, width)


def signed(value: float, unit: str) -> str:
    """Return growth with its sign: ``+4 KiB``, ``-2``, ``0``."""
    text = format_quantity(value, unit)
    return "+" + text if text[0].isdigit() and value > 0 else text


def compared(value: float, limit: float, unit: str) -> tuple[str, str]:
    """Return two figures as texts that differ if the figures do."""
    left, right = format_quantity(value, unit), format_quantity(limit, unit)
    suffix = " B" if unit == "B" else ""
    for digits in range(10):
        if left != right or value == limit:
            break
        left, right = f"{value:,.{digits}f}{suffix}", f"{limit:,.{digits}f}{suffix}"
    return left, right


def percent(share: float) -> str:
    """Return a share as text that shows 0 or 100 % only if it is exact."""
    if 0 < share < 0.01:
        return "<1 %"
    if share > 10_000:
        return ">1,000,000 %"  # the allowance is close to 0
    hundredths = round(share * 100, 6)
    return f"{math.floor(hundredths) if share < 1 else math.ceil(hundredths):,} %"


def sparkline(series: Sequence[int | None], width: int, unicode: bool = True) -> str:
    """Return readings as a line of bars; a missing reading is a gap.

    A longer series is thinned out. The first reading keeps its own bar, and each later
    bar shows the reading farthest from the previous bar, so that no step is hidden.
    """
    readings = [value for value in series if value is not None]
    if not readings:
        return _GAP * min(len(series), max(width, 0))
    bars = _BLOCKS if unicode else _ASCII
    low, high = min(readings), max(readings)
    return "".join(
        _GAP
        if value is None
        else bars[(value - low) * (len(bars) - 1) // max(high - low, 1)]
        for value in _thinned(series, max(width, 0))
    )


def _thinned(series: Sequence[int | None], width: int) -> list[int | None]:
    if len(series) <= width:
        return list(series)
    if width < 2:
        return list(series[-width:]) if width else []
    size = (len(series) - 1) / (width - 1)
    cuts = [1 + round(k * size) for k in range(width)]
    kept = [series[0]]
    last = series[0]
    for start, stop in pairwise(cuts):
        readings = [value for value in series[start:stop] if value is not None]
        if not readings:
            kept.append(None)
            continue
        before = last
        if before is None:
            last = readings[0]
        else:
            last = max(reversed(readings), key=lambda value: abs(value - before))
        kept.append(last)
    return kept


def _fitting(text: str, width: int) -> str:
    used = 0
    for place, char in enumerate(text):
        used += _columns_of(char)
        if used > width:
            return text[:place]
    return text


def _columns_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
