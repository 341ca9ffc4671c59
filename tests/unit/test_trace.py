from __future__ import annotations

import pytest

from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace

HEAP = Signal(name="host.heap", unit="B")
TENSORS = Signal(name="tf.tensors", unit="tensors")


def two_signals() -> Trace:
    """One warm-up row, two measured ones, one of confirmation, room for one more."""
    trace = Trace([HEAP, TENSORS], warmup=1, capacity=4)
    for position, reading in enumerate([100, 0, 110, 1, 120, MISSING, 130, 3]):
        trace.buffer[position] = reading
    trace.warmed_up, trace.measured, trace.confirmed = 1, 2, 1
    return trace


def test_a_series_is_the_column_of_a_signal() -> None:
    trace = two_signals()
    assert trace.series("host.heap") == [100, 110, 120, 130]
    assert trace.series("tf.tensors") == [0, 1, None, 3]


def test_the_warm_up_is_not_judged() -> None:
    trace = two_signals()
    assert trace.judged_series("host.heap") == [110, 120, 130]
    assert (trace.rows, trace.judged) == (4, 3)


def test_a_warm_up_that_was_cut_short_takes_its_own_rows_only() -> None:
    trace = Trace([HEAP], warmup=5, capacity=10)
    trace.buffer[0], trace.buffer[1] = 7, 8
    trace.warmed_up, trace.measured = 1, 1
    assert trace.judged_series("host.heap") == [8]


def test_nothing_is_read_before_the_first_iteration() -> None:
    trace = Trace([HEAP], warmup=1, capacity=2)
    assert trace.series("host.heap") == []
    assert list(trace.buffer) == [MISSING] * 3


def test_the_buffer_has_room_for_each_row_from_the_start() -> None:
    trace = Trace([HEAP, TENSORS], warmup=3, capacity=7)
    assert len(trace.buffer) == trace.width * 10
    assert trace.buffer.typecode == "q"


def test_a_trace_is_its_signals_in_order() -> None:
    assert list(two_signals()) == [HEAP, TENSORS]


def test_a_signal_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="gpu"):
        two_signals().series("gpu")


def test_traces_share_nothing() -> None:
    first, second = two_signals(), two_signals()
    first.reasons["host.heap"] = "no glibc"
    first.left["tf.sessions"] = 1
    first.untrusted.add("host.heap")
    assert not second.reasons and not second.left and not second.untrusted
