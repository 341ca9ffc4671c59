"""Measure how often the diagnosis names the right holder, line and cause.

    python benchmarks/corpus.py DIR --only=-leaky --pytest "--tfleak-json=FILE"
    python benchmarks/diagnosis.py DIR FILE... [--without FILE...]

Reads JSON reports of a run over a folder of leaks (``corpus.py`` says what a case is)
and prints, for each leaking case, what its message names first: kind, holder, line,
cause. A line is right if it is in the case's own file. Kind and cause are right if they
agree with ``diagnosis.json``: its signals are those that the cases themselves state
(three were added after a run), its causes were written by reading the cases.
``--without`` takes reports of the same cases with ``--tfleak-diagnose=off``; the
difference is the cost of the diagnosis.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from pytest_tfleak.known import find_known
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Verdict

RIGHT: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_suffix(".json").read_text("utf-8")
)
#: Causes of growth in C++ that no Python object holds.
_NATIVE = ("native-memory", "session-keeps-data", "tape-never-left")


def main() -> None:
    """Print the table and the shares that are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--without", type=Path, nargs="+", default=())
    options = parser.parse_args()
    files = {path.stem: path.resolve() for path in options.folder.rglob("*.py")}
    verdicts = read(options.reports)
    sums = dict.fromkeys(("kind", "holder", "line", "cause"), (0, 0))
    for name in RIGHT:
        if name in verdicts:
            print_case(name, verdicts[name], files[name], sums)
    print()
    for what, (right, all_) in sums.items():
        print(f"{what:7} {right} of {all_} ({right / max(1, all_):.0%})")
    missing = [name for name in RIGHT if name not in verdicts]
    print("not in the reports:", ", ".join(missing) or "none")
    if options.without:
        print_cost(verdicts, read(options.without))


def read(reports: Iterable[Path]) -> dict[str, Verdict]:
    """Return the verdicts on the leaking cases, by name."""
    verdicts: dict[str, Verdict] = {}
    for report in reports:
        for entry in json.loads(report.read_text("utf-8"))["tests"]:
            match = re.search(r"\[(.+)-leaky\]$", entry["nodeid"])
            if match is not None and match[1] in RIGHT:
                verdicts[match[1]] = Verdict.from_dict({**entry, "schema": 1})
    return verdicts


def print_cost(verdicts: dict[str, Verdict], without: dict[str, Verdict]) -> None:
    """Print how many seconds the diagnosis took, by the time of an iteration."""
    costs: dict[str, list[float]] = {}
    for name in verdicts.keys() & without.keys():
        verdict = verdicts[name]
        found = "known growth, judged again" if verdict.known else "objects"
        if any(finding.native for finding in verdict.findings):
            found = "with memray"
        costs.setdefault(found, []).append(verdict.seconds - without[name].seconds)
    for found, seconds in sorted(costs.items()):
        print(
            f"{found}: {len(seconds)} cases, median {median(seconds):.1f} s, "
            f"longest {max(seconds):.1f} s"
        )


def print_case(
    name: str, verdict: Verdict, file: Path, sums: dict[str, tuple[int, int]]
) -> None:
    """Print one case, and count what is right in it."""
    findings = ordered(verdict.failing) or ordered(verdict.findings)
    if not findings:
        print(f"{name:40} {verdict.status.value}")
        return
    lead = findings[0]
    marks = judge(name, lead, findings, file)
    for what, mark in marks.items():
        if mark is not None:
            right, all_ = sums[what]
            sums[what] = right + mark, all_ + 1
    flags = "".join({True: "+", False: "-", None: "."}[mark] for mark in marks.values())
    holder = " > ".join(edges_of(lead.path) if lead.path else ["no holder"])
    line = f"{Path(lead.origin.file).name}:{lead.origin.line}" if lead.origin else "-"
    kind = (lead.kind or lead.signal).rpartition(".")[2]
    print(f"{flags} {name:38} {kind:18} {line:45} {lead.cause}")
    print(f"       {holder[:110]}")


def judge(
    name: str, lead: Finding, findings: list[Finding], file: Path
) -> dict[str, bool | None]:
    """Return what is right; None for what the case does not have."""
    right = RIGHT[name]
    causes = {finding.cause for finding in findings}
    is_known = lead.known is not None and find_known(lead.known) is not None
    is_native = is_known or bool(causes & set(_NATIVE))
    held = lead.path is not None and not lead.path.is_native
    return {
        "kind": (is_known and lead.known in right["causes"])
        or lead.signal in right["signals"],
        "holder": None if is_native and not held else held,
        "line": None
        if lead.accepted
        else lead.origin is not None and Path(lead.origin.file).resolve() == file,
        "cause": bool(causes & set(right["causes"])),
    }


if __name__ == "__main__":
    main()
