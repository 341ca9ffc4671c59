"""Measure the smallest leak that is found in a real ``model.fit``, by signal.

    python -m benchmarks.sensitivity [--quick] [--traces FILE] [--date DATE]

Needs TensorFlow and, to draw the curves, matplotlib (``pip install matplotlib``). New
processes run our loop over ``model.fit`` of a small model again and again, without and
with planted leaks: 5 iterations of warm-up, N, and N more to confirm. The probability
to find a leak of some size is the share of runs *without* a leak that the judge calls a
LEAK after that size was added to the readings. The runs with planted leaks show that
adding is equivalent, and how often leaks of their sizes are really found. With
--traces, FILE is analysed again or, if it does not exist yet, written. Results go to
``benchmarks/results/sensitivity.json`` and ``sensitivity.png``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import replace
from datetime import date
from itertools import repeat
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.overhead import describe_machine
from benchmarks.record import Recording
from benchmarks.record import judge_recording
from benchmarks.record import read_recordings
from benchmarks.sensitivity_bodies import CLEAN
from benchmarks.sensitivity_bodies import WARMUP
from benchmarks.sensitivity_bodies import Leak
from benchmarks.sensitivity_bodies import additivity
from benchmarks.sensitivity_bodies import is_first
from benchmarks.sensitivity_bodies import leak_in
from benchmarks.sensitivity_bodies import record_alone
from benchmarks.sensitivity_plot import draw
from benchmarks.sensitivity_plot import tables
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.allocator import HOST as ALLOCATOR
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Status
from tests.quality.simulate import BLOCKS
from tests.quality.simulate import HEAP
from tests.quality.simulate import RSS

ITERATIONS = (20, 50, 200)
FOUND = 0.99
#: The number of runs per process for each number of iterations, and of processes. A run
#: inherits what earlier runs of its process left, as tests in a file do.
CLEAN_RUNS, CLEAN_PROCESSES = {20: 20, 50: 20, 200: 10}, 12
PLANTED_RUNS = {20: 12, 50: 6, 200: 2}
#: The size of the smallest tensor in TensorFlow's pool, if oneDNN is on.
TENSOR = 256 * 1024
KIB = 1024
PAGE = 4096
RESULTS = Path(__file__).parent / "results" / "sensitivity.json"
PICTURE = Path(__file__).with_name("sensitivity.png")

Shares = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How small a leak does a signal find at an allowance?

    ``sizes`` are the points of the curve; the smallest is found to within ``step``.
    """

    signal: Signal
    allowance: int
    sizes: tuple[int, ...]
    step: int

    def plan(self, iterations: int) -> Plan:
        """Return a plan with the allowance."""
        name = str(self.signal.allowance)
        asked: dict[str, Any] = {"iterations": iterations, name: self.allowance}
        return replace(Plan(warmup=WARMUP, max_time=None), **asked)


#: Sizes in bytes for heap and RSS, in blocks, and for the pool in iterations per leak.
BYTES = (0, 256, 512, KIB, 1536, 2048, 3072, 4096, 4608, 5120, 5632, 6144, 7168, 8192)
MORE = (12 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 256 * KIB)
MUCH = (512 * KIB, 1024 * KIB, 2048 * KIB)
NUMBERS = (0, 4, 8, 12, 16, 24, 32, 40, 48, 52, 56, 60, 64, 68, 72, 80, 96, 128)
EVERY = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40, 42, 50)
QUESTIONS = (
    Question(signal=HEAP, allowance=6 * KIB, sizes=BYTES + MORE[:2], step=16),
    Question(signal=HEAP, allowance=2 * KIB, sizes=BYTES, step=16),
    Question(signal=HEAP, allowance=0, sizes=BYTES, step=16),
    Question(signal=BLOCKS, allowance=64, sizes=NUMBERS, step=1),
    Question(signal=BLOCKS, allowance=16, sizes=NUMBERS, step=1),
    Question(signal=BLOCKS, allowance=0, sizes=NUMBERS, step=1),
    Question(signal=RSS, allowance=6 * KIB, sizes=BYTES + MORE + MUCH, step=64),
    Question(signal=ALLOCATOR, allowance=6 * KIB, sizes=EVERY, step=0),
)


