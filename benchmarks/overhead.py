"""What measuring costs: ours, a naive loop, pytest-memray, psleak; pytest's start.

    python -m benchmarks.overhead [--quick] [--start-python PYTHON] [--output FILE]

Run in the root of a checkout, in an environment with TensorFlow, pytest-memray and
psleak. Every ratio is to bare calls of the same body in the same run. What the figures
mean, and those of one machine, is in ``benchmarks/README.md``.
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
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from importlib import import_module
from importlib import metadata
from pathlib import Path
from time import perf_counter
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
from benchmarks.overhead_start import RUNS
from benchmarks.overhead_start import measure_start
from pytest_tfleak.census import Census
from pytest_tfleak.isolation import Surroundings
from pytest_tfleak.judge import judge
from pytest_tfleak.loop import Loop
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes import make_probes

PLAN = Plan()
#: A full collection and scan takes a quarter of a second: fewer calls will do.
NAIVE_CALLS = 5
LOOPS = ("bare", "ours", "naive")
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
    """Time bare, our and naive loops of each body, in turns."""
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
                    seconds, fixed = _time_ours(body)
                    for step, spent in fixed.items():
                        steps[name].setdefault(step, []).append(spent)
                else:
                    seconds = _time_naive(body, naive)
                times[name].setdefault(kind, []).append(seconds)
    return {
        name: {
            **{kind: _per_call(times[name], kind) for kind in LOOPS},
            "ours_fixed_ms": {
                step: summed_up(spent, 1e3, 3) for step, spent in steps[name].items()
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
    """Go through one measurement; return the time of an iteration and of the rest."""
    clock = _Stopwatch()
    surroundings = clock.time("remember what is open", Surroundings)
    census = Census()
    probes = clock.time("make the probes", lambda: make_probes(census))
    loop = Loop(body, PLAN, probes, census)
    clock.time("first freeze", loop.__enter__)
    try:
        warm_up = _timed(loop.warm_up)
        measured = _timed(loop.measure)
        seconds = measured / loop.trace.measured
        # clearing the Keras session and freezing again; the iterations are taken off
        rest = warm_up - seconds * loop.trace.warmed_up
        clock.spent["clear, second freeze"] = rest
        clock.time("clear at the end", loop.clear)
        clock.time("stock", lambda: _take_stock(loop, census, probes))
    finally:
        clock.time("thaw", lambda: loop.__exit__(None, None, None))
    clock.time("judge", lambda: judge(loop.trace, PLAN, "body"))
    clock.time("restore", surroundings.restore)
    clock.spent["all"] = sum(clock.spent.values())
    return seconds, clock.spent


def _take_stock(loop: Loop, census: Census, probes: Iterable[Any]) -> None:
    census.take()
    for probe in probes:
        probe.still_there()
    census.release()
    loop.trace.kinds.update(census.survivors())


class _Stopwatch:
    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def time(self, name: str, step: Callable[[], Any]) -> Any:
        started = perf_counter()
        result = step()
        self.spent[name] = perf_counter() - started
        return result


def _timed(step: Step) -> float:
    started = perf_counter()
    step()
    return perf_counter() - started


def _time_naive(body: Body, read: Step) -> float:
    started = perf_counter()
    for _ in range(NAIVE_CALLS):
        body()
        read()
    return (perf_counter() - started) / NAIVE_CALLS


class _NaiveReader:
    """The readings as one writes them first: all of them, everywhere, each time."""

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
            with suppress(Exception):  # isinstance runs the code of some objects
                if isinstance(found, self._kinds):
                    for index, kind in enumerate(self._kinds):
                        counts[index] += isinstance(found, kind)
        return readings + counts


def describe_machine(day: str) -> dict[str, Any]:
    """Return what one needs to judge the figures: date, processor, load, versions."""
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


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown, a table for each part that was measured."""
    parts = {
        "loops": (_loop_rows, _fixed_rows),
        "pytest": (_pytest_rows,),
        "psleak": (_psleak_rows,),
        "start": (_start_rows,),
    }
    tables = [
        "\n".join(rows(results[part]))
        for part, makers in parts.items()
        if results[part]
        for rows in makers
    ]
    return "\n\n".join(tables)


def _loop_rows(loops: dict[str, Any]) -> Iterator[str]:
    yield "| body | bare | our loop | added | naive loop | added |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, of_body in loops.items():
        row = [name, _milliseconds(of_body["bare"]["us"])]
        for kind in ("ours", "naive"):
            figures = of_body[kind]
            row += [_times(figures["ratio"]), _milliseconds(figures["added_us"])]
        yield f"| {' | '.join(row)} |"


def _fixed_rows(loops: dict[str, Any]) -> Iterator[str]:
    yield f"| our fixed cost, ms | {' | '.join(loops)} |"
    yield "|---|" + "--:|" * len(loops)
    fixed = [of_body["ours_fixed_ms"] for of_body in loops.values()]
    for step in fixed[0]:
        medians = [f"{spent[step]['median']:.1f}" for spent in fixed]
        yield f"| {step} | {' | '.join(medians)} |"


def _pytest_rows(bodies: dict[str, Any]) -> Iterator[str]:
    yield f"| one test in pytest | {' | '.join(bodies)} |"
    yield "|---|" + "--:|" * len(bodies)
    for mode in next(iter(bodies.values())):
        cells = [
            f"{by_mode[mode]['seconds']['median']:.2f} s, "
            f"{_times(by_mode[mode]['ratio'])}"
            for by_mode in bodies.values()
        ]
        yield f"| {mode} | {' | '.join(cells)} |"


def _psleak_rows(bodies: dict[str, Any]) -> Iterator[str]:
    yield "| psleak | calls | time | per call, to bare | added | verdict |"
    yield "|---|--:|--:|--:|--:|---|"
    for name, asked in bodies.items():
        yield (
            f"| {name} | {asked['calls']} | {asked['seconds']:.1f} s "
            f"| {asked['ratio']:,.2f}× | {asked['added_us_per_call'] / 1e3:.2f} ms "
            f"| {asked['outcome']} |"
        )


def _start_rows(start: dict[str, Any]) -> Iterator[str]:
    yield "| pytest's start | with | without | added (quartiles) |"
    yield "|---|--:|--:|--:|"
    for run in RUNS:
        for what in ("wall_ms", "cpu_ms"):
            figures = start[run][what]
            added = figures["added"]
            yield (
                f"| {run}, {what[:-3]} | {figures['with']['median']:.0f} ms "
                f"| {figures['without']['median']:.0f} ms | {added['median']:.1f} ms "
                f"({added['lower']:.1f} to {added['upper']:.1f}) |"
            )


def _milliseconds(us: dict[str, float]) -> str:
    return f"{us['median'] / 1e3:.3f} ms ({us['min'] / 1e3:.3f}–{us['max'] / 1e3:.3f})"


def _times(ratio: dict[str, float]) -> str:
    if ratio["median"] >= 100:
        return f"{ratio['median']:,.0f}×"
    return f"{ratio['median']:.3f}× ({ratio['lower']:.3f}–{ratio['upper']:.3f})"


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
            text = json.dumps(results, indent=1) + "\n"
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
