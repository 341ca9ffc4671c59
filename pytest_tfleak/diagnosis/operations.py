"""The operations that were added to a graph: their types, and the lines that made them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from pytest_tfleak.diagnosis.fields import read_attribute
from pytest_tfleak.units import format_count

Stack = list[tuple[str, int, str]]  # file, line and function; the nearest first

_TYPED = 2_000  # of the newest operations, in 0.4 ms
_TRACED = 300  # of the newest, in 8 ms
_SHOWN = 3  # types in one message
_RAREST = 0.09  # per iteration: one of every tenth iteration is shown


def count_operations(graph: Any) -> int:
    """Return how many operations a graph has; 0 where it does not say."""
    with suppress(Exception):
        return int(read_attribute(graph, "num_operations")())
    return 0


def operations_made(graph: Any, since: int) -> tuple[tuple[str, int], ...]:
    """Return the types of the operations made since a count, the commonest first.

    Of a graph that grew by thousands only the newest are looked at.
    """
    types: Counter[str] = Counter()
    for op in _newest(graph, since, _TYPED):
        with suppress(Exception):
            types[str(op.type)] += 1
    return tuple(sorted(types.items(), key=lambda item: (-item[1], item[0])))


def describe_operations(
    made: tuple[tuple[str, int], ...], iterations: int
) -> str | None:
    """Return ``5 Const, 3 Mul, 1 VariableV2 per iteration``, None where none is."""
    rates = [(kind, count / iterations) for kind, count in made]
    rates = [(kind, rate) for kind, rate in rates if rate >= _RAREST]
    if not rates:
        return None
    words = [f"{format_count(rate)} {kind}" for kind, rate in rates[:_SHOWN]]
    rest = ", …" if len(rates) > _SHOWN else ""
    return f"{', '.join(words)}{rest} per iteration"


def list_types(made: tuple[tuple[str, int], ...]) -> str:
    """Return ``5 Const, 3 VariableV2, …``."""
    words = [f"{count:,} {kind}" for kind, count in made[:_SHOWN]]
    return ", ".join(words + ["…"] * (len(made) > _SHOWN))


def stacks_of_operations(graph: Any, since: int) -> list[tuple[Stack, int]]:
    """Return the distinct stacks of the newest operations, the commonest first."""
    counts: Counter[tuple[tuple[str, int, str], ...]] = Counter()
    for op in _newest(graph, since, _TRACED):
        stack = tuple(origin_of_operation(op))
        if stack:
            counts[stack] += 1
    return [(list(stack), count) for stack, count in counts.most_common()]


def origin_of_operation(op: Any) -> Stack:
    """Return the Python stack that made an operation, the nearest frame first.

    An operation of an imported graph has none.
    """
    frames: Stack = []
    with suppress(Exception):
        # read at once: TensorFlow's stack object does not outlive the operation
        frames += [
            (str(frame.filename), int(frame.lineno), str(frame.name))
            for frame in op.traceback
        ]
    frames.reverse()
    return frames


def _newest(graph: Any, since: int, most: int) -> list[Any]:
    operations: list[Any] = []
    with suppress(Exception):
        operations += read_attribute(graph, "get_operations")()
    return operations[max(since, len(operations) - most) :]
