"""Measure thousands of tests in one process: do memory, time and verdicts stay level?

    python -m benchmarks.soak [--tests 3000] [--leaking 0.1] [--seed 1] [--depth quick]
        [--minutes 60] [--picture FILE] [--output FILE]

Leaking and clean bodies, in random order, run as ordinary tests in one pytest process.
What a test leaks is released when it ends, so that memory that is left is the plugin's
or TensorFlow's. The table shows each tenth of the run: wrong verdicts, the time of a
measurement by body, and the memory of the process afterwards. After ``--minutes`` the
run is ended, and what was measured until then is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

_ROOT = Path(__file__).parents[1]
_PARTS = 10
SUITE = """
import os
import random

import psutil
import pytest
import tensorflow as tf

from pytest_tfleak.probes.heap import find_heap_reader

tf1 = tf.compat.v1
HEAP = find_heap_reader()
PROCESS = psutil.Process()
KEPT = []
STEP = tf.function(lambda x: x * 2.0 + 1.0)
X = tf.ones([8, 8])


def keeps_tensors():
    KEPT.append(tf.zeros([16]) + 1.0)

def keeps_objects():
    KEPT.append([object() for _ in range(100)])

def leaves_sessions():
    KEPT.append(tf1.Session(graph=tf.Graph()))

def keeps_bytes():
    KEPT.append(bytearray(20_000))

def retraces():
    f = tf.function(lambda x: x + 1.0)
    f(X)
    KEPT.append(f)

def computes():
    float(tf.reduce_sum(STEP(X)))

def makes_graphs():
    with tf.Graph().as_default(), tf1.Session() as session:
        session.run(tf1.placeholder_with_default(1.0, []) + 1.0)

def does_nothing():
    pass

def makes_cycles():
    for _ in range(20):
        cycle = []
        cycle.append(cycle)

def makes_variables():
    v = tf.Variable(X)
    v.assign_add(X)


LEAKING = [keeps_tensors, keeps_objects, leaves_sessions, keeps_bytes, retraces]
CLEAN = [computes, makes_graphs, does_nothing, makes_cycles, makes_variables]
BODIES = random.Random(int(os.environ["SEED"])).choices(
    [*LEAKING, *CLEAN],
    [float(os.environ["LEAKING"])] * 5 + [1 - float(os.environ["LEAKING"])] * 5,
    k=int(os.environ["TESTS"]),
)


def release():
    for kept in KEPT:
        if isinstance(kept, tf1.Session):
            kept.close()
    KEPT.clear()


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_body(number):
    BODIES[number]()
"""
CONFTEST = """
import json
import os
import time

STARTED = {}


def pytest_runtest_setup(item):
    STARTED[item.nodeid] = time.perf_counter()


def pytest_runtest_teardown(item, nextitem):
    STARTED[item.nodeid] = time.perf_counter() - STARTED[item.nodeid]


def pytest_runtest_logfinish(nodeid, location):
    import test_soak

    test_soak.release()  # not in a fixture: what it cleans up is no leak
    number = int(nodeid.rpartition("[")[2].rstrip("]"))
    body = test_soak.BODIES[number]
    row = {
        "body": body.__name__,
        "leaks": body in test_soak.LEAKING,
        "seconds": STARTED.pop(nodeid),
        "heap": test_soak.HEAP.read(),
        "rss": test_soak.PROCESS.memory_info().rss,
    }
    with open(os.environ["ROWS"], "a") as file:
        file.write(json.dumps(row) + "\\n")
"""


def run(
    tests: int, leaking: float, seed: int, depth: str, minutes: float
) -> list[dict[str, Any]]:
    """Run the suite in a process of its own; return a row for each test, in order."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "test_soak.py").write_text(SUITE)
        (folder / "conftest.py").write_text(CONFTEST)
        rows, report = folder / "rows", folder / "report.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"]
        options = ["--tfleak", f"--tfleak-depth={depth}", "--tb=no"]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_ROOT), temporary]),
            "ROWS": str(rows),
            "SEED": str(seed),
            "TESTS": str(tests),
            "LEAKING": str(leaking),
        }
        with subprocess.Popen(
            [*command, *options, f"--tfleak-json={report}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                process.wait(60 * minutes)
            except subprocess.TimeoutExpired:
                process.terminate()  # the plugin writes its report
        found = [json.loads(line) for line in rows.read_text().splitlines()]
        verdicts = json.loads(report.read_text())["tests"]
    statuses = {int(v["nodeid"].rpartition("[")[2][:-1]): v["status"] for v in verdicts}
    for number, row in enumerate(found):
        row["status"] = statuses.get(number, "none")
    return found


def is_wrong(row: dict[str, Any]) -> bool:
    """Return whether a verdict is not what the body deserves."""
    return bool(row["status"] != ("leak" if row["leaks"] else "clean"))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the run in tenths as a table in Markdown."""
    lines = [
        "| tests | leaking | wrong | a clean test | a leaking test | heap | RSS |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    size = max(1, len(rows) // _PARTS)
    for start in range(0, len(rows) - size + 1, size):
        part = rows[start : start + size]
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for row in part:
            seconds[row["leaks"]].append(row["seconds"])
        clean, leaking = (
            f"{median(seconds[leaks]):.3f} s" if seconds[leaks] else "-"
            for leaks in (False, True)
        )
        lines.append(
            f"| {start + 1:,} to {start + len(part):,} | {len(seconds[True])} "
            f"| {sum(map(is_wrong, part))} | {clean} | {leaking} "
            f"| {_mebibytes(part[-1]['heap'])} | {_mebibytes(part[-1]['rss'])} |"
        )
    return "\n".join(lines)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw memory and the time of a measurement over the run."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    figure, (memory, time) = pyplot.subplots(
        2, 1, figsize=(9, 6), sharex=True, layout="constrained"
    )
    for name in ("heap", "rss"):
        memory.plot([row[name] / 2**20 for row in rows], label=name)
    memory.set_ylabel("MiB")
    memory.legend()
    for leaks, colour in ((False, "tab:green"), (True, "tab:red")):
        chosen = [
            (k, row["seconds"]) for k, row in enumerate(rows) if row["leaks"] == leaks
        ]
        label = "leaking" if leaks else "clean"
        time.scatter(*zip(*chosen, strict=True), s=3, color=colour, label=label)
    time.set_yscale("log")
    time.set_ylabel("seconds")
    time.set_xlabel("tests")
    time.legend()
    figure.savefig(path)


def main() -> None:
    """Measure, print the table, and draw and write the results if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tests", type=int, default=3000)
    parser.add_argument("--leaking", type=float, default=0.1, help="their share")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--depth", default="quick")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = run(
        options.tests, options.leaking, options.seed, options.depth, options.minutes
    )
    print(table(rows))
    for row in filter(is_wrong, rows):
        print(f"wrong: {row['body']} is {row['status']}")
    if options.picture is not None:
        draw(rows, options.picture)
    if options.output is not None:
        options.output.write_text("\n".join(map(json.dumps, rows)))


if __name__ == "__main__":
    main()
