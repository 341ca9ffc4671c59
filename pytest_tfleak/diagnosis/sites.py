"""Which places allocate what stays, told from many stacks of one capture.

An allocation that a later iteration frees is not among them, and what the last
iteration left, or the first one set up, is told from a leak by its iterations.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from itertools import pairwise
from statistics import median
from typing import Any

from pytest_tfleak.diagnosis.symbols import DEPTH

#: The widest gap between two iterations that leave something, as a share of all
#: iterations, by the number of those that do: every 5th of ten is told from the first
#: and the last. For others it is twice the mean.
_WIDEST = {2: 0.7, 3: 0.6}
#: A function is named rather than its caller while few of them hold most of the bytes.
_PART, _MOST_OF = 0.25, 0.75
_SMALLEST = 0.03  # of all bytes: what is worth showing

Line = tuple[str, int]  # file, line


@dataclass(slots=True)
class Pile:
    """What one stack left in each iteration."""

    counts: list[int]
    sizes: list[int]

    @classmethod
    def empty(cls, iterations: int) -> Pile:
        """Return a pile of nothing."""
        return cls([0] * iterations, [0] * iterations)

    def add(self, iteration: int, count: int, size: int) -> None:
        """Add what was left in one iteration."""
        self.counts[iteration] += count
        self.sizes[iteration] += size

    def add_all(self, other: Pile) -> None:
        """Add what another stack left."""
        for iteration, count in enumerate(other.counts):
            self.add(iteration, count, other.sizes[iteration])


@dataclass(slots=True)
class Stack:
    """One stack and its pile."""

    functions: tuple[str, ...]  # native ones, the innermost first
    lines: tuple[Line, ...]  # the user's, the innermost first
    python_memory: bool
    pile: Pile


@dataclass(slots=True)
class _Node:
    function: str
    pile: Pile
    children: dict[str, _Node] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Return the bytes that are left per iteration."""
        return per_iteration(self.pile.sizes)


def find_sites(stacks: Iterable[Stack]) -> list[dict[str, Any]]:
    """Return the places that leave something steadily, most bytes first.

    Builtins only: ``frames``, ``lines``, ``python_memory``, and ``bytes`` and
    ``allocations`` per iteration.
    """
    sites: list[dict[str, Any]] = []
    for (lines, python_memory), root in _trees(stacks).items():
        if not is_steady(root.pile.counts):
            continue
        for path in _split(root, (), 0):
            site = {
                "frames": [node.function for node in path if node.function][:DEPTH],
                "lines": [list(line) for line in lines],
                "python_memory": python_memory,
                "bytes": path[0].rate,
                "allocations": per_iteration(path[0].pile.counts),
            }
            sites.append(site)
    least = _SMALLEST * sum(site["bytes"] for site in sites)
    sites = [site for site in sites if site["bytes"] > least]
    return sorted(sites, key=lambda site: -site["bytes"])


def is_steady(counts: Sequence[int]) -> bool:
    """Say whether something is left again and again, from what each iteration left.

    A leak in every iteration, or in every 5th of ten::

        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]    [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

    Set up once; left by the last iteration; both; the last two are kept::

        [9, 0, 0, 0, 0, 0, 0, 0, 0, 0]    [0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
        [9, 0, 0, 0, 0, 0, 0, 0, 0, 3]    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    filled = [iteration for iteration, count in enumerate(counts) if count]
    if len(filled) < 2:
        return False
    around = filled[0] + len(counts) - filled[-1]
    widest = max(around, *(after - before for before, after in pairwise(filled)))
    share = _WIDEST.get(len(filled), 2 / len(filled))
    return widest <= max(1, share * len(counts))


def per_iteration(amounts: Sequence[int]) -> float:
    """Return the amount of a typical iteration; the mean where many leave nothing.

    The median is blind to what the first iteration set up beside the leak.
    """
    filled = sum(1 for amount in amounts if amount)
    if filled >= 0.8 * len(amounts):
        return float(median(amounts))
    return sum(amounts) / len(amounts)


def _trees(
    stacks: Iterable[Stack],
) -> dict[tuple[tuple[Line, ...], bool], _Node]:
    """Return a tree for each line of the user's, from its callees to ``malloc``."""
    roots: dict[tuple[tuple[Line, ...], bool], _Node] = {}
    for stack in stacks:
        iterations = len(stack.pile.counts)
        node = roots.setdefault(
            (stack.lines, stack.python_memory), _Node("", Pile.empty(iterations))
        )
        node.pile.add_all(stack.pile)
        for function in reversed(stack.functions):
            node = node.children.setdefault(
                function, _Node(function, Pile.empty(iterations))
            )
            node.pile.add_all(stack.pile)
    return roots


def _split(
    node: _Node, callers: tuple[_Node, ...], least: float
) -> list[tuple[_Node, ...]]:
    """Return the paths, innermost first, to the functions that hold most bytes."""
    path = (node, *callers)
    parts = [child for child in node.children.values() if is_steady(child.pile.counts)]
    if not node.function:  # a line of the user's: what it calls has a name at least
        return [found for child in parts for found in _split(child, (), 0)] or [path]
    rate = node.rate
    least = least or _MOST_OF * rate
    large = [child for child in parts if child.rate >= _PART * rate]
    if not large or sum(child.rate for child in large) < least:
        return [path]
    if len(large) == 1:
        return _split(large[0], path, least)
    return [found for child in large for found in _split(child, path, 0)]
