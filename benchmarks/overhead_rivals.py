"""The parts of ``overhead.py`` that need processes of their own.

Each figure comes with that of bare calls in the same kind of process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.overhead_bodies import CALLS
from benchmarks.overhead_bodies import Body
from benchmarks.overhead_bodies import make_bodies
from benchmarks.overhead_bodies import summed_up
from benchmarks.overhead_bodies import time_calls

ROOT = Path(__file__).parent.parent
_RESULT = "OVERHEAD_RESULT"
_MODE = "OVERHEAD_MODE"

#: Ways to run one test in pytest, with the arguments for each.
MODES = {
    "bare": [],
    "pytest-tfleak": ["-p", "pytest_tfleak.plugin"],
    "pytest-memray --memray": ["-p", "pytest_memray.plugin", "--memray"],
    "pytest-memray limit_leaks": ["-p", "pytest_memray.plugin", "--memray"],
}

_CONFTEST = """
import json
import os
from time import perf_counter
from time import process_time

import pytest

results = {}

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    cpu, started = process_time(), perf_counter()
    try:
        return (yield)
    finally:
        result = results[item.callspec.id]
        result["seconds"] = perf_counter() - started
        result["cpu_seconds"] = process_time() - cpu

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        results[item.callspec.id] = {"outcome": report.outcome}
    return report

def pytest_sessionfinish():
    with open(os.environ["OVERHEAD_RESULT"], "w", encoding="utf-8") as file:
        json.dump(results, file)
"""

_TEST = """
import os

import pytest

from benchmarks.overhead_bodies import CALLS
from benchmarks.overhead_bodies import make_bodies

bodies = make_bodies()
mode = os.environ["OVERHEAD_MODE"]
marks = {
    "pytest-tfleak": [pytest.mark.tfleak(blocks=1e9)],
    "pytest-memray limit_leaks": [pytest.mark.limit_leaks("1 GB")],
}
pytestmark = marks.get(mode, [])
count = 1 if mode == "pytest-tfleak" else CALLS  # ours repeats the body itself

@pytest.mark.parametrize("name", list(bodies))
def test_body(name):
    for _ in range(count):
        bodies[name]()
"""


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which a child process finds the checkout."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**os.environ, **quiet, "PYTHONPATH": path, **more}


def measure_in_pytest(repetitions: int) -> dict[str, Any]:
    """Run one test for each body and mode; return the time that the test took."""
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
        (folder / "test_bodies.py").write_text(_TEST, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        modes = list(MODES)
        for turn in range(repetitions):
            for mode in modes[turn % len(modes) :] + modes[: turn % len(modes)]:
                for body, result in _run_pytest(folder, mode).items():
                    runs.setdefault(body, {}).setdefault(mode, []).append(result)
            print(f"pytest: {turn + 1} of {repetitions}", file=sys.stderr)
    return {
        body: {mode: _compare(by_mode[mode], by_mode["bare"]) for mode in MODES}
        for body, by_mode in runs.items()
    }


def _compare(runs: list[dict[str, Any]], bare: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"outcomes": [run["outcome"] for run in runs]}
    for what, ratio in (("seconds", "ratio"), ("cpu_seconds", "cpu_ratio")):
        pairs = [(run[what], b[what]) for run, b in zip(runs, bare, strict=True)]
        figures[what] = summed_up([time for time, _ in pairs])
        figures[ratio] = summed_up([time / of_bare for time, of_bare in pairs])
    return figures


def _run_pytest(folder: Path, mode: str) -> dict[str, dict[str, Any]]:
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *MODES[mode], "test_bodies.py"],
        cwd=folder,
        env=environment(
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
            **{_RESULT: str(result), _MODE: mode},
        ),
        capture_output=True,
        text=True,
        check=False,  # a leaking test fails, but its time counts
    )
    if not result.exists():
        sys.exit(f"pytest failed ({mode}):\n{run.stdout}{run.stderr}")
    results: dict[str, dict[str, Any]] = json.loads(result.read_text("utf-8"))
    return results


def measure_psleak(limit: float) -> dict[str, Any]:
    """Start ``time_psleak`` in a process with the allocator that psleak requires."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead", "--psleak-alone", str(limit)],
        env=environment(PYTHONMALLOC="malloc", PYTHONUNBUFFERED="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    results: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return results


def time_psleak(limit: float) -> dict[str, Any]:
    """Run psleak on each body, for ``limit`` seconds at most."""
    return {name: _ask_psleak(body, limit) for name, body in make_bodies().items()}


class _CutOffError(Exception):
    """The time for one body is over."""


def _ask_psleak(body: Body, limit: float) -> dict[str, Any]:
    psleak: Any = import_module("psleak")
    calls = 0
    bare = [time_calls(body, CALLS)]
    end = perf_counter() + limit

    def counted() -> object:
        nonlocal calls
        calls += 1
        if perf_counter() > end:
            raise _CutOffError
        return body()

    case = psleak.MemoryLeakTestCase()
    # its garbage checker compares objects by ==, which raises on a Tensor
    case.checkers = psleak.Checkers.exclude("gcgarbage")
    started = perf_counter()
    try:
        case.execute(counted)
        outcome = "no leak"
    except _CutOffError:
        outcome = f"undecided after {limit:g} s"
    except AssertionError as error:  # its verdict, or a failed assertion on garbage
        outcome = f"{type(error).__name__}: {error}".partition("\n")[0][:80]
    seconds = perf_counter() - started
    bare.append(time_calls(body, CALLS))
    bare_call = sum(bare) / len(bare) / CALLS
    return {
        "outcome": outcome,
        "calls": calls,
        "seconds": round(seconds, 3),
        "bare_us_per_call": round(bare_call * 1e6, 3),
        "added_us_per_call": round((seconds / calls - bare_call) * 1e6, 1),
        "ratio": round(seconds / calls / bare_call, 3),
    }
