"""Show small leaks and their clean twins to several tools, each as its docs say.

    python -m benchmarks.other_tools [--tools NAME ...] [--kinds WORD ...]
        [--output FILE]

It needs TensorFlow, pytest-memray, psleak, pyleak and objgraph. Each measurement runs
in a fork of a process that has imported TensorFlow and called nothing, so that no leak
is there in the next one. Each may take ``LIMIT`` seconds of CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
LIMIT = 20  # seconds of CPU time
ENOUGH = 300  # seconds, for what waits
CALLS = 50
WARMUP = 5
#: What a place in the code may keep, for pytest-memray: about 80 bytes a call.
AT_ONE_PLACE = "4 KB"
GROWS_IN = 5  # calls, for rules without a number of their own
_CASES = "other_tools_cases"
_TEST = f"""
import pytest
from benchmarks.{_CASES} import CURRENT

@pytest.fixture
def warm():
    for _ in range({WARMUP}):
        CURRENT[0]()

@pytest.mark.limit_leaks("{AT_ONE_PLACE}")
def test_body(warm):
    for _ in range({CALLS}):
        CURRENT[0]()
"""
Body = Callable[[], object]
#: What was found, by tool, kind, and whether it is of the twin.
Results = Mapping[tuple[str, str, bool], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool says of a body: whether it leaks, and its report."""

    leaks: bool
    text: str = ""
    #: The part of the report that says what holds it.
    holder: str = ""


class _NotItsJobError(Exception):
    """A tool is not made for a kind of leak."""


def ours(body: Body, case: Any) -> Answer:
    """Run it as a library call, with the defaults."""
    from pytest_tfleak import find_leaks
    from pytest_tfleak.reports.held_by import edges_of
    from pytest_tfleak.verdict import Status

    verdict = find_leaks(body, iterations=CALLS)
    paths = [finding.path for finding in verdict.findings if finding.path]
    holders = "\n".join(edge for path in paths for edge in edges_of(path))
    leaks = verdict.status is Status.LEAK
    return Answer(leaks=leaks, text=str(verdict), holder=holders)


def memray(body: Body, case: Any) -> Answer:
    """Run ``limit_leaks`` on a test that calls the body, warmed up in a fixture."""
    import pytest

    cases = import_module(f"benchmarks.{_CASES}")
    cases.CURRENT[:] = [body]
    folder = Path(tempfile.mkdtemp())
    (folder / "test_body.py").write_text(_TEST)
    # by default, only C functions of TensorFlow and Python are shown
    options = ["-p", "pytest_memray.plugin", "--memray", "--stacks=50"]
    options += ["-p", "no:cacheprovider", f"--rootdir={folder}"]
    status = pytest.main([*options, str(folder)])
    text = _printed()
    failed = status == pytest.ExitCode.TESTS_FAILED
    assert failed or status == pytest.ExitCode.OK, text
    assert not failed or "memray" in text, text
    return Answer(leaks=failed, text=text)


def psleak(body: Body, case: Any) -> Answer:
    """Run a test case with the defaults, but for the garbage that == cannot compare.

    It counts threads before its own warm-up: the first calls start TensorFlow's.
    """
    for _ in range(WARMUP):
        body()
    module: Any = import_module("psleak")
    test = module.MemoryLeakTestCase()
    # its garbage checker compares objects by ==, which raises on a Tensor
    test.checkers = module.Checkers.exclude("gcgarbage")
    try:
        test.execute(body)
    except module.Error as error:
        return Answer(leaks=True, text=str(error))
    return Answer(leaks=False)


def pyleak(body: Body, case: Any) -> Answer:
    """Run the detector of threads, or that of tasks with the lines that create them."""
    module: Any = import_module("pyleak")
    try:
        if case.coroutines:
            coroutine = case.coroutines[body is case.twin]
            asyncio.run(_check_tasks(module, coroutine))
        elif "thread" in case.kind:
            with module.no_thread_leaks(action="raise"):
                body()
        else:
            raise _NotItsJobError
    except (module.TaskLeakError, module.ThreadLeakError) as error:
        text = "\n".join(map(str, [error, *getattr(error, "leaked_tasks", ())]))
        names = text if isinstance(error, module.ThreadLeakError) else ""
        return Answer(leaks=True, text=text, holder=names)
    return Answer(leaks=False)


async def _check_tasks(module: Any, coroutine: Callable[[], Any]) -> None:
    async with module.no_task_leaks(action="raise", enable_creation_tracking=True):
        await coroutine()