def runs_to_record(quick: bool) -> list[tuple[Leak, list[int]]]:
    """Return what each process records: a leak, and the iterations of each run."""
    mallocs = [Leak(malloc=k * KIB) for k in (4, 6, 8, 16, 32, 64, 128, 256)]
    beside = [
        Leak(blocks=blocks, tensor=TENSOR, every=every)
        for blocks, every in ((32, 1), (48, 5), (64, 20), (96, 40))
    ]
    if quick:
        few = {20: 4, 50: 2, 200: 1}
        clean = [(CLEAN, in_turn(few, turn)) for turn in range(len(ITERATIONS))]
        leaks = [mallocs[1], mallocs[5], beside[2]]
        return clean + [(leak, in_turn(few, 0)) for leak in leaks]
    clean = [(CLEAN, in_turn(CLEAN_RUNS, turn)) for turn in range(CLEAN_PROCESSES)]
    leaks = [*mallocs, *beside]
    return clean + [
        (leak, in_turn(PLANTED_RUNS, turn)) for turn, leak in enumerate(leaks)
    ]


def in_turn(runs: dict[int, int], turn: int) -> list[int]:
    """Return runs in an order that differs by turn: first one of each length."""
    first = turn % len(ITERATIONS)
    order = [*ITERATIONS[first:], *ITERATIONS[:first]]
    todo = dict(runs)
    mixed = []
    while any(todo.values()):
        for iterations in order:
            if todo[iterations]:
                todo[iterations] -= 1
                mixed.append(iterations)
    return mixed


def record_all(
    todo: Sequence[tuple[Leak, list[int]]], jobs: int
) -> Iterator[Recording]:
    """Record each leak in a process of its own, some in parallel."""
    with ThreadPoolExecutor(jobs) as pool:
        for recordings in pool.map(record_alone, *zip(*todo, strict=True)):
            yield from recordings


def plant(run: Recording, signal: Signal, size: int, phase: int) -> Recording:
    """Add a leak to the readings of one signal, and leave the others out.

    ``size`` is the leak per iteration; for the pool, every ``size``-th iteration leaks.
    """
    read = run.series[signal.name]
    leaked = [_leaked(signal, size, row, phase) for row in range(len(read))]
    series = [(value or 0) + more for value, more in zip(read, leaked, strict=True)]
    kept = dict(run.kept)
    if signal.name in kept:
        confirmed = leaked[-1] - leaked[-1 - run.iterations]
        kept[signal.name] += confirmed / run.iterations
    return replace(run, series={signal.name: series}, kept=kept)


