"""Compare what messages say of leaks with what the cases state of themselves.

    python benchmarks/corpus.py DIR --isolated --only=-leaky --json REPORT.json
    python benchmarks/explanations.py DIR REPORT.json... [--whole]

``DIR`` holds cases with the keys of ``cases/README.md``. The kind is right if it is the
case's, or one of those that pile up with it; a line is right if it has the comment that
``META`` names. Holder, cause and remedy are for a reader to judge: the case's own words
are printed above those of the message.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Verdict

_NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Case:
    """What a case says of itself."""

    number: int  # in the order of the names, from 1
    file: Path
    states: dict[str, str]

    @property
    def name(self) -> str:
        """Return its name in reports."""
        return self.file.stem

    def is_kind(self, kind: str) -> bool:
        """Return whether a type, given by its last name, is what piles up."""
        also = self.states.get("also", "")
        return kind in {self.states["kind"], *re.split(r",\s*", also)}

    def is_line(self, key: str, line: Origin | None) -> bool | None:
        """Return whether a line has the comment that is named; None if none has it."""
        comment = f"# {self.states[key]}"
        texts = self.file.read_text("utf-8").splitlines()
        right = {n for n, text in enumerate(texts, 1) if comment in text}
        if not right:
            return None
        return (
            line is not None
            and Path(line.file).resolve() == self.file
            and line.line in right
        )


def main() -> None:
    """Print each case, and the shares that are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--whole", action="store_true", help="no odd and even halves")
    options = parser.parse_args()
    cases = read_cases(options.folder)
    verdicts = read(options.reports)
    marks = [(case.number, show(case, verdicts[case.name])) for case in cases]
    halves = [("for tuning (odd)", {1}), ("not for tuning (even)", {0})]
    for words, parities in [("all", {0, 1})] if options.whole else halves:
        print(f"\n{words}")
        chosen = [mark for number, mark in marks if number % 2 in parities]
        for key in ("found", "kind", "made at", "stored at"):
            values = [mark[key] for mark in chosen if mark.get(key) is not None]
            print(f"  {key:10} {sum(map(bool, values))} of {len(values)}")


def read_cases(folder: Path) -> list[Case]:
    """Return the cases of a folder by name, which are numbered from 1."""
    files = sorted(path.resolve() for path in folder.glob("*.py"))
    stated = [(file, states) for file in files if (states := read_meta(file))]
    return [Case(n, file, states) for n, (file, states) in enumerate(stated, 1)]


def read_meta(file: Path) -> dict[str, str]:
    """Return what ``META = dict(...)`` says, {} if there is none. Run no code."""
    for node in ast.parse(file.read_text("utf-8")).body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id="META")], value=ast.Call(keywords=words)
            ):
                return {str(w.arg): ast.literal_eval(w.value) for w in words}
    return {}


def read(reports: Iterable[Path]) -> dict[str, Verdict]:
    """Return the verdicts on the leaking variants, by case."""
    verdicts: dict[str, Verdict] = {}
    for report in reports:
        for entry in json.loads(report.read_text("utf-8"))["tests"]:
            match = re.search(r"\[(.+)-leaky\]$", entry["nodeid"])
            if match is not None:
                verdicts[match[1]] = Verdict.from_dict({**entry, "schema": 1})
    return verdicts


def show(case: Case, verdict: Verdict) -> dict[str, bool | None]:
    """Print what a case states and what the message says; return what is right."""
    print(f"\n{case.number} {case.name}: {verdict.status.value}")
    findings = ordered(verdict.failing)
    if not findings:
        return {"found": False}
    lead = findings[0]
    marks = judge(case, lead)
    print("  " + ", ".join(f"{key}: {_word(mark)}" for key, mark in marks.items()))
    for key in ("kind", "holder", "made_at", "stored_at", "fix"):
        print(f"  {key + ', stated':18} {case.states.get(key, '-')}")
    said = {
        "kind": lead.kind or lead.signal,
        "holder": " > ".join(edges_of(lead.path)) if lead.path else "-",
        "made at": _place(lead.origin),
        "stored at": _place(lead.stored),
        "cause": f"{lead.cause}: {lead.why}",
        "remedy": lead.advice or "-",
    }
    for key, value in said.items():
        print(f"  {key + ', said':18} {value}")
    for other in findings[1:]:
        print(f"  {'also':18} {other.signal} {other.kind} {_place(other.line)}")
    return marks


def judge(case: Case, lead: Finding) -> dict[str, bool | None]:
    """Return what is right; None for what the case does not have."""
    kind = (lead.kind or "").rpartition(".")[2]
    is_native = case.states["kind"] == _NATIVE
    memory = lead.signal.startswith("host.") and not kind
    return {
        "found": True,
        "kind": memory if is_native else case.is_kind(kind),
        "made at": case.is_line("made_at", lead.origin),
        "stored at": case.is_line("stored_at", lead.stored),
    }


def _word(mark: bool | None) -> str:
    return {True: "right", False: "WRONG", None: "not stated"}[mark]


def _place(line: Origin | None) -> str:
    return "-" if line is None else f"{Path(line.file).name}:{line.line} {line.text}"


if __name__ == "__main__":
    main()
