"""Name what an object holds directly: attributes, keys, indexes. No code of it runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Hashable
from typing import Any

from pytest_tfleak.diagnosis.holder.path import attributes
from pytest_tfleak.diagnosis.holder.path import items_of
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.diagnosis.safe_read import names_in

#: Keys whose hash and comparison run no code of a user's.
_PLAIN_KEYS = frozenset(map(id, (str, int, bytes)))
_ABSENT = object()


def parts_of(holder: Any) -> dict[Hashable, Any]:
    """Return what an object holds, by a name that stays if the value is replaced."""
    kind = type(holder)
    if issubclass(kind, dict):
        return {_name_of(key): value for key, value in items_of(holder)}
    for plain in (list, tuple, deque):
        if issubclass(kind, plain):
            return dict(enumerate(plain.__iter__(holder)))
    if kind is types.CellType:
        return dict(enumerate(_content_of(holder)))
    named = names_in(holder).items() if issubclass(kind, type) else attributes(holder)
    return dict(named)


def part_of(holder: Any, name: Hashable) -> Any:
    """Return the part of this name, or None."""
    held = holder if issubclass(type(holder), dict) else fields_of(holder)
    if id(type(name)) in _PLAIN_KEYS:
        found = dict.get(held, name, _ABSENT)
        if found is not _ABSENT:
            return found
    return parts_of(holder).get(name)


def _name_of(key: object) -> Hashable:
    return key if id(type(key)) in _PLAIN_KEYS else (id(key),)


def _content_of(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []
