"""Run tests of context managers, and compare messages with what the tests state.

    python benchmarks/managers.py FOLDER [--json FILE] [--pytest ARGUMENTS]

``FOLDER`` holds tests whose module states in ``LEAKS`` what those that leak leave; the
others are right. ``--json`` keeps the report, or has it read if it is there. A test is
told right if the verdict is; of one that leaks, the signal, the kind, the line and the
cause of the first finding are judged, too: the line is that where it was made or
stored, or a caller's.
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
from dataclasses import dataclass
from pathlib import Path

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding

MARKS = ("verdict", "signal", "kind", "line", "cause")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a test states of itself."""

    name: str
    file: Path
    leak: dict[str, str]  # empty if it is right

    @property
    def lines(self) -> set[int]:
        """Return the lines of which a message may name one."""
        texts = self.file.read_text("utf-8").splitlines()
        comment = f"# left: {self.name}"
        return {n for n, text in enumerate(texts, 1) if text.strip().endswith(comment)}


def main() -> None:
    """Print each test, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report")
    parser.add_argument("--pytest", default="", help="arguments for pytest, as text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = options.json or Path(folder, "report.json")
        if not report.exists():
            run(options.folder, report, options.pytest.split())
        verdicts = read(report)
    right: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for stated in read_stated(options.folder):
        marks = judge(stated, verdicts[stated.name])
        count.update(marks.keys())
        right.update(name for name, mark in marks.items() if mark)
        show(stated, verdicts[stated.name], marks)
    for name in MARKS:
        print(f"{name:8} {right[name]} of {count[name]}")


def run(folder: Path, report: Path, arguments: list[str]) -> None:
    """Run the tests of a folder in one process."""
    command = [sys.executable, "-m", "pytest", "-q", f"--tfleak-json={report}"]
    done = subprocess.run(
        [*command, *arguments, str(folder)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        check=False,
        text=True,
    )
    if not report.exists():
        sys.exit(done.stdout[-4000:] + done.stderr[-4000:])


def read(report: Path) -> dict[str, Verdict]:
    """Return the verdicts by the names of the tests."""
    document = json.loads(report.read_text("utf-8"))
    verdicts = [Verdict.from_dict({**one, "schema": 1}) for one in document["tests"]]
    return {verdict.nodeid.rpartition("::")[2]: verdict for verdict in verdicts}


def read_stated(folder: Path) -> Iterator[Stated]:
    """Yield what the tests of a folder state, in their order. Run no code."""
    for file in sorted(folder.glob("test_*.py")):
        body = ast.parse(file.read_text("utf-8")).body
        leaks: dict[str, dict[str, str]] = {}
        for node in body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "LEAKS":
                leaks = ast.literal_eval(node.value) if node.value else {}
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield Stated(node.name, file.resolve(), leaks.get(node.name, {}))


def judge(stated: Stated, verdict: Verdict) -> dict[str, bool]:
    """Return what is right."""
    wanted = Status.LEAK if stated.leak else Status.CLEAN
    marks = {"verdict": verdict.status is wanted}
    if not stated.leak:
        return marks
    lead = next(iter(ordered(verdict.failing)), None)
    if lead is None:
        return marks | dict.fromkeys(MARKS[1:], False)
    words = f"{lead.kind} {lead.what} {lead.path}"
    return marks | {
        "signal": lead.signal == stated.leak["signal"],
        "kind": any(kind in words for kind in stated.leak["kind"].split(",")),
        "line": not stated.lines.isdisjoint(_lines(stated, lead)),
        "cause": lead.cause in stated.leak["cause"].split(","),
    }


def show(stated: Stated, verdict: Verdict, marks: dict[str, bool]) -> None:
    """Print what a message says, and what is wrong with it."""
    wrong = [name for name, mark in marks.items() if not mark]
    mark = f"WRONG {', '.join(wrong)}" if wrong else ""
    print(f"{stated.name:34} {verdict.status.value:13} {mark}")
    for lead in ordered(verdict.failing)[:1]:
        line = lead.origin or lead.stored
        place = "-" if line is None else f"{line.line} {line.text}"
        print(f"    {lead.signal} | {lead.kind} | {lead.cause} | {place}")
    if not verdict.failing and wrong:
        print(f"    {verdict.detail}")


def _lines(stated: Stated, lead: Finding) -> Iterator[int]:
    for line in (lead.origin, lead.stored, *lead.stack):
        if line is not None and Path(line.file).resolve() == stated.file:
            yield line.line


if __name__ == "__main__":
    main()
