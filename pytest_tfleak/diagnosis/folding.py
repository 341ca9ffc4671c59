"""Names that differ by a number, as one name.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LONGEST = 64  # characters of one name in a message
#: What may differ from call to call: the rest of an event file's name, the letters that
#: tempfile makes, a hash, a number.
_PART = re.compile(
    r"(?<=events\.out\.tfevents\.)\S+"
    r"|(?<=tmp)[a-z0-9_]{8}\b"
    r"|(?<![A-Za-z0-9])(?=[a-f]*[0-9])[0-9a-f]{8,}(?![A-Za-z0-9])"
    r"|[0-9]+"
)
_STARS = re.compile(r"\*(?:[-_.]\*)+")


def fold_name(name: str) -> str:
    """Return a name with ``*`` for each part that may differ from call to call."""
    return _STARS.sub("*", _PART.sub("*", name))


def fold_names(names: Iterable[str]) -> dict[str, int]:
    """Count names, those together that fold alike, with ``*`` for what differs."""
    groups: dict[tuple[str, ...], list[str]] = {}  # by what does not differ
    for name in names:
        groups.setdefault(tuple(_PART.split(name)), []).append(name)
    counts: dict[str, int] = {}
    for members in groups.values():
        folded = _merge(members)
        counts[folded] = counts.get(folded, 0) + len(members)
    return counts


def _merge(names: list[str]) -> str:
    """Return one name for several that fold alike; parts that are the same stay."""
    columns = zip(*map(_PART.findall, names), strict=True)
    parts = iter([c[0] if len(set(c)) == 1 else "*" for c in columns])
    merged = _PART.sub(lambda _: next(parts), names[0])
    return _STARS.sub("*", merged)


def clip(name: str, longest: int = _LONGEST) -> str:
    """Return a name that fits into a message: its middle cut out, no control codes."""
    name = "".join(c if c.isprintable() else "?" for c in name)
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[head + 1 - longest :]}"
