"""Measure costs: our loop, a naive loop, pytest-memray, psleak, and pytest's start.

    python -m benchmarks.overhead [--quick] [--start-python PYTHON] [--output FILE]

Run it in the root of a checkout, in an environment with TensorFlow, pytest-memray and
psleak. Every ratio is to bare calls of the same body in the same run.
``benchmarks/README.md`` explains the figures and has those of one machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from importlib import import_module
from importlib import metadata
from pathlib import Path
from time import perf_counter
from time import thread_time
from typing import Any

import psutil

from benchmarks.overhead_bodies import Body
from benchmarks.overhead_bodies import make_bodies
from benchmarks.overhead_bodies import summed_up
from benchmarks.overhead_bodies import time_calls
from benchmarks.overhead_rivals import environment
from benchmarks.overhead_rivals import measure_in_pytest
from benchmarks.overhead_rivals import measure_psleak
from benchmarks.overhead_rivals import time_psleak
from benchmarks.overhead_start import measure_start
from benchmarks.overhead_table import table
from pytest_tfleak.judge import judge
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.census import Census
from pytest_tfleak.run.isolation import Surroundings
from pytest_tfleak.run.loop import Loop

PLAN = Plan()
#: A full collection and scan takes a quarter of a second, so fewer calls are enough.
NAIVE_CALLS = 2
LOOPS = ("bare", "ours", "naive")
ITERATION = "an iteration"
#: Clearing the Keras session and the second freeze, without the iterations in between.
WARM_UP = "clear, second freeze"
PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "pytest",
    "psutil",
    "pytest-memray",
    "memray",
    "psleak",
)

Step = Callable[[], object]


def measure_loops(repetitions: int) -> dict[str, Any]:
    """Time the bare loop, ours and the naive loop of each body, in turns."""
    bodies = make_bodies()
    times: dict[str, dict[str, list[float]]] = {name: {} for name in bodies}
    steps: dict[str, dict[str, list[float]]] = {name: {} for name in bodies}
    naive = _NaiveReader()
    for turn in range(repetitions):
        for name, body in bodies.items():
            for kind in LOOPS[turn % 3 :] + LOOPS[: turn % 3]:
                if kind == "bare":
                    seconds = time_calls(body, PLAN.iterations) / PLAN.iterations
                elif kind == "ours":
                    seconds, spent = _time_ours(body)
                    for step, cpu in spent.items():
                        steps[name].setdefault(step, []).append(cpu)
                else:
                    seconds = _time_naive(body, naive)
                times[name].setdefault(kind, []).append(seconds)
        print(f"loops: {turn + 1} of {repetitions}", file=sys.stderr)
    return {
        name: {
            **{kind: _per_call(times[name], kind) for kind in LOOPS},
            "ours_cpu_us": summed_up(steps[name].pop(ITERATION), 1e6, 1),
            "ours_fixed_cpu_ms": {
                step: summed_up(cpu, 1e3, 3) for step, cpu in steps[name].items()
            },
        }
        for name in bodies
    }


def _per_call(times: dict[str, list[float]], kind: str) -> dict[str, Any]:
    pairs = list(zip(times[kind], times["bare"], strict=True))
    figures: dict[str, Any] = {"us": summed_up(times[kind], 1e6, 2)}
    if kind != "bare":
        figures["added_us"] = summed_up([t - bare for t, bare in pairs], 1e6, 2)
        figures["ratio"] = summed_up([t / bare for t, bare in pairs])
    return figures


def _time_ours(body: Body) -> tuple[float, dict[str, float]]:
    """Run one measurement; return the time per iteration, and CPU time by step.

    The thread's CPU time is meaningful even if other processes use the cores.
    """
    clock = _Stopwatch()
    surroundings = clock.time("remember what is open", Surroundings)
    census = Census()
    probes = clock.time("make the probes", lambda: make_probes(census))
    loop = Loop(lambda: clock.leave_out(body), PLAN, probes, census)
    clock.time("first freeze", loop.__enter__)
    try:
        clock.time(WARM_UP, loop.warm_up)
        started = perf_counter()
        clock.time(ITERATION, loop.measure)
        seconds = (perf_counter() - started) / loop.trace.measured
        clock.time("clear at the end", loop.clear)
        clock.time("stock", lambda: _take_stock(loop, census, probes))
    finally:
        clock.time("thaw", lambda: loop.__exit__(None, None, None))
    clock.time("judge", lambda: judge(loop.trace, PLAN))
    clock.time("restore", surroundings.restore)
    clock.spent[ITERATION] /= loop.trace.measured
    clock.spent[WARM_UP] -= clock.spent[ITERATION] * loop.trace.warmed_up
    clock.spent["all"] = sum(clock.spent.values()) - clock.spent[ITERATION]
    return seconds, clock.spent


def _take_stock(loop: Loop, census: Census, probes: Iterable[Any]) -> None:
    census.take()
    for probe in probes:
        probe.still_there()
    census.release()
    loop.trace.kinds.update(census.survivors())


class _Stopwatch:
    """Measures the CPU time of steps, without that of the bodies they call."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._left_out = 0.0

    def time(self, name: str, step: Callable[[], Any]) -> Any:
        self._left_out = 0.0
        started = thread_time()
        result = step()
        self.spent[name] = thread_time() - started - self._left_out
        return result

    def leave_out(self, body: Body) -> None:
        started = thread_time()
        body()
        self._left_out += thread_time() - started


