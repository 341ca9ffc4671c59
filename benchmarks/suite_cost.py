"""Measure what short tests of another project's suite cost at each depth.

    python -m benchmarks.suite_cost DIR [--every 23] [--tests 50] [--turns 3]
        [--output FILE]

``DIR`` is the root of a project with tests for pytest, whose packages are installed
together with this one. Every ``--every``-th test is a candidate; of those that pass and
take less than ``--seconds``, the first ``--tests`` run. Those that leak are left out
after a first run at quick depth, since a leak is searched for. Ratios compare pytest's
own time with that of the same tests without the plugin, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pytest

#: The calls of each test in a plain loop, for comparison.
CALLS = 55
_ROOT = Path(__file__).parents[1]
_WITHOUT = ("-p", "no:tfleak")
WAYS = {
    "plain": _WITHOUT,
    "leftovers": ("--tfleak", "--tfleak-depth=leftovers"),
    "quick": ("--tfleak",),
    f"plain loop of {CALLS}": (*_WITHOUT, "-p", "benchmarks.suite_cost"),
}


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Call a test again and again before pytest calls it (with ``-p``)."""
    names = pyfuncitem._fixtureinfo.argnames
    for _ in range(CALLS - 1):
        pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})


def run(folder: Path, arguments: Sequence[str]) -> str:
    """Run pytest in a process of its own and return what it prints."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    paths = filter(None, [os.environ.get("PYTHONPATH"), str(_ROOT)])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def seconds_of(output: str) -> float:
    """Return the time that pytest's last line states. Raises SystemExit without it."""
    found = re.findall(r" in ([\d.]+)s", output)
    if not found:
        raise SystemExit(output[-2000:])
    return float(found[-1])


def choose(folder: Path, every: int, count: int, seconds: float) -> list[str]:
    """Return short tests that pass, without regard to what they do."""
    collected = run(folder, [*_WITHOUT, "--collect-only", "-q"])
    tests = [line for line in collected.splitlines() if "::" in line][::every]
    output = run(folder, [*_WITHOUT, "-vv", "--durations=0", "-q", *tests])
    passed = set(re.findall(r"^(\S.*?) PASSED", output, re.MULTILINE))
    took = {
        test: float(figure)
        for figure, test in re.findall(r"([\d.]+)s call +(\S.*)", output)
    }
    short = [t for t in tests if t in passed and took.get(t, 0.0) < seconds]
    return short[:count]


def leaking(folder: Path, tests: Sequence[str]) -> tuple[set[str], float]:
    """Return which of some tests leak, and how many seconds that took to find out."""
    with TemporaryDirectory() as temporary:
        file = Path(temporary, "measured.json")
        output = run(folder, [*WAYS["quick"], f"--tfleak-json={file}", "-q", *tests])
        measured = json.loads(file.read_text())["tests"]
    leaks = {test["nodeid"] for test in measured if test["status"] == "leak"}
    return leaks, seconds_of(output)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=23)
    parser.add_argument("--tests", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0.25)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    chosen = choose(options.folder, options.every, options.tests, options.seconds)
    leaks, seconds = leaking(options.folder, chosen)
    print(f"{len(leaks)} of {len(chosen)} tests leak: {seconds:.1f} s for all, quick")
    tests = [test for test in chosen if test not in leaks]
    ways = dict(WAYS)
    if find_spec("pytest_memray") is not None:
        ways["pytest-memray"] = (*_WITHOUT, "--memray")
    took: dict[str, list[float]] = {way: [] for way in ways}
    outcomes = {}
    for _ in range(options.turns):
        for way, arguments in ways.items():
            output = run(options.folder, [*arguments, "-q", *tests])
            took[way].append(seconds_of(output))
            outcomes[way] = output.splitlines()[-1].strip("= ")
    plain = median(took["plain"])
    print(f"\n| {len(tests)} tests | seconds | ratio | pytest says |")
    print("|---|--:|--:|---|")
    for way, each in took.items():
        ratio = median(each) / plain
        print(f"| {way} | {median(each):.1f} | {ratio:.2f} | {outcomes[way]} |")
    if options.output:
        options.output.write_text(json.dumps({"tests": tests, "seconds": took}))


if __name__ == "__main__":
    main()
