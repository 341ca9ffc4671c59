"""The body of ``sensitivity.py``: a real ``model.fit``, and leaks planted beside it."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from statistics import fmean
from statistics import median
from typing import Any

import psutil

from benchmarks.record import ROOT
from benchmarks.record import Recording
from benchmarks.record import Series
from benchmarks.record import record
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.trace import Signal

WARMUP = 5
#: What is read: the four signals, and what planting a leak moved two of them by.
READ = ("host.heap", "host.allocator", "host.rss", "python.blocks")
MOVED = ("planted.heap", "planted.blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """What one iteration leaks; nothing by default."""

    malloc: int = 0  # bytes, in one piece, written to and not freed
    blocks: int = 0  # Python objects of one block each
    tensor: int = 0  # bytes of a tensor
    every: int = 1  # iterations in which one tensor is leaked

    @property
    def name(self) -> str:
        """Return a name that tells the leak: ``blocks=32 tensor=262144 every=5``."""
        told = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return " ".join(f"{name}={value}" for name, value in told.items())

    @classmethod
    def named(cls, name: str) -> Leak:
        """Return the leak of a name."""
        fields = (field.split("=") for field in name.split())
        return cls(**{field: int(value) for field, value in fields})


CLEAN = Leak()


class Planter(Probe):
    """Leaks, and reads how far the heap and the blocks moved while it did."""

    name = "planter"

    def __init__(self, leak: Leak, rows: int) -> None:
        tf: Any = import_module("tensorflow")
        self._leak = leak
        self._calls = 0
        # all places at once: a list that grows is a leak of its own
        self._kept: list[object] = [None] * (rows * leak.blocks)
        self._queue = tf.queue.FIFOQueue(rows, [tf.uint8])
        self._fill: Callable[..., Any] = tf.zeros
        self._uint8 = tf.uint8
        self._libc = ctypes.CDLL(None)
        self._libc.malloc.restype = ctypes.c_void_p
        self._libc.malloc.argtypes = [ctypes.c_size_t]
        self._libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        self._before = array("q", [0, 0])
        self._moved = array("q", [0, 0])

    def signals(self) -> Sequence[Signal]:
        """Return what planting moved, summed up."""
        return tuple(Signal(name=name, unit="B") for name in MOVED)

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the sums."""
        buffer[start], buffer[start + 1] = self._moved

    def __call__(self) -> None:
        """Leak what one iteration leaks."""
        leak = self._leak
        # readings go where they are no Python objects: those would be blocks
        self._before[0] = _heap()
        if leak.malloc:
            self._libc.memset(self._libc.malloc(leak.malloc), 1, leak.malloc)
        self._moved[0] += _heap() - self._before[0]
        self._before[1] = sys.getallocatedblocks()
        self._keep_objects()
        self._before[1] = sys.getallocatedblocks() - self._before[1]
        self._moved[1] += self._before[1]
        if leak.tensor and self._calls % leak.every == 0:
            self._queue.enqueue(self._fill([leak.tensor], self._uint8))
        self._calls += 1

    def _keep_objects(self) -> None:
        first = self._calls * self._leak.blocks
        for place in range(first, first + self._leak.blocks):
            self._kept[place] = object()


def _heap() -> int:
    figures = psutil.heap_info()
    return int(figures.heap_used + figures.mmap_used)


def record_fit(leak: Leak, rows: int) -> Recording:
    """Record ``model.fit`` on one small model, with a leak beside it."""
    fit = _make_fit()
    planter = Planter(leak, rows + WARMUP)

    def body() -> None:
        fit()
        planter()

    plan = Plan(iterations=rows, warmup=WARMUP, max_time=None)
    truth = "clean" if leak == CLEAN else "leak"
    # no confirmation: the collection before it moves RSS by megabytes for some rows,
    # and windows are cut anywhere
    return record(leak.name, truth, body, plan, [planter], confirm=False)


def record_alone(leak: Leak, rows: int) -> Recording:
    """Record in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.sensitivity_bodies"]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ
    asked = json.dumps([dataclasses.asdict(leak), rows])
    run = subprocess.run(
        [*command, asked],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    return Recording.from_line(run.stdout.splitlines()[-1])


def _make_fit() -> Callable[[], object]:
    keras: Any = import_module("keras")
    numpy: Any = import_module("numpy")
    keras.utils.set_random_seed(1)
    dense: Any = keras.layers.Dense
    model = keras.Sequential([keras.Input((1024,)), dense(16, "relu"), dense(1)])
    model.compile("adam", "mse")
    # a batch of 256 KiB, so that the fit takes its memory from the pool
    x, y = numpy.ones((64, 1024), "float32"), numpy.ones((64, 1), "float32")
    return lambda: model.fit(x, y, batch_size=64, verbose=0)


def additivity(recordings: Sequence[Recording]) -> list[dict[str, Any]]:
    """Show what is left of each planted trace once the planted growth is taken off.

    Growth per iteration over the second half of the rows, which has no warm-up; for the
    traces without a leak, the least and the greatest.
    """
    clean = [recording for recording in recordings if recording.name == CLEAN.name]
    rows = []
    for signal, moved in zip(("host.heap", "python.blocks"), MOVED, strict=True):
        alone = [_late_growth(r.series[signal], 400) for r in clean]
        for recording in recordings:
            steps = {b - a for a, b in pairwise(map(_int, recording.series[moved]))}
            leak = Leak.named(recording.name)
            if not (leak.malloc if signal == "host.heap" else leak.blocks):
                continue
            growth = _late_growth(recording.series[signal], 400)
            rows.append(
                {
                    "signal": signal,
                    "planted": recording.name,
                    "moved": sorted(steps),
                    "growth": round(growth, 1),
                    "rest": round(growth - fmean(steps), 1),
                    "without": [round(min(alone), 1), round(max(alone), 1)],
                }
            )
    return rows


def _int(value: int | None) -> int:
    return value or 0


def _late_growth(series: Series, rows: int) -> float:
    """Return the median growth per iteration, over a tenth of the rows at a time."""
    late = [_int(value) for value in series[WARMUP : WARMUP + rows]]
    late = late[len(late) // 2 :]
    span = len(late) // 10
    return median((late[at + span] - late[at]) / span for at in range(len(late) - span))


if __name__ == "__main__":
    asked_leak, asked_rows = json.loads(sys.argv[1])
    recorded = record_fit(Leak(**asked_leak), asked_rows)
    series = {name: recorded.series[name] for name in (*READ, *MOVED)}
    print("\n" + dataclasses.replace(recorded, series=series).to_line())
