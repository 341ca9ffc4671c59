"""Read a capture of memray's in a process of its own, which can be stopped in time.

Prints lines of JSON, each a list of sites: first without the names of native functions,
which take seconds to look up in a library of TensorFlow's size, then with them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_right
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from pytest_tfleak.diagnosis.origins import is_users
from pytest_tfleak.diagnosis.sites import Line
from pytest_tfleak.diagnosis.sites import Pile
from pytest_tfleak.diagnosis.sites import Stack
from pytest_tfleak.diagnosis.sites import find_sites
from pytest_tfleak.diagnosis.symbols import is_python_memory
from pytest_tfleak.diagnosis.symbols import readable

#: Stacks beyond these hold next to nothing, and sites beyond these are not read.
MOST_STACKS, MOST_SITES = 400, 8
_HEADS = (0, 32)  # bytes before an object: none, or those of PYTHONMALLOC=debug
_PACKAGE = Path(__file__).parents[1]

Key = tuple[int, int]  # memray's numbers for a Python and a native stack


def main(arguments: Sequence[str]) -> None:
    """Print the sites of the capture that the arguments name."""
    file, marks, iterations, seconds = arguments
    until = perf_counter() + float(seconds)
    for sites in read(file, json.loads(marks), int(iterations), until):
        sys.stdout.write(json.dumps(sites[:MOST_SITES]) + "\n")
        sys.stdout.flush()


def read(
    file: str, marks: Sequence[int], iterations: int, until: float
) -> Iterator[list[dict[str, Any]]]:
    """Yield the sites without native functions, and again with them.

    ``marks`` are the addresses of blocks, one taken after each iteration.
    """
    import memray

    with memray.FileReader(file) as reader:
        frees = {int(memray.AllocatorType.FREE), int(memray.AllocatorType.MUNMAP)}
        alive = find_alive(reader.get_allocation_records(), frees)
        ends = find_ends(alive, marks, iterations)
        piles = pile_up(alive, ends)
        del alive
        lines = {key: _lines(record) for key, (record, _) in piles.items()}
        yield find_sites(
            Stack((), lines[key], False, pile) for key, (_, pile) in piles.items()
        )
        stacks = []
        for key, (record, pile) in piles.items():
            if perf_counter() > until:
                break
            symbols = [frame[0] for frame in record.native_stack_trace()]
            stacks.append(
                Stack(readable(symbols), lines[key], is_python_memory(symbols), pile)
            )
        yield find_sites(stacks)


def find_alive(records: Iterable[Any], frees: set[int]) -> dict[int, tuple[int, Any]]:
    """Return what was never freed, by address: when it was allocated, and the record.

    memray's own list of leaks has no order, and it takes order to tell a leak from
    what the last iteration left.
    """
    alive: dict[int, tuple[int, Any]] = {}
    for moment, record in enumerate(records):
        if record.allocator in frees:
            alive.pop(record.address, None)
        else:
            alive[record.address] = (moment, record)
    return alive


def find_ends(
    alive: dict[int, tuple[int, Any]], marks: Sequence[int], iterations: int
) -> list[int]:
    """Return the moments at which the iterations ended, and forget the marks."""
    starts = [mark - head for mark in marks for head in _HEADS]
    ends = sorted(alive.pop(start)[0] for start in starts if start in alive)
    if len(ends) == iterations:
        return ends
    last = 1 + max((moment for moment, _ in alive.values()), default=0)
    return [last * (k + 1) // iterations for k in range(iterations)]


def pile_up(
    alive: dict[int, tuple[int, Any]], ends: Sequence[int]
) -> dict[Key, tuple[Any, Pile]]:
    """Return what each stack left in each iteration, most bytes first."""
    piles: dict[Key, tuple[Any, Pile]] = {}
    for moment, record in alive.values():
        if moment > ends[-1]:
            continue  # the end of the tracking is ours
        key = (record.stack_id, record.native_stack_id)
        if key not in piles:
            piles[key] = (record, Pile.empty(len(ends)))
        piles[key][1].add(bisect_right(ends, moment), 1, record.size)
    several = [item for item in piles.items() if _is_several(item[1][1])]
    several.sort(key=lambda item: -sum(item[1][1].sizes))
    return dict(several[:MOST_STACKS])


def _is_several(pile: Pile) -> bool:
    return sum(1 for count in pile.counts if count) > 1


def _lines(record: Any) -> tuple[Line, ...]:
    """Return the user's lines in a stack, down to the one that called us."""
    lines = []
    for _, file, line in record.stack_trace():
        if _PACKAGE in Path(file).parents:
            break
        if is_users(file):
            lines.append((file, line))
    return tuple(lines)
