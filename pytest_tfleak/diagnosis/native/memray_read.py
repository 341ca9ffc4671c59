"""Read a memray capture, in a process of its own that can be killed when time is up.

Print two lines of JSON, each a list of sites: first without the names of native
functions, then with them. In a library of TensorFlow's size, looking up these names
takes seconds.
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

from pytest_tfleak.diagnosis.native.stacks import Line
from pytest_tfleak.diagnosis.native.stacks import Pile
from pytest_tfleak.diagnosis.native.stacks import Stack
from pytest_tfleak.diagnosis.native.stacks import find_sites
from pytest_tfleak.diagnosis.native.stacks import functions_of
from pytest_tfleak.diagnosis.native.stacks import is_python_memory
from pytest_tfleak.user_code import is_users

_MOST_STACKS = 400  # the remaining stacks of a capture hold hardly any memory
_MOST_SITES = 8
_HEADS = (0, 32)  # bytes before an object: normally, and with PYTHONMALLOC=debug
_PACKAGE = Path(__file__).parents[2]

Key = tuple[int, int]  # memray's ids of a Python and a native stack


def main(arguments: Sequence[str]) -> None:
    """Print the sites in a capture."""
    file, marks, iterations, seconds = arguments
    until = perf_counter() + float(seconds)
    for sites in read(file, json.loads(marks), int(iterations), until):
        sys.stdout.write(json.dumps(sites[:_MOST_SITES]) + "\n")
        sys.stdout.flush()


def read(
    file: str, marks: Sequence[int], iterations: int, until: float
) -> Iterator[list[dict[str, Any]]]:
    """Yield the sites without native functions, and again with them.

    ``marks`` are the addresses of blocks, one allocated after each iteration.
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
            Stack(functions=(), lines=lines[key], python_memory=False, pile=pile)
            for key, (_, pile) in piles.items()
        )
        stacks = []
        for key, (record, pile) in piles.items():
            if perf_counter() > until:
                break
            symbols = [frame[0] for frame in record.native_stack_trace()]
            stack = Stack(
                functions=functions_of(symbols),
                lines=lines[key],
                python_memory=is_python_memory(symbols),
                pile=pile,
            )
            stacks.append(stack)
        yield find_sites(stacks)


def find_alive(records: Iterable[Any], frees: set[int]) -> dict[int, tuple[int, Any]]:
    """Return all blocks never freed, by address: when allocated, and the record.

    memray's own list of leaks is not in order of time, which is needed to tell a leak
    from what the last iteration left.
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
    """Return the moments at which the iterations ended, and remove the marks."""
    starts = [mark - head for mark in marks for head in _HEADS]
    ends = sorted(alive.pop(start)[0] for start in starts if start in alive)
    if len(ends) == iterations:
        return ends
    last = 1 + max((moment for moment, _ in alive.values()), default=0)
    return [last * (k + 1) // iterations for k in range(iterations)]


def pile_up(
    alive: dict[int, tuple[int, Any]], ends: Sequence[int]
) -> dict[Key, tuple[Any, Pile]]:
    """Return what each stack left in each iteration, largest first."""
    piles: dict[Key, tuple[Any, Pile]] = {}
    for moment, record in alive.values():
        if moment > ends[-1]:
            continue  # after the last iteration, only this package allocates
        key = (record.stack_id, record.native_stack_id)
        if key not in piles:
            piles[key] = (record, Pile.empty(len(ends)))
        piles[key][1].add(bisect_right(ends, moment), 1, record.size)
    several = [item for item in piles.items() if _is_several(item[1][1])]
    several.sort(key=lambda item: -sum(item[1][1].sizes))
    return dict(several[:_MOST_STACKS])


def _is_several(pile: Pile) -> bool:
    return sum(1 for count in pile.counts if count) > 1


def _lines(record: Any) -> tuple[Line, ...]:
    """Return the lines of user code in a stack, up to where the body was called."""
    lines = []
    for _, file, line in record.stack_trace():
        if _PACKAGE in Path(file).parents:
            break
        if is_users(file):
            lines.append((file, line))
    return tuple(lines)
