"""Measure what short tests of another project's suite cost at each depth.

    python -m benchmarks.suite_cost DIR [--every 23] [--tests 50] [--turns 3]
        [--output FILE]

``DIR`` is the root of a project with tests for pytest, whose packages are installed
together with this one. Every ``--every``-th test is a candidate; of those that pass and
take less than ``--seconds``, the first ``--tests`` run. Those that leak are left out
after a first run at quick depth, since a leak is searched for. Ratios compare pytest's
own time with that of the same tests without the plugin, in turns. Other tools that are
installed run in the same turns; psleak, which calls a test 200 times and more, on every
``SPARSE``-th test only.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from benchmarks.rivals import refleak

#: The calls of each test in a plain loop, for comparison.
CALLS = 55
#: The calls of CPython's ``-R 3:3``: some to warm up, and the judged ones.
WARMUP, JUDGED = 3, 3
SPARSE = 15
#: Seconds after which a way is given up.
LIMIT = 600
_GIVEN_UP = f"given up in {LIMIT}s"
_ROOT = Path(__file__).parents[1]
_WITHOUT = ("-p", "no:tfleak")
_CALLED = (*_WITHOUT, "-p", "benchmarks.suite_cost")
WAYS = {
    "plain": _WITHOUT,
    "leftovers": ("--tfleak", "--tfleak-depth=leftovers"),
    "quick": ("--tfleak",),
    f"plain loop of {CALLS}": (*_CALLED, "--called-by=loop"),
    f"refleak's rule, {WARMUP}:{JUDGED}": (*_CALLED, "--called-by=refleak"),
}
OTHERS = {
    "pytest_memray": {"pytest-memray": (*_WITHOUT, "--memray")},
}
SPARSE_WAYS = {"plain": _WITHOUT, "quick": ("--tfleak",)}
SPARSE_OTHERS = {"psleak": {"psleak": (*_CALLED, "--called-by=psleak")}}

Ways = Mapping[str, Sequence[str]]
Body = Callable[[], object]


def _loop(body: Body) -> None:
    for _ in range(CALLS):
        body()


def _refleak(body: Body) -> None:
    """Judge by the rule of CPython's tests; blocks take the place of references."""
    readings = []
    for _ in range(WARMUP + JUDGED):
        body()
        gc.collect()
        readings.append(sys.getallocatedblocks())
    assert not refleak(readings[WARMUP - 1 :], 0, "blocks"), "leaks by its rule"


def _psleak(body: Body) -> None:
    module: Any = import_module("psleak")
    test = module.MemoryLeakTestCase()
    # its garbage checker compares objects by ==, which raises on a Tensor
    test.checkers = module.Checkers.exclude("gcgarbage")
    test.execute(body)


_CALLED_BY = {"loop": _loop, "refleak": _refleak, "psleak": _psleak}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says what calls a test in the place of pytest."""
    parser.addoption("--called-by", choices=_CALLED_BY, required=True)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Have a test called again and again."""
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    calls = _CALLED_BY[pyfuncitem.config.getoption("--called-by")]
    calls(lambda: pyfuncitem.obj(**arguments))
    return True


def run(folder: Path, arguments: Sequence[str]) -> str:
    """Run pytest in a process of its own and return what it prints."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    paths = filter(None, [os.environ.get("PYTHONPATH"), str(_ROOT)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if "--called-by=psleak" in arguments:
        environment["PYTHONMALLOC"] = "malloc"  # which it requires
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return _GIVEN_UP
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


def measure(
    folder: Path, tests: Sequence[str], ways: Ways, turns: int
) -> dict[str, list[float]]:
    """Run tests in each way, print a table, and return the seconds of each turn."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    outcomes = {}
    for _ in range(turns):
        for way, arguments in ways.items():
            output = run(folder, [*arguments, "-q", *tests])
            took[way].append(seconds_of(output))
            outcomes[way] = output.splitlines()[-1].strip("= ")
    plain = median(took["plain"])
    print(f"\n| {len(tests)} tests | seconds | ratio | pytest says |")
    print("|---|--:|--:|---|")
    for way, each in took.items():
        ratio = median(each) / plain
        print(f"| {way} | {median(each):.1f} | {ratio:.2f} | {outcomes[way]} |")
    return took


def _with_others(ways: Ways, others: Mapping[str, Ways]) -> Ways:
    """Return some ways, with those of the other tools that are installed."""
    all_ways = dict(ways)
    for module, some in others.items():
        if find_spec(module) is not None:
            all_ways.update(some)
    return all_ways


def main() -> None:
    """Measure, and print two tables."""
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
    took = [
        measure(options.folder, some, _with_others(ways, others), options.turns)
        for some, ways, others in (
            (tests, WAYS, OTHERS),
            (tests[::SPARSE], SPARSE_WAYS, SPARSE_OTHERS),
        )
    ]
    if options.output:
        options.output.write_text(json.dumps({"tests": tests, "seconds": took}))


if __name__ == "__main__":
    main()
