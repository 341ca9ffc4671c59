"""Run a folder of leaks and their fixed twins as ordinary tests under the plugin.

    python benchmarks/corpus.py DIR [--isolated] [--shuffle SEED] [--only WORD]
        [--json FILE] [--pytest ARGUMENTS]

A case is a module with a docstring, ``META``, and ``leaky(state)`` or ``clean(state)``,
each one iteration; ``setup()`` makes the state, ``teardown(state)`` ends it. A body may
raise on purpose. ``META["status"]`` says whether the case leaks: ``leaks today…``,
``fixed…``, ``plateau…`` or ``control``; cases of any other status are run, not scored.
Prints a table of what was found, by which signal, and what was wrong.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CASES = """
import importlib.util
import json
import os
import random
import sys
from pathlib import Path

import pytest

CASES = json.loads(os.environ["TFLEAK_CASES"])


def load(path):
    name = "case_" + Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


# not torn down between iterations: a case has one state for all of them
@pytest.fixture(scope="module")
def case(request):
    path, variant = request.param
    module = load(path)
    state = module.setup() if hasattr(module, "setup") else None
    yield getattr(module, variant), state
    if hasattr(module, "teardown"):
        module.teardown(state)


@pytest.mark.parametrize(
    "case", CASES, indirect=True, ids=["-".join([Path(p).stem, v]) for p, v in CASES]
)
@pytest.mark.tfleak
def test_case(case):
    body, state = case
    try:
        body(state)
    except Exception:
        pass
"""

CONFTEST = """
import json
import os
import sys

import pytest

STATUS = []


def pytest_sessionfinish(exitstatus):
    STATUS.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    # TensorFlow waits forever for some of the iterators that leaked
    sys.stdout.flush()
    os._exit(STATUS[0])


def pytest_runtest_logreport(report):
    for verdict in getattr(report, "tfleak", []):
        with open(os.environ["TFLEAK_VERDICTS"], "a") as out:
            out.write(json.dumps(verdict) + "\\n")
"""


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--isolated", action="store_true", help="a process for each")
    parser.add_argument("--shuffle", type=int, metavar="SEED")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--pytest", default="", help="arguments for pytest, as text")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all verdicts")
    options = parser.parse_args()
    found = find_cases(options.folder)
    cases = [case for case in found if options.only in "-".join(case)]
    if options.shuffle is not None:
        import random

        random.Random(options.shuffle).shuffle(cases)
    groups = [[case] for case in cases] if options.isolated else [cases]
    verdicts: list[dict[str, Any]] = []
    for group in groups:
        verdicts += run(group, options.pytest.split())
        if options.json:  # after each process: a run of an hour may be cut short
            options.json.write_text(json.dumps({"tests": verdicts}))
    report(cases, verdicts)


def find_cases(folder: Path) -> list[tuple[str, str]]:
    """Return (path, variant) for each variant of each case."""
    cases: list[tuple[str, str]] = []
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        if "META" in _assigned(tree):
            cases += [(str(path), v) for v in ("leaky", "clean") if v in names]
    return cases


def status_of(path: str) -> str:
    """Return META["status"] of a case without importing it."""
    meta = _assigned(ast.parse(Path(path).read_text())).get("META")
    keywords = meta.keywords if isinstance(meta, ast.Call) else []
    for keyword in keywords:
        if keyword.arg == "status" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return "control"


def expected(path: str, variant: str) -> str | None:
    """Return "leak" or "clean", None for a case that is not scored."""
    status = status_of(path)
    if status.startswith("leaks today"):
        return "leak" if variant == "leaky" else "clean"
    if status.startswith(("fixed", "plateau", "control")):
        return "clean"
    return None


def run(cases: list[tuple[str, str]], arguments: list[str]) -> Iterator[dict[str, Any]]:
    """Run cases in one pytest process; yield their verdicts, as dicts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_cases.py").write_text(CASES)
        Path(folder, "conftest.py").write_text(CONFTEST)
        out = Path(folder, "verdicts.jsonl")
        environment = os.environ | {
            "TFLEAK_CASES": json.dumps([(str(Path(p).resolve()), v) for p, v in cases]),
            "TFLEAK_VERDICTS": str(out),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", *arguments]
        done = subprocess.run(
            [*command, folder],
            env=environment,
            capture_output=True,
            check=False,
            text=True,
        )
        lines = out.read_text().splitlines() if out.exists() else []
        if done.returncode not in (0, 1) or not lines:
            sys.exit(done.stdout[-4000:] + done.stderr[-4000:])
        yield from map(json.loads, lines)


def report(cases: list[tuple[str, str]], verdicts: list[dict[str, Any]]) -> None:
    """Print a line for each case, and the totals."""
    by_id = {v["nodeid"].rpartition("[")[2].rstrip("]"): v for v in verdicts}
    signals: Counter[str] = Counter()
    sums: Counter[tuple[str, str]] = Counter()
    for path, variant in cases:
        name = f"{Path(path).stem}-{variant}"
        verdict = by_id.get(name, {"status": "missing", "findings": [], "detail": None})
        found = [finding["signal"] for finding in verdict["findings"]]
        wanted = expected(path, variant)
        status = verdict["status"]
        if status == "clean" and any(f.get("known") for f in verdict["findings"]):
            status = "known"  # TensorFlow's own growth
        right = {"leak": {"leak", "known"}, "clean": {"clean"}, None: {status}}
        wrong = status not in right[wanted]
        signals.update(found)
        sums[wanted or "not scored", status] += 1
        figures = ", ".join(
            f"{f['signal']} {f['per_iteration'] or f['total']:+.6g}"
            for f in verdict["findings"]
        )
        mark = "WRONG" if wrong else "     "
        detail = figures or verdict["detail"] or ""
        print(f"{mark} {name:45} {wanted or '-':6} {status:13} {detail}")
    print()
    for (wanted_status, status), count in sorted(sums.items()):
        print(f"{wanted_status:11} {status:13} {count}")
    print("found by:", ", ".join(f"{n} {c}" for n, c in signals.most_common()))


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


if __name__ == "__main__":
    main()