def _leaked(signal: Signal, size: int, row: int, phase: int) -> int:
    if signal == ALLOCATOR:
        return TENSOR * ((row + phase) // size)
    if signal == RSS:
        return size * row // PAGE * PAGE
    return size * row


def shares(runs: Iterable[Recording], plan: Plan) -> Shares:
    """Return the shares of runs that are judged LEAK and INCONCLUSIVE."""
    statuses = [judge_recording(run, plan).status for run in runs]
    found, undecided = (
        round(fmean(status is wanted for status in statuses), 4)
        for wanted in (Status.LEAK, Status.INCONCLUSIVE)
    )
    return found, undecided


def answer(
    question: Question,
    n: int,
    runs: Sequence[Recording],
    starts: Sequence[Recording],
) -> dict[str, Any]:
    """Return a question's curve at a number of iterations, and the smallest size.

    A point of the curve has the growth per iteration, the shares of runs judged LEAK
    and INCONCLUSIVE, and the share of ``starts``, the first runs of their processes,
    judged LEAK.
    """
    signal, plan = question.signal, question.plan(n)

    def share(size: int, among: Sequence[Recording] = runs) -> Shares:
        planted = (plant(run, signal, size, phase) for phase, run in enumerate(among))
        return shares(planted, plan)

    curve = {size: share(size) for size in question.sizes}
    return {
        "iterations": n,
        "runs": len(runs),
        "starts": len(starts),
        "curve": [
            [_rate(signal, size), *found, share(size, starts)[0]]
            for size, found in curve.items()
        ],
        "smallest": _smallest(question, curve, share),
    }


def _rate(signal: Signal, size: int) -> float:
    return round(TENSOR / size) if signal == ALLOCATOR else size


def _smallest(
    question: Question, curve: dict[int, Shares], share: Callable[[int], Shares]
) -> float | None:
    """Return the growth per iteration above which all sizes are found."""
    order = list(curve)
    if question.signal != ALLOCATOR:
        order.reverse()
    found = list(takewhile(lambda size: curve[size][0] >= FOUND, order))
    if not found:
        return None
    above = found[-1]
    if question.step and len(found) < len(order):
        below = order[len(found)]
        while above - below > question.step:
            middle = (above + below) // 2 // question.step * question.step
            if middle in (below, above):
                break
            above, below = (
                (middle, below) if share(middle)[0] >= FOUND else (above, middle)
            )
    return _rate(question.signal, above)


def check(
    question: Question,
    n: int,
    really: Sequence[Recording],
    runs: Sequence[Recording],
) -> dict[str, Any] | None:
    """Compare how often a planted leak is found with the result of adding its size."""
    signal = question.signal
    size = _planted_size(signal, really[0])
    if not size:
        return None
    plan = question.plan(n)
    added = (plant(run, signal, size, phase) for phase, run in enumerate(runs))
    as_read = (replace(r, series={signal.name: r.series[signal.name]}) for r in really)
    return {
        "signal": signal.name,
        "iterations": n,
        "planted": _rate(signal, size),
        "runs": len(really),
        "found": shares(as_read, plan)[0],
        "superposed": shares(added, plan)[0],
    }


def _planted_size(signal: Signal, planted: Recording) -> int:
    leak = leak_in(planted)
    if signal == ALLOCATOR:
        return leak.every if leak.tensor else 0
    if signal == RSS:
        return leak.malloc
    # the memory that the C library used for it, including the header
    moved = planted.series["planted.heap" if signal == HEAP else "planted.blocks"]
    return round(((moved[-1] or 0) - (moved[0] or 0)) / (len(moved) - 1))


def analyse(recorded: Sequence[Recording], jobs: int) -> dict[str, Any]:
    """Answer all questions, and check the answers with the planted leaks."""
    runs: dict[tuple[Leak, int], list[Recording]] = {}
    for run in recorded:
        runs.setdefault((leak_in(run), run.iterations), []).append(run)
    clean = [runs[CLEAN, n] for n in ITERATIONS]
    starts = [[run for run in group if is_first(run)] for group in clean]
    leaking = [(n, really) for (leak, n), really in runs.items() if leak != CLEAN]
    results: list[dict[str, Any]] = []
    checks = []
    with ProcessPoolExecutor(jobs) as pool:
        asked_before: set[Signal] = set()
        for question in QUESTIONS:
            answers = pool.map(answer, repeat(question), ITERATIONS, clean, starts)
            results.append(
                {
                    "signal": question.signal.name,
                    "unit": question.signal.unit,
                    "allowance": question.allowance,
                    "answers": list(answers),
                }
            )
            if question.signal in asked_before:
                continue  # only check the default allowance, which comes first
            asked_before.add(question.signal)
            checked = pool.map(
                check,
                repeat(question),
                [n for n, _ in leaking],
                [really for _, really in leaking],
                [runs[CLEAN, n] for n, _ in leaking],
            )
            checks += [row for row in checked if row is not None]
    return {
        "results": results,
        "checks": checks,
        "additivity": additivity(recorded),
    }


def main() -> None:
    """Record, analyse, write the results, draw them and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few and short traces")
    parser.add_argument("--date", default=date.today().isoformat())
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--traces", type=Path, help="analyse these, or keep them there")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    machine = describe_machine(options.date)
    if options.traces and options.traces.exists():
        recordings = read_recordings(options.traces)
    else:
        recordings = list(record_all(runs_to_record(options.quick), options.jobs))
        if options.traces:
            lines = (recording.to_line() + "\n" for recording in recordings)
            options.traces.write_text("".join(lines), encoding="utf-8")
    results = {"machine": machine, **analyse(recordings, options.jobs)}
    results["recorded"] = dict(
        Counter(leak_in(run).name or "no leak" for run in recordings)
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1) + "\n"
    options.output.write_text(text, encoding="utf-8")
    draw(results, options.picture)
    print(json.dumps(machine), *tables(results), sep="\n\n")


if __name__ == "__main__":
    main()
