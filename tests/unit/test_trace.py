from __future__ import annotations

from array import array

import pytest

from pytest_tfleak.trace import FIRST_ROWS
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


def test_a_run_of_usual_length_has_room_for_each_row_from_the_start() -> None:
    trace = Trace([HEAP, TENSORS], warmup=3, capacity=7)
    assert len(trace.buffer) == trace.width * 10
    assert trace.buffer.typecode == "q"


def test_room_grows_with_the_rows_that_were_read_in_few_steps() -> None:
    trace = Trace([HEAP, TENSORS], warmup=3, capacity=2_000_000)
    sizes = {len(trace.buffer)}
    assert sizes == {trace.width * FIRST_ROWS}
    for reading in range(5 * FIRST_ROWS):
        row = trace.next_row()
        trace.buffer[row * trace.width] = reading
        trace.measured += 1
        sizes.add(len(trace.buffer))
    assert len(sizes) == 4  # room for 1, 2, 4 and 8 times as many
    assert max(sizes) == 8 * trace.width * FIRST_ROWS
    assert trace.series("host.heap") == list(range(5 * FIRST_ROWS))
    assert set(trace.series("tf.tensors")) == {None}
    assert trace.wider([HEAP]).series("host.heap") == trace.series("host.heap")


def test_a_trimmed_trace_has_its_readings_and_no_more_room() -> None:
    trace = Trace([HEAP, TENSORS], warmup=1, capacity=1_000)
    trace.buffer[:2] = array("q", [100, 3])
    trace.warmed_up = 1
    trace.trim()
    assert list(trace.buffer) == [100, 3]
    assert trace.series("tf.tensors") == [3]


def test_there_is_room_for_an_unplanned_row() -> None:
    trace = Trace([HEAP], warmup=0, capacity=0)
    assert trace.next_row() == 0
    trace.buffer[0] = 7
    trace.measured = 1
    assert trace.series("host.heap") == [7]


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


def test_a_wider_trace_goes_on_with_the_readings_of_a_narrow_one() -> None:
    narrow = two_signals()
    gpu = Signal(name="gpu", unit="B")
    wide = narrow.wider([TENSORS, gpu])
    assert wide.series("tf.tensors") == narrow.series("tf.tensors")
    assert wide.series("gpu") == [None] * 4
    assert (wide.warmed_up, wide.measured, wide.confirmed) == (1, 2, 1)
    assert len(wide.buffer) == wide.width * 5


def test_a_restarted_trace_has_room_for_its_rows_and_grows_no_further() -> None:
    first = two_signals()
    trace = first.restarted(room=7)
    assert (trace.warmed_up, trace.judged) == (4, 0)
    assert trace.series("host.heap") == first.series("host.heap")
    trace.warmed_up += 7
    trace.measured = 4
    wide = trace.wider([HEAP, TENSORS, Signal(name="gpu", unit="B")])
    assert len(wide.buffer) == wide.width * wide.rows


def test_a_confirmation_counted_as_measured_loses_the_steps_of_its_pauses() -> None:
    trace = two_signals()
    trace.collected = {1: {"host.heap": -2}, 2: {"host.heap": -2}}
    trace.count_confirmation_as_measured()
    assert (trace.measured, trace.confirmed, trace.rows) == (3, 0, 4)
    assert trace.series("host.heap") == [100, 110, 118, 126]
    assert trace.series("tf.tensors") == [0, 1, None, 3]
