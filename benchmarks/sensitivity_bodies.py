"""The body of ``sensitivity.py``: a real ``model.fit`` with planted leaks."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Callable
from collections.abc import Iterator
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
from benchmarks.record import record
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.trace import Signal

WARMUP = 5
#: The signals that are read, and by how much planting a leak moved two of them.
READ = ("host.heap", "host.allocator", "host.rss", "python.blocks")
MOVED = ("planted.heap", "planted.blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """What one iteration leaks; nothing by default."""

    malloc: int = 0  # bytes in one piece, written to and not freed
    blocks: int = 0  # Python objects of one block each
    tensor: int = 0  # bytes of a tensor
    every: int = 1  # one tensor is leaked in this many iterations

    @property
    def name(self) -> str:
        """Return a name for the leak: ``blocks=32 tensor=262144 every=5``."""
        told = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return " ".join(f"{name}={value}" for name, value in told.items())

    @classmethod
    def named(cls, name: str) -> Leak:
        """Return the leak with this name."""
        fields = (field.split("=") for field in name.split())
        return cls(**{field: int(value) for field, value in fields})


CLEAN = Leak()


def leak_in(run: Recording) -> Leak:
    """Return the leak that was planted in a run."""
    return Leak.named(run.name.partition(";")[0])


def is_first(run: Recording) -> bool:
    """Return whether a run was the first of its process."""
    return run.name.endswith("; run 1")


class Planter(Probe):
    """Leaks memory, and reads how much heap and blocks changed by that."""

    name = "planter"

    def __init__(self, leak: Leak, rows: int) -> None:
        tf: Any = import_module("tensorflow")
        self._leak = leak
        self._calls = 0
        # allocated in advance, since a list that grows would be a leak itself
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
        """Return the signals for the sums of what planting changed."""
        return tuple(Signal(name=name, unit="B") for name in MOVED)

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the sums."""
        buffer[start], buffer[start + 1] = self._moved

    def __call__(self) -> None:
        """Leak what one iteration leaks."""
        leak = self._leak
        # into an array, since Python objects for the readings would take blocks
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


def record_fits(leak: Leak, runs: Sequence[int]) -> Iterator[Recording]:
    """Record ``model.fit`` of a small model with a leak.

    The runs follow each other like tests in a file; ``runs`` are their iterations.
    """
    fit = _make_fit()
    planter = Planter(leak, sum(WARMUP + 2 * iterations for iterations in runs))

    def body() -> None:
        fit()
        planter()

    truth = "clean" if leak == CLEAN else "leak"
    for number, iterations in enumerate(runs, 1):
        plan = Plan(iterations=iterations, warmup=WARMUP, max_time=None)
        name = f"{leak.name}; run {number}"
        recording = record(name, truth, body, plan, [planter])
        series = {name: recording.series[name] for name in (*READ, *MOVED)}
        yield dataclasses.replace(recording, series=series)


def record_alone(leak: Leak, runs: Sequence[int]) -> list[Recording]:
    """Record runs in a new process."""
    command = [sys.executable, "-m", "benchmarks.sensitivity_bodies"]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ
    asked = json.dumps([dataclasses.asdict(leak), list(runs)])
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
    lines = run.stdout.splitlines()
    return [Recording.from_line(line) for line in lines if line.startswith("{")]


def _make_fit() -> Callable[[], object]:
    keras: Any = import_module("keras")
    numpy: Any = import_module("numpy")
    keras.utils.set_random_seed(1)
    dense: Any = keras.layers.Dense
    model = keras.Sequential([keras.Input((1024,)), dense(16, "relu"), dense(1)])
    model.compile("adam", "mse")
    # a batch of 256 KiB, so that fit() takes its memory from the pool
    x, y = numpy.ones((64, 1024), "float32"), numpy.ones((64, 1), "float32")
    return lambda: model.fit(x, y, batch_size=64, verbose=0)


def additivity(recordings: Sequence[Recording]) -> list[dict[str, Any]]:
    """Return the growth of planted traces after subtracting the planted growth.

    It is per iteration, in the confirmations of the longest runs; for traces without a
    leak, minimum and maximum.
    """
    longest = max(recording.iterations for recording in recordings)
    recordings = [r for r in recordings if r.iterations == longest]
    clean = [run for run in recordings if leak_in(run) == CLEAN]
    rows = []
    for signal, moved in zip(("host.heap", "python.blocks"), MOVED, strict=True):
        alone = [_late_growth(r, signal) for r in clean]
        for recording in recordings:
            steps = {b - a for a, b in pairwise(map(_int, recording.series[moved]))}
            leak = leak_in(recording)
            if not (leak.malloc if signal == "host.heap" else leak.blocks):
                continue
            growth = _late_growth(recording, signal)
            rows.append(
                {
                    "signal": signal,
                    "planted": leak.name,
                    "moved": sorted(steps),
                    "growth": round(growth, 1),
                    "rest": round(growth - fmean(steps), 1),
                    "without": [round(min(alone), 1), round(max(alone), 1)],
                }
            )
    return rows


def _int(value: int | None) -> int:
    return value or 0


def _late_growth(recording: Recording, signal: str) -> float:
    """Return the median growth per iteration, over a tenth of the rows at a time."""
    late = [_int(v) for v in recording.series[signal][-recording.iterations :]]
    span = len(late) // 10
    return median((late[at + span] - late[at]) / span for at in range(len(late) - span))


if __name__ == "__main__":
    asked_leak, asked_runs = json.loads(sys.argv[1])
    for recorded in record_fits(Leak(**asked_leak), asked_runs):
        print("\n" + recorded.to_line(), flush=True)