def _time_naive(body: Body, read: Step) -> float:
    started = perf_counter()
    for _ in range(NAIVE_CALLS):
        body()
        read()
    return (perf_counter() - started) / NAIVE_CALLS


class _NaiveReader:
    """Reads in the obvious way: every figure, over all objects, each time."""

    def __init__(self) -> None:
        tf: Any = import_module("tensorflow")
        keras: Any = import_module("keras")
        self._process = psutil.Process()
        eager = type(tf.constant(0))
        self._kinds = (
            *(eager, tf.Variable, tf.Graph, tf.compat.v1.Session, tf.data.Dataset),
            *(keras.layers.Layer, keras.optimizers.Optimizer),
        )

    def __call__(self) -> list[int]:
        gc.collect()
        process = self._process
        readings = [psutil.heap_info().heap_used, process.memory_full_info().uss]
        readings += [process.memory_info().rss, process.num_fds()]
        readings += [process.num_threads(), len(process.children())]
        readings += [sys.getallocatedblocks()]
        counts = [0] * len(self._kinds)
        for found in gc.get_objects():
            with suppress(Exception):  # isinstance runs code of some objects
                if isinstance(found, self._kinds):
                    for index, kind in enumerate(self._kinds):
                        counts[index] += isinstance(found, kind)
        return readings + counts


def describe_machine(day: str) -> dict[str, Any]:
    """Return what is needed to interpret the figures: date, CPU, load, versions."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "date": day,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()}, {' '.join(platform.libc_ver())}",
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "versions": versions,
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def main() -> None:
    """Measure every part, each in a process of its own, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--date", default=date.today().isoformat())
    parser.add_argument("--output", type=Path, help="write the results there, as JSON")
    parser.add_argument(
        "--start-python",
        default=sys.executable,
        help="an interpreter with the package installed, for what pytest's start costs",
    )
    parser.add_argument(
        "--parts", nargs="*", default=["loops", "pytest", "psleak", "start"]
    )
    for inner in ("--loops-alone", "--psleak-alone"):
        parser.add_argument(inner, type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loops_alone:
        print(json.dumps(measure_loops(int(options.loops_alone))))
    elif options.psleak_alone:
        print(json.dumps(time_psleak(options.psleak_alone)))
    else:
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    repetitions = 3 if options.quick else 6
    results: dict[str, Any] = {"machine": describe_machine(options.date)}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "start": lambda: measure_start(options.start_python, 5 * repetitions),
        "loops": lambda: _loops_alone(repetitions),
        "pytest": lambda: measure_in_pytest(max(2, repetitions // 3)),
        "psleak": lambda: measure_psleak(5 if options.quick else 25),
    }
    for name, part in parts.items():
        results[name] = part() if name in options.parts else {}
        results["machine"]["load_after"] = [round(n, 2) for n in os.getloadavg()]
        if options.output is not None:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            lines = (f'"{part}": {json.dumps(of)}' for part, of in results.items())
            text = "{\n" + ",\n".join(lines) + "\n}\n"  # a line for each part
            options.output.write_text(text, encoding="utf-8")
    print(json.dumps(results["machine"]), table(results), sep="\n\n")


def _loops_alone(repetitions: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.overhead"]
    command += ["--loops-alone", str(repetitions)]
    run = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    results: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return results


if __name__ == "__main__":
    main()
