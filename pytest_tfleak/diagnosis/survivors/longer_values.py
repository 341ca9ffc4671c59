"""Find an array, text or buffer in user code that is longer after each iteration.

It is one object in one place, which is rebuilt from the old one or grows in place. So
no objects pile up, and no container gains entries.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pytest_tfleak.diagnosis.holder.path import describe_path
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.survivors.groups import LONGER_VALUE
from pytest_tfleak.diagnosis.survivors.groups import WHOLE
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Part
from pytest_tfleak.diagnosis.what.facts import facts_of
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.reports.held_object import words_of_longer_value
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.run.own_bytes import measure_of

#: The value must hold this share of all bytes added so far, and must then grow by this
#: share of the rate.
_PART = 0.5


def find_longer_value(
    loop: Loop,
    handed: Mapping[str, object],
    rate: float,
    iterations: int,
    after: Sequence[Callable[[], None]],
    deadline: Deadline,
) -> Group | None:
    """Return the value that grows by ``rate`` bytes in each iteration, or None.

    Run the body ``iterations`` times, and call ``after`` after each. ``handed`` is what
    the test receives from pytest.
    """
    before = loop.trace.rows + loop.ran_again
    paths = Paths(handed, deadline)
    values = _Values(paths)
    candidates = [
        (holder, length)
        for holder in paths.all_of_users()
        if (length := values.longest_of(holder)) >= _PART * rate * before
    ]
    if not candidates:
        return None
    iterations = loop.repeat(iterations, after, deadline)
    for holder, length in candidates:
        grown = (values.longest_of(holder) - length) / iterations
        if grown >= _PART * rate:
            value = values.longest_in(holder)
            return _group(paths.path_to(holder), value, min(grown, rate))
    return None


class _Values:
    """Finds the longest array, text or buffer that an object holds."""

    def __init__(self, paths: Paths) -> None:
        self._held_by = paths.held_by
        self._measures: dict[int, Callable[[Any], int] | None] = {}  # by id of a type
        self._types: list[type] = []  # kept alive, so that no id is reused

    def longest_of(self, holder: Any) -> int:
        """Return the bytes of the longest value in an object, 0 if it has none."""
        return max((length for length, _ in self._lengths(holder)), default=0)

    def longest_in(self, holder: Any) -> Any:
        """Return the longest value in an object that has one."""
        return max(self._lengths(holder), key=lambda item: item[0])[1]

    def _lengths(self, holder: Any) -> list[tuple[int, Any]]:
        lengths = []
        for held in self._held_by(holder):
            measure = self._measure(type(held))
            if measure is not None:
                with suppress(Exception):  # for example, a buffer may be closed
                    lengths.append((measure(held), held))
        return lengths

    def _measure(self, kind: type) -> Callable[[Any], int] | None:
        if id(kind) not in self._measures:
            self._types.append(kind)
            self._measures[id(kind)] = measure_of(kind)
        return self._measures[id(kind)]


def _group(path: list[Any], value: Any, rate: float) -> Group:
    held = describe_path([*path, value], {id(value)})
    kind = full_name(type(value))
    return Group(
        path=held,
        growth=LONGER_VALUE,
        objects=1.0,
        bytes=rate,
        members={kind: 1.0},
        parts={
            WHOLE: Part(
                kind=kind,
                what=words_of_longer_value(facts_of(value)),
                per_iteration=1.0,
                path=held,
                origin=None,
                stack=(),
            )
        },
    )
