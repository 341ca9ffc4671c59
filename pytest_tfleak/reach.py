"""What can be reached from an object without going through modules or classes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import FrameType
from types import FunctionType
from types import ModuleType
from typing import Any

_MOST_VISITED = 300_000


def reachable(roots: Iterable[object], wanted: Iterable[object]) -> set[int]:
    """Return the ids of those wanted objects that can be reached from the roots."""
    missing = {id(o) for o in wanted}
    found: set[int] = set()
    seen: set[int] = set()
    pending: list[Any] = list(roots)
    while pending and missing and len(seen) < _MOST_VISITED:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if id(current) in missing:
            missing.discard(id(current))
            found.add(id(current))
        pending.extend(_referents(current))
    return found


def _referents(holder: Any) -> list[Any]:
    kind = type(holder)
    if issubclass(kind, (ModuleType, type, FrameType)):
        return []
    if kind is FunctionType:
        # not __globals__: everything in a module is reachable from there
        return [holder.__closure__, holder.__defaults__, holder.__kwdefaults__]
    return gc.get_referents(holder)
