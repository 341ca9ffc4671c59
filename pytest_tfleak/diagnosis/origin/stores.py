"""Find the lines of user code that put objects where they pile up.

Watch the length of each container that grows, line by line, over a few more iterations;
or watch when an attribute, a variable or an entry is replaced. The line may call a
library that adds to a container of its own. Several lines may add to one container, and
only what some of them add stays: so note which line added each item.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from collections import deque
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from typing import Any

from pytest_tfleak.diagnosis.holder.parts import part_of
from pytest_tfleak.diagnosis.origin.line_tracer import Lines
from pytest_tfleak.diagnosis.origin.line_tracer import LineTracer
from pytest_tfleak.diagnosis.safe_read import entries_of
from pytest_tfleak.diagnosis.safe_read import last_of
from pytest_tfleak.diagnosis.safe_read import sized_among
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin

_MOST_ITEMS = 5_000  # in one container whose items are told apart
#: How many containers are watched for a last item that is replaced by another.
_JUST_GROWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What to read at each line, and the items that it counts, if they are known."""

    read: Callable[[], int]
    items: Callable[[], list[Any]] = list
    last: Callable[[], Any] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLines:
    """The lines that made one figure grow."""

    line: Origin | None = None  # by its growth alone
    #: The line that added most of the items that stay, by full name of their type.
    of_kind: Mapping[str, Origin] = field(default_factory=dict)

    def of(self, kinds: Iterable[str]) -> Origin | None:
        """Return the line that added items of the first type for which it is known."""
        found = (self.of_kind.get(kind) for kind in kinds)
        return next(filter(None, found), self.line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The lines that make containers longer, and how many iterations found them."""

    lines: Mapping[int, StoreLines] = field(default_factory=dict)  # by id
    iterations: int = 0

    def line_of(self, container: object, kind: str = "") -> Origin | None:
        """Return the line that adds objects of a type to a container, if it is known.

        ``kind`` is the full name of the type.
        """
        found = self.lines.get(id(container))
        return None if found is None else found.of([kind])


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
    figures = [_figure_of(container, len_) for container, len_ in watched]
    found, done = find_lines(loop, figures, iterations, after, deadline)
    lines = {
        id(container): lines
        for (container, _), lines in zip(watched, found, strict=True)
        if lines.line is not None or lines.of_kind
    }
    return Stores(lines=lines, iterations=done)


def find_lines(
    loop: Loop,
    figures: Sequence[Figure],
    iterations: int,
    after: Sequence[Callable[[], None]],
    deadline: Deadline,
) -> tuple[list[StoreLines], int]:
    """Return the lines in which figures grow, and how many iterations it ran for that.

    Raises what the body raises.
    """
    if not figures or not deadline.fits(0):
        return [StoreLines()] * len(figures), 0
    before = [figure.read() for figure in figures]
    additions = _Additions(figures)
    with LineTracer(
        *(figure.read for figure in figures),
        until=deadline.at,
        after_line=additions.note,
    ) as tracer:
        done = loop.repeat(iterations, [*after, tracer.tick], deadline)
    found: list[StoreLines] = []
    for place, figure in enumerate(figures):
        grown = figure.read() - before[place]
        if grown <= 0:
            found.append(StoreLines())
            continue
        line, _ = origin_of(tracer.stack_of(grown / done, place))
        found.append(StoreLines(line=line, of_kind=additions.lines_by_kind(place)))
    return found, done


class _Additions:
    """Notes which line added each item; it holds no items, only their ids."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._figures = figures
        self._known = [frozenset(map(id, figure.items())) for figure in figures]
        self._lines: list[dict[int, Lines]] = [{} for _ in figures]
        self._just_grown: deque[int] = deque(maxlen=_JUST_GROWN)
        self._last: dict[int, int] = {}  # id of the last item, by place of the figure

    def note(self, lines: Lines, changed: Sequence[int]) -> None:
        """Note what a line added to the figures that it changed.

        It may also replace the last item of what grew before, which reserved its place.
        """
        for place in {*changed, *filter(self._has_new_last, self._just_grown)}:
            with suppress(RuntimeError):  # a thread changes the container meanwhile
                self._note_items(place, lines)

    def _note_items(self, place: int, lines: Lines) -> None:
        items = frozenset(map(id, self._figures[place].items()))
        if not items:  # a list is also empty while it is sorted
            return
        added = items - self._known[place]
        self._lines[place].update(dict.fromkeys(added, lines))
        self._known[place] = items
        self._last[place] = id(self._figures[place].last())
        if place not in self._just_grown:
            self._just_grown.append(place)

    def lines_by_kind(self, place: int) -> dict[str, Origin]:
        """Return the line that added most of the items that stay, by their type."""
        lines: dict[str, Counter[Lines]] = {}
        items: list[Any] = []
        with suppress(RuntimeError):
            items = self._figures[place].items()
        for item in items:
            added = self._lines[place].get(id(item))
            if added is not None:
                lines.setdefault(full_name(type(item)), Counter())[added] += 1
        found = {
            kind: origin_of(list(reversed(counted.most_common(1)[0][0])))[0]
            for kind, counted in lines.items()
        }
        return {kind: line for kind, line in found.items() if line is not None}

    def _has_new_last(self, place: int) -> bool:
        with suppress(RuntimeError):
            return id(self._figures[place].last()) != self._last[place]
        return False


def count_renewals(holder: Any, name: Hashable) -> Figure:
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

    def items() -> list[Any]:
        part = part_of(holder, name)
        return entries_of(part, _MOST_ITEMS) or [part]

    return Figure(read=read, items=items)


def _figure_of(container: Any, len_: Callable[[Any], int]) -> Figure:
    figure = Figure(
        read=partial(len_, container),
        items=partial(entries_of, container, _MOST_ITEMS),
    )
    if issubclass(type(container), (list, dict, deque)):
        return replace(figure, last=partial(_last, container))
    return figure


def _last(container: Any) -> Any:
    return next(iter(last_of(container, 1)), None)
