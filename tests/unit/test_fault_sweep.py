"""Which calls fail, and which of them leave something."""

from __future__ import annotations

import pytest

from pytest_tfleak.fault_sweep import find_suspects
from pytest_tfleak.fault_sweep import spread
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace


@pytest.mark.parametrize(
    ("calls", "most", "failing"),
    [
        (3, 50, [1, 2, 3]),
        (3, 3, [1, 2, 3]),
        (9, 3, [1, 5, 9]),
        (100, 1, [1]),
    ],
)
def test_the_calls_are_spread_evenly(calls: int, most: int, failing: list[int]) -> None:
    assert spread(calls, most) == failing


def test_each_call_is_tried_only_once_where_there_are_too_many() -> None:
    numbers = spread(173, 50)
    assert len(set(numbers)) == 50
    assert numbers[0] == 1
    assert numbers[-1] == 173


def trace_of_counts(name: str, counts: list[int]) -> Trace:
    """Return a trace whose first reading is that of a warm-up."""
    trace = Trace([Signal(name=name, unit="x", allowance=0)], warmup=1, capacity=50)
    for row, count in enumerate(counts):
        trace.buffer[row] = count
    trace.warmed_up, trace.measured = 1, len(counts) - 1
    return trace


def test_a_call_after_which_a_count_is_higher_is_a_suspect() -> None:
    trace = trace_of_counts("tf.sessions", [0, 0, 1, 1, 1, 2, 2])
    assert find_suspects(trace, [1, 2, 3, 1, 2, 3]) == {2: frozenset({"tf.sessions"})}


def test_a_count_that_rose_once_of_three_times_is_no_suspect() -> None:
    trace = trace_of_counts("tf.tensors", [0, 1, 1, 1])
    assert find_suspects(trace, [1, 1, 1]) == {}


def test_memory_is_no_suspect() -> None:
    trace = trace_of_counts("host.heap", [0, 1, 2, 3])
    assert find_suspects(trace, [1, 2, 3]) == {}
