"""Python's memory of who allocates ends in time, and belongs to who switched it on."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from pytest_tfleak.diagnosis.tracing import Tracing


def test_it_is_on_inside_and_off_outside() -> None:
    with Tracing(60):
        assert tracemalloc.is_tracing()
    assert not tracemalloc.is_tracing()


@pytest.mark.timeout(60)
def test_it_ends_when_its_time_is_up() -> None:
    with Tracing(0.01):
        while tracemalloc.is_tracing():
            time.sleep(0.01)


def test_what_was_traced_stays_when_the_clock_is_stopped() -> None:
    with Tracing(0.2) as tracing:
        made = bytearray(100)
        tracing.stop_the_clock()
        time.sleep(0.3)
        assert tracemalloc.get_object_traceback(made) is not None
    assert not tracemalloc.is_tracing()


def test_that_of_somebody_else_stays_on() -> None:
    tracemalloc.start(1)
    with Tracing(0):
        time.sleep(0.01)
    assert tracemalloc.is_tracing()
    tracemalloc.stop()
