"""Find the lines of user code that put objects where they pile up.

Watch the length of each container that grows, line by line, over a few more iterations;
or watch when an attribute, a variable or an entry is replaced. The line may call a
library that adds to a container of its own.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from typing import Any

from pytest_tfleak.diagnosis.holder.parts import part_of
from pytest_tfleak.diagnosis.origin.line_tracer import LineTracer
from pytest_tfleak.diagnosis.safe_read import sized_among
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The lines that make containers longer, and how many iterations found them."""

    lines: Mapping[int, Origin] = field(default_factory=dict)  # by id of the container
    iterations: int = 0

    def line_of(self, container: object) -> Origin | None:
        """Return the line that makes a container longer, None if none is known."""
        return self.lines.get(id(container))


def find_stores(
    loop: Loop,
    containers: Sequence[Any],
    iterations: int,
    after: Sequence[Callable[[], None]],
    deadline: Deadline,
) -> Stores:
    """Run iterations, and find the lines that make some of the containers longer.

    The ids stay valid only while the containers are held. Raises what the body raises.
    """
    watched = list(sized_among(list(containers)))
    lengths = [partial(len_, container) for container, len_ in watched]
    origins, done = find_lines(loop, lengths, iterations, after, deadline)
    lines = {
        id(container): origin
        for (container, _), origin in zip(watched, origins, strict=True)
        if origin is not None
    }
    return Stores(lines=lines, iterations=done)


def find_lines(
    loop: Loop,
    reads: Sequence[Callable[[], int]],
    iterations: int,
    after: Sequence[Callable[[], None]],
    deadline: Deadline,
) -> tuple[list[Origin | None], int]:
    """Return the lines in which figures grow, and how many iterations it ran for that.

    Raises what the body raises.
    """
    if not reads or not deadline.fits(0):
        return [None] * len(reads), 0
    before = [read() for read in reads]
    with LineTracer(*reads, until=deadline.at) as tracer:
        done = loop.repeat(iterations, [*after, tracer.tick], deadline)
    origins: list[Origin | None] = []
    for place, read in enumerate(reads):
        grown = read() - before[place]
        stack = tracer.stack_of(grown / done, place) if grown > 0 else []
        origins.append(origin_of(stack)[0])
    return origins, done


def count_renewals(holder: Any, name: Hashable) -> Callable[[], int]:
    """Return what counts how often a part of a holder is replaced by another one.

    If it is a container, the figure is its length instead: it may be rebuilt several
    times in one call.
    """
    seen, count = id(part_of(holder, name)), 0

    def read() -> int:
        nonlocal seen, count
        part = part_of(holder, name)
        for _, len_ in sized_among([part]):
            return len_(part)
        if type(part) is tuple:
            return len(part)
        if id(part) != seen:
            seen = id(part)
            count += part is not None
        return count

    return read
