"""The live line: its text, when it is written, and that it is erased."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading

import pytest

from pytest_tfleak.plan import Plan
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.progress import DELAY
from pytest_tfleak.run.progress import INTERVAL
from pytest_tfleak.run.progress import Progress
from pytest_tfleak.run.progress import spot_after
from pytest_tfleak.run.progress import spot_below
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace

HEAP = Signal(name="host.heap", unit="B")
OTHER = Signal(name="tf.tensors", unit="tensors")


class Line:
    """A line whose clock advances one second per iteration."""

    def __init__(
        self,
        plan: Plan,
        name: str = "test_train",
        room: int = 79,
        deadline: Deadline = NO_DEADLINE,
    ) -> None:
        self.now = 0.0
        self.written: list[str] = []
        self.progress = Progress(
            name,
            plan,
            write=lambda data: self.written.append(data.decode("ascii")),
            spot=spot_after(room),
            deadline=deadline,
            clock=lambda: self.now,
        )

    def step(self, trace: Trace, reading: int | None, part: str, dt: float = 1) -> str:
        """Read one iteration as the loop does, and return what the line then shows."""
        self.now += dt
        trace.buffer[trace.rows * trace.width] = MISSING if reading is None else reading
        self.progress(trace)
        setattr(trace, part, getattr(trace, part) + 1)
        return self.shown

    @property
    def shown(self) -> str:
        """Return the last line that was written, without control sequences."""
        if not self.written:
            return ""
        return self.written[-1].replace("\x1b7", "").partition("\x1b[K")[0]


def trace_for(plan: Plan, *signals: Signal) -> Trace:
    return Trace(signals or (HEAP,), plan.warmup, 2 * plan.iterations)


def test_says_how_far_the_test_is_how_fast_it_grows_and_how_long_it_takes() -> None:
    plan = Plan(iterations=50, warmup=2)
    line, trace = Line(plan), trace_for(plan)
    assert line.step(trace, 0, "warmed_up") == "test_train warm-up 1/2  eta 51 s"
    assert line.step(trace, 9, "warmed_up") == "test_train warm-up 2/2  eta 50 s"
    assert line.step(trace, 1000, "measured") == "test_train 1/50  eta 49 s"
    for k in range(1, 9):
        line.step(trace, 1000 + k * 12 * 1024, "measured")
    shown = line.step(trace, 1000 + 9 * 12 * 1024, "measured")
    assert shown == "test_train 10/50  host +12 KiB/iter  eta 40 s"


def test_names_the_part_that_runs() -> None:
    plan = Plan(iterations=2, warmup=1)
    line, trace = Line(plan), trace_for(plan)
    line.step(trace, 0, "warmed_up")
    line.step(trace, 0, "measured")
    assert "test_train 2/2  host 0 B/iter" in line.step(trace, 0, "measured")
    assert "test_train confirming 1/2  host" in line.step(trace, 0, "confirmed")
    line.now += 1
    line.progress.enter("known_growth", Deadline(line.now + 40))
    assert line.shown == "test_train looking for known growth  eta < 40 s"
    experiment = trace_for(plan)
    for left, part in ((39, "warmed_up"), (38, "measured"), (37, "confirmed")):
        shown = line.step(experiment, 0, part)
        assert shown == f"test_train looking for known growth  eta < {left} s"
    line.progress.enter("loop", NO_DEADLINE)  # the body is judged without its causes
    without = trace_for(plan)
    assert "test_train warm-up 1/1" in line.step(without, 0, "warmed_up")
    assert "test_train 1/2" in line.step(without, 0, "measured")
    line.progress.enter("diagnosis", Deadline(line.now + 5))
    words = "test_train looking for holders and lines"
    assert line.step(experiment, 0, "measured") == f"{words}  eta < 4 s"
    assert line.step(experiment, 0, "measured", dt=90) == f"{words}  eta < 1 s"


def test_the_rate_survives_a_wider_trace() -> None:
    plan = Plan(iterations=50, warmup=1)
    line, narrow = Line(plan), trace_for(plan)
    line.step(narrow, 5, "warmed_up")
    wide = narrow.wider([HEAP, OTHER])
    line.step(wide, 1024, "measured")
    assert "test_train 2/50  host +1 KiB/iter" in line.step(wide, 2048, "measured")


@pytest.mark.parametrize("signals", [(), (OTHER,)])
def test_a_run_without_a_heap_signal_shows_no_rate(signals: tuple[Signal, ...]) -> None:
    plan = Plan(iterations=10, warmup=0)
    line = Line(plan)
    trace = Trace(signals, 0, 20)
    for part in ("measured", "measured", "confirmed"):
        line.now += 1
        line.progress(trace)
        setattr(trace, part, getattr(trace, part) + 1)
        assert "host" not in line.shown
        assert "eta" in line.shown


def test_a_reading_that_is_missing_shows_no_rate() -> None:
    plan = Plan(iterations=10, warmup=0)
    line, trace = Line(plan), trace_for(plan)
    line.step(trace, 0, "measured")
    assert "host" not in line.step(trace, None, "measured")
    assert "host +5 B" in line.step(trace, 10, "measured")


def test_a_fast_test_shows_no_line() -> None:
    plan = Plan(iterations=9, warmup=0)
    line, trace = Line(plan), trace_for(plan)
    for _ in range(9):
        line.step(trace, 0, "measured", dt=DELAY / 10)
    line.progress.clear()
    assert line.written == []


def test_writes_no_oftener_than_a_reader_can_follow() -> None:
    plan = Plan(iterations=1000, warmup=0)
    line, trace = Line(plan), trace_for(plan)
    line.now = DELAY
    for _ in range(1000):
        line.step(trace, 0, "measured", dt=INTERVAL / 100)
    assert 9 <= len(line.written) <= 11


def test_is_erased_once_and_leaves_the_cursor_where_it_was() -> None:
    plan = Plan(iterations=5, warmup=0)
    line, trace = Line(plan), trace_for(plan)
    line.step(trace, 0, "measured", dt=2)
    assert line.written[0].startswith("\x1b7")
    assert line.written[0].endswith("\x1b[K\x1b8")
    line.progress.clear()
    line.progress.clear()
    assert line.written[1:] == ["\x1b[K"]


def test_the_deadline_bounds_the_time_that_is_left() -> None:
    plan = Plan(iterations=500, warmup=0)
    line, trace = Line(plan, deadline=Deadline(30.0)), trace_for(plan)
    assert line.step(trace, 0, "measured", dt=10) == "test_train 1/500  eta 20 s"


@pytest.mark.parametrize("room", range(1, 60))
def test_is_never_wider_than_the_room_there_is(room: int) -> None:
    plan = Plan(iterations=50, warmup=0)
    line, trace = Line(plan, room=room), trace_for(plan)
    for _ in range(10):
        line.step(trace, 0, "measured")
    assert len(line.shown) <= room
    assert line.shown or room < len("test_...n 10/50")


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (80, "test_training_with_a_long_name 10/50  host +12 KiB/iter  eta 40 s"),
        (60, "test_training_with_a_long_name 10/50  host +12 KiB/iter"),
        (50, "test_training_with_a_long_name 10/50"),
        (35, "test_training...h_a_long_name 10/50"),
        (36, "test_training_with_a_long_name 10/50"),
        (24, "test_tra...ng_name 10/50"),
        (14, "tes...me 10/50"),
    ],
)
def test_keeps_the_name_and_leaves_out_the_rest(room: int, expected: str) -> None:
    plan = Plan(iterations=50, warmup=0)
    line = Line(plan, name="test_training_with_a_long_name", room=room)
    trace = trace_for(plan)
    for k in range(10):
        line.step(trace, k * 12 * 1024, "measured")
    assert line.shown == expected


def test_below_pytests_text_goes_back_to_its_end() -> None:
    spot = spot_below(80, 47)
    assert spot.room == 79
    assert spot.start == "\r\n"
    assert spot.end == "\x1b[K\r\x1b[A\x1b[47C"
    assert spot.erase == spot.start + spot.end
    assert spot_below(80, 0).end == "\x1b[K\r\x1b[A"  # "0C" would move by one


def test_a_hostile_name_is_shown_harmlessly() -> None:
    plan = Plan(iterations=50, warmup=0)
    line = Line(plan, name="test_x[\x1b[2J\r\n\udc80é" + "a" * 100_000 + "]")
    shown = line.step(trace_for(plan), 0, "measured")
    assert shown.isprintable() and shown.isascii() and len(shown) < 80


NEEDLE = """
import os, sys
from array import array
from pytest_tfleak.probes.census import Census
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.run.progress import Progress
from pytest_tfleak.run.progress import spot_after