def objgraph(body: Body, case: Any) -> Answer:
    """Find types that grow in each of five calls; show what holds the last."""
    _only_python(case)
    module: Any = import_module("objgraph")
    for _ in range(WARMUP):
        body()
    peak: dict[str, int] = {}
    module.growth(limit=None, peak_stats=peak)
    growing: set[str] | None = None
    for _ in range(GROWS_IN):
        body()
        new = {name for name, _, _ in module.growth(limit=None, peak_stats=peak)}
        growing = new if growing is None else growing & new
    if not growing:
        return Answer(leaks=False)
    shown = io.StringIO()
    for last in _telling(module, growing):
        chain = module.find_backref_chain(last, module.is_proper_module, max_depth=8)
        module.show_chain(chain, output=shown)
    return Answer(leaks=True, text=f"{growing}", holder=shown.getvalue())


def _telling(objgraph: Any, types: Iterable[str]) -> Iterator[object]:
    """Yield the last objects of two types, as a user would pick them: no built-ins."""
    last = [found[-1] for name in sorted(types) if (found := objgraph.by_type(name))]
    yield from sorted(last, key=lambda one: type(one).__module__ == "builtins")[:2]


def tracemalloc_diff(body: Body, case: Any) -> Answer:
    """Find lines whose memory grows in each of five calls, but for the tools' own."""
    _only_python(case)
    tracemalloc.start(10)
    for _ in range(WARMUP):
        body()
    before, growing = _snapshot(), None
    for _ in range(GROWS_IN):
        body()
        now = _snapshot()
        new = {
            (one.traceback[0].filename, one.traceback[0].lineno)
            for one in now.compare_to(before, "lineno")
            if one.size_diff > 0
        }
        growing = new if growing is None else growing & new
        before = now
    text = "\n".join(f"{file}:{line}" for file, line in sorted(growing or ()))
    return Answer(leaks=bool(growing), text=text)


def _snapshot() -> tracemalloc.Snapshot:
    gc.collect()
    hidden = (tracemalloc.__file__, __file__, "<frozen importlib._bootstrap>")
    filters = [tracemalloc.Filter(inclusive=False, filename_pattern=f) for f in hidden]
    return tracemalloc.take_snapshot().filter_traces(filters)


def _only_python(case: Any) -> None:
    if not case.holder:  # memory of C or C++
        raise _NotItsJobError


def memory_checker(body: Body, case: Any) -> Answer:
    """Run TensorFlow's checker as its docstring does: a snapshot after each call."""
    module: Any = import_module("tensorflow.python.framework.memory_checker")
    with module.MemoryChecker() as checker:
        for _ in range(10):
            body()
            checker.record_snapshot()
    try:
        checker.assert_no_leak_if_all_possibly_except_one()
    except AssertionError as error:
        return Answer(leaks=True, text=str(error))
    return Answer(leaks=False)


#: The tools, by the names that the table shows.
TOOLS = {
    "pytest-tfleak": ours,
    "pytest-memray": memray,
    "psleak": psleak,
    "pyleak": pyleak,
    "objgraph": objgraph,
    "tracemalloc": tracemalloc_diff,
    "MemoryChecker": memory_checker,
}


def measure(tool: str, words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what a tool says of each leak and each twin, of kinds with such words."""
    cases = import_module(f"benchmarks.{_CASES}").CASES
    for case in (one for one in cases if any(word in one.kind for word in words)):
        for body in (case.leak, case.twin):
            result = _in_fork(tool, body, case)
            result |= {"tool": tool, "kind": case.kind, "is_twin": body is case.twin}
            yield result


def _in_fork(tool: str, body: Body, case: Any) -> dict[str, Any]:
    """Return what a tool says in a fork of this process, "no verdict" if it fails."""
    file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - the fork writes it
    output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - as above
    pid = os.fork()
    if not pid:
        _answer(tool, body, case, file.fileno(), output.fileno())
    end = time.monotonic() + ENOUGH
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            break
        time.sleep(0.05)
    file.seek(0)
    text = file.read()
    result: dict[str, Any] = json.loads(text) if text else {"verdict": "no verdict"}
    if result.get("verdict") == "error":
        output.seek(0)
        print(output.read().decode(errors="replace")[-2000:], file=sys.stderr)
    return result


def _answer(tool: str, body: Body, case: Any, file: int, output: int) -> None:
    """Write what a tool says to a file, and end the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    start = used.ru_utime + used.ru_stime
    soft = int(start) + LIMIT
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft))
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    global _OUTPUT  # noqa: PLW0603 - one measurement a process
    _OUTPUT = output
    try:
        answer = TOOLS[tool](body, case)
        result = _judge(answer, case)
    except _NotItsJobError:
        result = {"verdict": "not its job"}
    except BaseException as error:  # of any tool
        traceback.print_exc()
        result = {"verdict": "error", "text": f"{type(error).__name__}: {error}"}
    used = resource.getrusage(resource.RUSAGE_SELF)
    result["cpu_seconds"] = round(used.ru_utime + used.ru_stime - start, 2)
    os.write(file, json.dumps(result).encode())
    os._exit(0)  # threads and tasks are still there


