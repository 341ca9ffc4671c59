"""Which array, text or buffer of the user's is longer after each iteration.

It is one object in one place, made anew with what came before in it, or grown in place:
nothing new piles up, and no container gets more entries.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.bytes import bytes_of
from pytest_tfleak.diagnosis.bytes import is_array_or_tensor
from pytest_tfleak.diagnosis.details import describe_object
from pytest_tfleak.diagnosis.group import LONGER_VALUE
from pytest_tfleak.diagnosis.group import WHOLE
from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.group import Part
from pytest_tfleak.diagnosis.holders import describe_path
from pytest_tfleak.diagnosis.paths import Paths
from pytest_tfleak.loop import Loop

#: The share of what all iterations so far have added that must still be in the value,
#: and the share of what the next ones add.
_PART = 0.5
_WIDEST = 4  # bytes of a character; nobody tells how wide those of a StringIO are

#: What tells how many bytes may be in a value of a type; no code of a subclass runs.
_LENGTHS: dict[type, Callable[[Any], int]] = {
    str: str.__sizeof__,
    bytes: bytes.__len__,
    bytearray: bytearray.__len__,
    array: lambda numbers: array.__len__(numbers) * numbers.itemsize,
    io.BytesIO: lambda file: io.BytesIO.getbuffer(file).nbytes,
    io.StringIO: lambda file: _WIDEST * io.StringIO.tell(file),
}


def find_longer_value(
    loop: Loop,
    handed: Mapping[str, object],
    rate: float,
    iterations: int,
    after: Sequence[Callable[[], None]],
    until: float,
) -> Group | None:
    """Return the value that takes up ``rate`` more bytes with each iteration, or None.

    Runs the body ``iterations`` times. ``handed`` is what pytest hands to the test;
    ``after`` is called after each iteration.
    """
    before = loop.trace.rows + loop.ran_again
    paths = Paths(handed, until)
    values = _Values(paths)
    found = [
        (holder, values.longest_of(holder))
        for holder in paths.all_of_users()
        if values.longest_of(holder) >= _PART * rate * before
    ]
    if not found:
        return None
    loop.refreeze()  # the search thawed all there is
    iterations = loop.repeat(iterations, after, seconds=until - perf_counter())
    for holder, length in found:
        grown = (values.longest_of(holder) - length) / iterations
        if grown >= _PART * rate:
            value = values.longest_in(holder)
            return _group(paths.path_to(holder), value, min(grown, rate))
    return None


class _Values:
    """Finds the longest value that an object holds."""

    def __init__(self, paths: Paths) -> None:
        self._held_by = paths.held_by
        self._measures: dict[int, Callable[[Any], int] | None] = {}  # by id of a type
        self._types: list[type] = []  # so that their ids stay

    def longest_of(self, holder: Any) -> int:
        """Return the bytes of the longest value in an object, 0 where it has none."""
        return max((length for length, _ in self._lengths(holder)), default=0)

    def longest_in(self, holder: Any) -> Any:
        """Return the longest value in an object that has one."""
        return max(self._lengths(holder), key=lambda found: found[0])[1]

    def _lengths(self, holder: Any) -> list[tuple[int, Any]]:
        found = []
        for held in self._held_by(holder):
            measure = self._measure(type(held))
            if measure is not None:
                with suppress(ValueError):  # a file that is closed
                    found.append((measure(held), held))
        return found

    def _measure(self, kind: type) -> Callable[[Any], int] | None:
        if id(kind) not in self._measures:
            self._types.append(kind)
            plain = (len_ for base, len_ in _LENGTHS.items() if issubclass(kind, base))
            other = bytes_of if is_array_or_tensor(kind) else None
            self._measures[id(kind)] = next(plain, other)
        return self._measures[id(kind)]


def _group(path: list[Any], value: Any, rate: float) -> Group:
    holding = describe_path([*path, value], {id(value)}, describe_object)
    kind = full_name(type(value))
    return Group(
        erased=holding.erased,
        clues=holding.clues | {LONGER_VALUE},
        objects=1.0,
        bytes=rate,
        members={kind: 1.0},
        parts={
            WHOLE: Part(
                kind=kind,
                what=f"{describe_object(value)}, longer after each iteration",
                per_iteration=1.0,
                edges=holding.edges,
                origin=None,
                stack=(),
            )
        },
    )
