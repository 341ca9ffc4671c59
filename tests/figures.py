"""Read the figures of a message as a reader does, and check them against each other.

``contradictions`` takes the text alone: what it cannot see, a reader cannot see either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_UNITS = {"": 1.0, "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_FIGURE = r"[+-]?[\d,]+(?:\.\d+)?(?: (?:B|[KMG]iB)\b)?"
_RATE = re.compile(rf"({_FIGURE})(?: of ({_FIGURE}))? per iteration")
_TOTAL = re.compile(rf"({_FIGURE})(?: of ({_FIGURE}))? (?:from first to last|in all)")
_STEP = re.compile(rf"not counting one (fall|rise) of ({_FIGURE})")
_SEEN = re.compile(r"iterations (\d+)-(\d+) of the (\d+) judged(?:, (\d+) of them)?")
_RAN = re.compile(r"(\d+) (warm-up|measured|confirmation)\b")
_HELD = re.compile(r"\((?:list|dict|set|deque|lru_cache) of ([\d,]+)\) → ([\w.]+)")
#: A rate is a robust slope, so that a one-off step is only in the total.
_APART = 0.15
#: A container has what the warm-up and the first judged iteration left, too.
_MOST_BEFORE = 12  # iterations


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as shown, and how exact it is."""

    value: float
    half: float  # half of the last digit shown

    def agrees(self, other: Figure, share: float = 0.0) -> bool:
        """Return whether two figures may be the same, but for rounding and a share."""
        room = self.half + other.half + share * max(abs(self.value), abs(other.value))
        return abs(self.value - other.value) <= room + 1e-9

    def __sub__(self, other: Figure) -> Figure:
        return Figure(self.value - other.value, self.half + other.half)

    def __add__(self, other: Figure) -> Figure:
        return Figure(self.value + other.value, self.half + other.half)

    def __mul__(self, times: int) -> Figure:
        return Figure(self.value * times, self.half * times)


def contradictions(text: str, *, is_fresh: bool = True) -> list[str]:
    """Return what the figures of one message say against each other.

    ``is_fresh`` says that the containers were empty before the test.
    """
    return list(_complaints(text, is_fresh=is_fresh))


def _complaints(text: str, *, is_fresh: bool) -> Iterator[str]:
    blocks = [_rows(block) for block in _blocks(text)]
    rows = [row for block in blocks for row in block]
    ran = {what: int(n) for n, what in _RAN.findall(_first(rows, "iterations"))}
    judged = ran.get("measured", 0) + ran.get("confirmation", 0)
    parts: dict[str, list[tuple[Figure, Figure]]] = {}
    for block in blocks:
        grows = _first(block, "what grows") or next(
            (value for label, value in block if label.startswith("leak ")), ""
        )
        yield from _of_leak(block, judged)
        yield from _of_objects(block, is_fresh=is_fresh)
        rate = _RATE.search(_first(block, "how much"))
        if grows and rate and rate[2]:
            pair = figure(rate[1]), figure(rate[2])
            parts.setdefault(grows, []).append(pair)
    for grows, pairs in parts.items():
        whole, shown = pairs[0][1], sum(part.value for part, _ in pairs)
        if any(not whole.agrees(other) for _, other in pairs):
            yield f"two sums for {grows}: {pairs}"
        if len(pairs) > 1 and shown > whole.value + whole.half + len(pairs) * 0.005:
            yield f"the parts of {grows} are more than the whole: {pairs}"
    seen = _SEEN.search(_first(rows, "seen in"))
    if seen and judged:
        first, last, of, confirming = (int(n or 0) for n in seen.groups())
        if of != judged or confirming != ran.get("confirmation", 0):
            yield f"seen in {seen[0]!r}, but iterations {ran}"
        if not 1 <= first <= last <= of:
            yield f"seen in {seen[0]!r}"
    yield from _of_headline(text, rows)


def _of_leak(block: list[tuple[str, str]], judged: int) -> Iterator[str]:
    """Yield what is wrong within the rows of one leak."""
    much = _first(block, "how much")
    rate, total = _RATE.search(much), _TOTAL.search(much)
    readings = re.match(rf"({_FIGURE}) .* ({_FIGURE})$", _first(block, "readings"))
    if readings and total:
        rise = figure(readings[2]) - figure(readings[1])
        step = _STEP.search(much)
        if step:
            once = figure(step[2])
            rise = rise + once if step[1] == "fall" else rise - once
        # of memory, a step of less than a tenth is not told
        grows = _first(block, "what grows")
        is_memory = is_bytes(total[1]) or "(python.blocks)" in grows
        share = 0.1 if is_memory and not step else 0.0
        if not rise.agrees(figure(total[2] or total[1]), share):
            yield f"readings {readings[0]!r}, but {much!r}"
    if rate and total and not is_bytes(rate[1]):
        seen = _SEEN.search(_first(block, "seen in"))
        span = int(seen[2]) - int(seen[1]) + 1 if seen else judged
        each, in_all = figure(rate[1]), figure(total[1])
        if not any((each * times).agrees(in_all, _APART) for times in (span, span - 1)):
            yield f"{much!r} in {span} iterations"
    explained = re.search(
        rf"explain ({_FIGURE}) of ({_FIGURE})", _first(block, "explained")
    )
    if explained and figure(explained[1]).value > 1.1 * figure(explained[2]).value:
        yield explained[0]


def _of_objects(block: list[tuple[str, str]], *, is_fresh: bool) -> Iterator[str]:
    """Yield what is wrong about the objects that are held, and their container."""
    what, held = _first(block, "what"), _HELD.search(_first(block, "held by"))
    much = _first(block, "how much")
    rate, total = _RATE.search(much), _TOTAL.search(much)
    objects = re.match(r"([\d.,]+) ([\w.]+)", what)
    if "per iteration" not in what or rate is None or total is None or not objects:
        return
    if "(python.blocks)" in _first(block, "what grows"):
        return  # an object takes many blocks
    if is_bytes(rate[1]) or re.search(r" with \d|, \d[\d.]* \w", what):
        return  # another number of other things
    each = figure(objects[1])
    if not each.agrees(figure(rate[1])):
        yield f"{rate[0]!r}, but {what!r}"
    if held is None or held[2] != objects[2]:
        return
    size, in_all = figure(held[1]).value, figure(total[1]).value
    before = figure(objects[1]).value * _MOST_BEFORE
    if size < in_all - 2 or (is_fresh and size > in_all + before):
        yield f"{total[0]!r}, but {held[0]!r}"


def is_bytes(text: str) -> bool:
    """Return whether a figure has a unit of bytes."""
    return text.strip().endswith("B")


def _of_headline(text: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    headline = text.partition("\n")[0]
    shown = re.search(rf"({_FIGURE})(?: per |/)iteration", headline)
    rate = _RATE.search(_first(rows, "how much"))
    if shown and rate and not figure(shown[1]).agrees(figure(rate[1])):
        yield f"{headline!r}, but {rate[0]!r}"


def figure(text: str) -> Figure:
    """Return a figure of a message, such as ``+1.5 KiB``."""
    number, _, unit = text.strip().partition(" ")
    digits = number.replace(",", "").lstrip("+")
    decimals = len(digits.partition(".")[2])
    # whole numbers of things are exact; whole numbers of bytes in a unit are not
    is_exact = not decimals and unit in ("", "B")
    last = 0.0 if is_exact else 10.0 ** -max(decimals, 1)
    return Figure(float(digits) * _UNITS[unit], last / 2 * _UNITS[unit])


def _blocks(text: str) -> list[list[str]]:
    """Return the lines of a message by leak, without the headline."""
    blocks: list[list[str]] = [[]]
    for line in text.split("\n")[1:]:
        if line:
            blocks[-1].append(line)
        else:
            blocks.append([])
    return [block for block in blocks if block]


def _rows(lines: list[str]) -> list[tuple[str, str]]:
    """Return the labels and texts of rows, each text in one line."""
    rows: list[tuple[str, str]] = []
    for line in lines:
        if line[2:13].strip() and line.startswith("  ") and line[2] != " ":
            rows.append((line[2:13].strip(), line[15:].strip()))
        elif rows:
            label, value = rows[-1]
            rows[-1] = label, f"{value} {line.strip()}"
    return rows


def _first(rows: list[tuple[str, str]], label: str) -> str:
    return next((value for name, value in rows if name == label), "")
