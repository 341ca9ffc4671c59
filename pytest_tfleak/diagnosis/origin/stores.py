"""Find the lines of user code that put objects into the containers that grow.

Watch the length of each container, line by line, over a few more iterations. The line
may call a library that adds to a container of its own.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from typing import Any

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
    if not watched or not deadline.fits(0):
        return Stores()
    lengths = [partial(len_, container) for container, len_ in watched]
    before = [length() for length in lengths]
    with LineTracer(*lengths, until=deadline.at) as tracer:
        done = loop.repeat(iterations, [*after, tracer.tick], deadline)
    lines: dict[int, Origin] = {}
    for place, (container, len_) in enumerate(watched):
        grown = len_(container) - before[place]
        if grown > 0:
            origin, _ = origin_of(tracer.stack_of(grown / done, place))
            if origin is not None:
                lines[id(container)] = origin
    return Stores(lines=lines, iterations=done)