_OUTPUT = 1


def _printed() -> str:
    sys.stdout.flush()
    os.lseek(_OUTPUT, 0, os.SEEK_SET)
    with os.fdopen(os.dup(_OUTPUT), "rb") as file:
        return file.read().decode(errors="replace")


def _judge(answer: Answer, case: Any) -> dict[str, Any]:
    """Return whether a report says that it leaks, in which line, and what holds it."""
    place = re.compile(rf"{_CASES}\.py\b.{{0,12}}\b{case.line}\b")
    return {
        "verdict": "leak" if answer.leaks else "clean",
        # what a report says besides its verdict is no finding
        "line": answer.leaks and bool(place.search(answer.text)),
        "holder": bool(case.holder) and case.holder in answer.holder,
        "text": answer.text[:4000],
    }


def make_table(results: Results) -> str:
    """Return the tables as Markdown."""
    cases = import_module(f"benchmarks.{_CASES}").CASES
    tools = [tool for tool in TOOLS if any(tool == one for one, _, _ in results)]
    lines = ["| leak | its twin | " + " | ".join(tools) + " |"]
    lines.append("|---|---|" + "---|" * len(tools))
    for case in cases:
        cells = [_cell(results, tool, case.kind) for tool in tools]
        lines.append(f"| {case.kind} | {case.twin_is} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_summary(results, tools, cases)])


def _cell(results: Results, tool: str, kind: str) -> str:
    leak, twin = (results.get((tool, kind, is_twin)) for is_twin in (False, True))
    if leak is None or twin is None:
        return "not measured"
    if leak["verdict"] == "not its job":
        return "not its job"
    named = [name for name in ("line", "holder") if leak.get(name)]
    words = {"leak": "finds it", "clean": "**misses it**"}
    verdict = str(leak["verdict"])
    parts = [", ".join([words.get(verdict, verdict), *named])]
    if twin["verdict"] != "clean":
        wrong = twin["verdict"] == "leak"
        parts.append("**cries wolf**" if wrong else f"twin: {twin['verdict']}")
    return "; ".join(parts)


def _summary(
    results: Results, tools: Sequence[str], cases: Sequence[Any]
) -> Iterator[str]:
    held = {case.kind for case in cases if case.holder}
    yield "| tool | finds | cries wolf | line | holder | CPU seconds, median | most |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for tool in tools:
        mine = [r for r in results.values() if r["tool"] == tool]
        mine = [r for r in mine if r["verdict"] != "not its job"]
        leaks = [r for r in mine if not r["is_twin"]]
        twins = [r for r in mine if r["is_twin"]]
        of_held = [r for r in leaks if r["kind"] in held]
        seconds = [r.get("cpu_seconds", float(LIMIT)) for r in mine]
        figures = [
            f"{sum(r['verdict'] == 'leak' for r in leaks)} of {len(leaks)}",
            f"{sum(r['verdict'] == 'leak' for r in twins)} of {len(twins)}",
            f"{sum(bool(r.get('line')) for r in leaks)} of {len(leaks)}",
            f"{sum(bool(r.get('holder')) for r in of_held)} of {len(of_held)}",
            f"{median(seconds):.1f}",
            f"{max(seconds):.1f}",
        ]
        yield f"| {tool} | " + " | ".join(figures) + " |"


def _run(tool: str, words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Run ``measure`` in a process with the allocator that psleak requires."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if tool == "psleak":
        environment["PYTHONMALLOC"] = "malloc"
    command = [sys.executable, "-m", "benchmarks.other_tools", "--measure", tool]
    command += ["--kinds", *words]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def main() -> None:
    """Measure with each tool in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tools", nargs="+", default=[*TOOLS], choices=TOOLS)
    parser.add_argument("--kinds", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--output", type=Path, help="add the results to this JSON file")
    parser.add_argument("--measure", choices=TOOLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        for result in measure(options.measure, options.kinds):
            print(json.dumps(result), flush=True)
        return
    results: dict[tuple[str, str, bool], dict[str, Any]] = {}
    if options.output and options.output.exists():
        known = json.loads(options.output.read_text("utf-8"))
        results = {_key(result): result for result in known}
    for tool in options.tools:
        for result in _run(tool, options.kinds):
            results[_key(result)] = result
            if options.output:
                text = json.dumps([*results.values()], indent=1)
                options.output.write_text(f"{text}\n", "utf-8")
    print(make_table(results))


def _key(result: dict[str, Any]) -> tuple[str, str, bool]:
    return result["tool"], result["kind"], result["is_twin"]


if __name__ == "__main__":
    main()