terminal = int(sys.argv[1])
ticks = array("d", [0.0])

def clock():
    ticks[0] += 0.04  # lines begin in the measured part
    return ticks[0]

def write(data):
    os.write(terminal, data)

plan = Plan(iterations=30, warmup=20)
progress = Progress("test_nothing", plan, write=write, spot=spot_after(80), clock=clock)
census = Census(plan.ignore)
loop = Loop(lambda: None, plan, make_probes(census), census, progress)
with loop:
    loop.warm_up()
    loop.measure()
progress.clear()
for signal in loop.trace:
    series = loop.trace.judged_series(signal.name)[1:]  # the freeze frees a block
    known = [reading for reading in series if reading is not None]
    # The system moves pages in and out as it likes. Sometimes one block is gone from
    # the first line on, for an unknown reason: that is no memory that the line takes.
    steps = range(-1, 1) if signal.name == "python.blocks" else range(1)
    moves = signal.name in ("host.rss", "host.uss")
    if known and not moves and any(r - known[0] not in steps for r in known):
        print(signal.name, series)
"""


@pytest.mark.layout
@pytest.mark.usefixtures("untraced")
def test_a_body_without_effect_reads_zero_while_the_line_is_drawn() -> None:
    ours, theirs = pty.openpty()
    drawn = bytearray()
    reader = threading.Thread(target=read_all, args=(ours, drawn))
    reader.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", NEEDLE, str(theirs)],
            pass_fds=[theirs],
            capture_output=True,
            check=False,
            text=True,
        )
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    assert done.stderr == ""
    assert b"test_nothing 30/30  host 0 B/iter" in drawn
    assert done.stdout == ""


def read_all(descriptor: int, into: bytearray) -> None:
    """Read what is written to a terminal until all processes have closed it."""
    while True:
        try:
            into += os.read(descriptor, 4096)
        except OSError:
            return
