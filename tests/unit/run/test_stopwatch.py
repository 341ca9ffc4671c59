"""The parts of a measurement, and how long each takes."""

from __future__ import annotations

from pytest_tfleak.run.stopwatch import CONFIRMATION
from pytest_tfleak.run.stopwatch import DIAGNOSIS
from pytest_tfleak.run.stopwatch import KNOWN_GROWTH
from pytest_tfleak.run.stopwatch import Stopwatch


def test_each_part_lasts_until_the_next_begins() -> None:
    now = [10.0]
    watch = Stopwatch(lambda: now[0])
    now[0] = 11.0
    watch.start()
    for seconds, part in ((4, CONFIRMATION), (2, KNOWN_GROWTH), (1, DIAGNOSIS)):
        now[0] += seconds
        watch.enter(part)
    now[0] += 8
    assert list(watch.read().values()) == [4, 2, 1, 8]
    now[0] += 1
    watch.enter(KNOWN_GROWTH)
    now[0] += 1
    assert list(watch.read().values()) == [4, 2, 2, 9]
