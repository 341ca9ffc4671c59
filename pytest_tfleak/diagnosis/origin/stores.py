"""Find the lines of user code that put objects into the containers that grow.

Watch the length of each container, line by line, over a few more iterations. The line
may call a library that adds to a container of its own.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import TypeVar

from pytest_tfleak.diagnosis.origin.line_tracer import LineTracer
from pytest_tfleak.diagnosis.safe_read import sized_among
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Length:
    """The length of containers that belong together, in all."""

    lengths: Sequence[tuple[Any, Callable[[Any], int]]]

    def __call__(self) -> int:
        return sum(len_(container) for container, len_ in self.lengths)


def find_stores(
    loop: Loop,
    containers: Mapping[Key, Sequence[Any]],
    iterations: int,
    after: Sequence[Callable[[], None]],
    deadline: Deadline,
) -> dict[Key, Origin]:
    """Return the line that makes containers longer, by their key, where one does.

    Raises what the body raises.
    """
    found = {key: _Length(list(sized_among(list(c)))) for key, c in containers.items()}
    watched = {key: length for key, length in found.items() if length.lengths}
    if not watched:
        return {}
    before = [length() for length in watched.values()]
    with LineTracer(*watched.values(), until=deadline.at) as tracer:
        done = loop.repeat(iterations, [*after, tracer.tick], deadline)
    stores: dict[Key, Origin] = {}
    for place, (key, length) in enumerate(watched.items()):
        grown = length() - before[place]
        if grown > 0:
            origin, _ = origin_of(tracer.stack_of(grown / done, place))
            if origin is not None:
                stores[key] = origin
    return stores
