"""The rules of other tools, each as a function of one signal's judged readings.

Only the rules are theirs, not how they read, trim and collect. Sources: CPython's
``test/libregrtest/refleak.py``, TensorFlow's ``python_memory_checker.py``, psleak's
``_check_mem``, PyTorch's ``CudaMemoryLeakCheck``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from itertools import pairwise

Rule = Callable[[Sequence[int], float, str], bool]


def refleak(readings: Sequence[int], allowance: float, unit: str) -> bool:
    """Find a leak if every iteration grows by 1 or more."""
    changes = [b - a for a, b in pairwise(readings)]
    return bool(changes) and all(change >= 1 for change in changes)


def memory_checker(readings: Sequence[int], allowance: float, unit: str) -> bool:
    """Find a leak if every iteration grows, except at most one."""
    changes = [b - a for a, b in pairwise(readings)]
    grown = sum(change > 0 for change in changes)
    return len(changes) > 1 and grown >= len(changes) - 1


def psleak(readings: Sequence[int], allowance: float, unit: str) -> bool:
    """Find a leak unless a run keeps nothing, or growth per call fades twice in a row.

    Each of four runs is 1.5 times as long as the previous one. The average fades if it
    is 16 bytes or less per call, or 0.8 or less of the previous average.
    """
    noise = 16 if unit == "B" else 0
    times, at, average, faded = max(1.0, (len(readings) - 1) / 8.125), 0.0, 0.0, 0
    for _ in range(4):
        start, at = round(at), at + times
        end = min(round(at), len(readings) - 1)
        if end <= start:
            break
        growth = readings[end] - readings[start]
        if growth <= 0:
            return False
        before, average = average, growth / (end - start)
        faded = faded + 1 if average <= max(noise, 0.8 * before) else 0
        if faded == 2:
            return False
        times *= 1.5
    return True


def before_and_after(readings: Sequence[int], allowance: float, unit: str) -> bool:
    """Find a leak if more is in use after one iteration than before it."""
    return len(readings) > 1 and readings[1] > readings[0]


def last_minus_first(readings: Sequence[int], allowance: float, unit: str) -> bool:
    """Find a leak if the mean growth exceeds the allowance."""
    steps = len(readings) - 1
    return steps > 0 and (readings[-1] - readings[0]) / steps > allowance


RIVALS: dict[str, Rule] = {
    "refleak: every change >= 1": refleak,
    "TensorFlow MemoryChecker: all but one": memory_checker,
    "psleak: average per call fades": psleak,
    "PyTorch CUDA check: before and after": before_and_after,
    "last minus first, over the allowance": last_minus_first,
}
