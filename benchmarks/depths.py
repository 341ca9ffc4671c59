"""Measure what a test costs at each depth, and a sweep of faults, against bare calls.

    python -m benchmarks.depths [--turns N] [--only NAME ...] [--output FILE]

Run it in the root of a checkout, in an environment with TensorFlow and Keras. Bare
calls and measurements take turns in one process. An empty body is measured between the
two, since the first measurement at a depth scans what other code has made before.
Verdicts are checked: each body is clean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from time import process_time
from typing import Any

from benchmarks.overhead_bodies import make_bodies
from benchmarks.overhead_bodies import make_fit
from benchmarks.overhead_bodies import time_calls
from pytest_tfleak import find_leaks
from pytest_tfleak.verdict import Status

#: How many bare calls the cost of a depth, or of a sweep of faults, is compared with.
CALLS = {"leftovers": 1, "quick": 15, "full": 55, "faults": 55}
_OF_OVERHEAD = ("0 ms", "20 ms", "model.fit")
_LEAST = 0.001  # seconds of bare calls that a ratio is given for
_IS_KNOWN_GROWTH = "build and fit"  # what a sweep proves of it is inconclusive
_OF_SWEEP = "model.fit of 53 calls"  # more than the iterations
#: What is not measured without a sweep, and what is not swept.
_LEFT_OUT = ([_OF_SWEEP], [_IS_KNOWN_GROWTH])


def build_and_fit() -> None:
    """Build, compile and fit a new tiny model, as most tests of Keras code do."""
    keras: Any = import_module("keras")
    numpy: Any = import_module("numpy")
    inputs = numpy.random.default_rng(0).random((32, 4)).astype("float32")
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(4, "relu"),
        keras.layers.Dense(1, "sigmoid"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "binary_crossentropy")
    model.fit(inputs, inputs[:, :1] > 0.5, epochs=1, verbose=0)


def measure(body: Callable[[], object], depth: str) -> dict[str, float]:
    """Return seconds of a measurement and of bare calls, and the judged iterations."""
    options: dict[str, object] = (
        {"faults": True} if depth == "faults" else {"depth": depth}
    )
    started = process_time()
    bare = time_calls(body, CALLS[depth])
    bare_of_cpu = process_time() - started
    find_leaks(lambda: None, **options)
    started, of_cpu = perf_counter(), process_time()
    verdict = find_leaks(body, **options)
    seconds, of_cpu = perf_counter() - started, process_time() - of_cpu
    if verdict.status is not Status.CLEAN:
        raise SystemExit(f"{depth}: {verdict.status}, {verdict.detail}")
    return {
        "bare": bare,
        "seconds": seconds,
        "cpu_ratio": of_cpu / max(bare_of_cpu, 1e-9),
        "own": seconds - verdict.body_seconds,
        "judged": verdict.iterations,
    }


def measure_all(turns: int, only: Collection[str]) -> dict[str, dict[str, Any]]:
    """Measure each body at each depth in turns; return medians."""
    made = make_bodies()
    bodies = {name: made[name] for name in _OF_OVERHEAD}
    bodies[_IS_KNOWN_GROWTH] = build_and_fit
    bodies[_OF_SWEEP] = make_fit(batch_size=3)
    bodies[_OF_SWEEP]()
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(turns):
        for name, body in bodies.items():
            for depth in only or CALLS:
                if name not in _LEFT_OUT[depth == "faults"]:
                    runs.setdefault((name, depth), []).append(measure(body, depth))
    return {
        f"{name}, {depth}": {
            figure: median(run[figure] for run in found) for figure in found[0]
        }
        for (name, depth), found in runs.items()
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| body, depth | bare calls | measured | ratio | CPU | beside calls | judged |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, run in results.items():
        depth = name.rpartition(", ")[2]
        # calls that fail are not timed apart
        own = "" if depth == "faults" else f"{run['own']:.3f} s"
        is_timed = run["bare"] > _LEAST
        ratios = [run["seconds"] / run["bare"], run["cpu_ratio"]] if is_timed else []
        shown = " | ".join(f"{ratio:.2f}" for ratio in ratios) or " | "
        lines.append(
            f"| {name} | {CALLS[depth]}: {run['bare']:.3f} s | {run['seconds']:.3f} s "
            f"| {shown} | {own} | {run['judged']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write the results if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=CALLS, default=())
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results = measure_all(arguments.turns, arguments.only)
    print(table(results))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
