"""Measure what the plugin adds to pytest's start; a part of ``overhead.py``.

Runs pytest on one empty test with and without the plugin, in turns, in an environment
where the package is installed, so that its entry point is used.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN
from resource import getrusage
from time import perf_counter
from typing import Any

from benchmarks.overhead_bodies import summed_up

#: Modules that the plugin must not import.
HEAVY = ("tensorflow", "keras", "numpy", "pynvml", "cuda")
WITHOUT = ["-p", "no:tfleak"]
#: Ways to run pytest: the header needs probes, and -q prints none.
RUNS = {"with the header": ["-v"], "quiet": ["-q"]}

#: Use the installed package, and the bytecode that earlier runs have written.
UNSET = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")

_IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|\s*(\S+)")


def measure_start(python: str, repetitions: int) -> dict[str, Any]:
    """Return wall and CPU milliseconds that the plugin adds, and what it imports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing(): pass\n", "utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
        results: dict[str, Any] = {
            run: _compare(python, folder, arguments, repetitions)
            for run, arguments in RUNS.items()
        }
        results["imports"] = _list_imports(python, folder, repetitions)
    heavy = [name for name in results["imports"] if name.split(".")[0] in HEAVY]
    if heavy:
        raise AssertionError(f"the plugin imports {', '.join(heavy)}")
    return results


def _compare(
    python: str, folder: Path, arguments: list[str], repetitions: int
) -> dict[str, Any]:
    wall: dict[bool, list[float]] = {True: [], False: []}
    cpu: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(repetitions + 1):
        for with_plugin in (True, False) if turn % 2 else (False, True):
            more = [] if with_plugin else WITHOUT
            seconds, used = _time_pytest(python, folder, [*arguments, *more])
            if turn:  # the first round writes the bytecode
                wall[with_plugin].append(seconds)
                cpu[with_plugin].append(used)
    return {
        f"{what}_ms": {
            "with": summed_up(times[True], 1e3, 2),
            "without": summed_up(times[False], 1e3, 2),
            "added": summed_up(
                [a - b for a, b in zip(times[True], times[False], strict=True)], 1e3, 2
            ),
        }
        for what, times in (("wall", wall), ("cpu", cpu))
    }


def _time_pytest(
    python: str, folder: Path, arguments: list[str]
) -> tuple[float, float]:
    before, started = getrusage(RUSAGE_CHILDREN), perf_counter()
    _run_pytest([python, "-m", "pytest", *arguments], folder)
    seconds, after = perf_counter() - started, getrusage(RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used


def _list_imports(python: str, folder: Path, repetitions: int) -> dict[str, float]:
    """Return the modules that the plugin imports, with the own time of each in ms."""
    command = [python, "-X", "importtime", "-m", "pytest"]
    without = _imported(_run_pytest([*command, *WITHOUT], folder))
    own: dict[str, list[int]] = {}
    for _ in range(max(3, repetitions // 3)):
        for name, microseconds in _imported(_run_pytest(command, folder)).items():
            if name not in without:
                own.setdefault(name, []).append(microseconds)
    medians = {name: summed_up(us, 1e-3, 3)["median"] for name, us in own.items()}
    return dict(sorted(medians.items(), key=lambda pair: -pair[1]))


def _imported(log: str) -> dict[str, int]:
    return {name: int(own) for own, _, name in _IMPORT_LINE.findall(log)}


def _run_pytest(command: list[str], folder: Path) -> str:
    environment = {name: v for name, v in os.environ.items() if name not in UNSET}
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        sys.exit(f"pytest failed:\n{run.stdout}{run.stderr}")
    return run.stderr
