"""Run the judge, and the rules of other tools, over recorded and simulated traces.

    python -m benchmarks.replay [DIR] [--truth CORPUS] [--iterations N] [--warmup N]
    python -m benchmarks.replay --simulated [--trials N] [--iterations N]

DIR contains ``*.jsonl`` files with one trace per line: a list of readings for each
signal, one per iteration, and ``test``, or ``case`` and ``variant``. A test is clean;
whether a case leaks is in the ``META["status"]`` of its file in CORPUS. A trace is
judged as a run would be: the first look, and the confirmation only if it is needed and
was recorded. The other tools' rules see the readings of both looks. Prints tables in
Markdown, which do not depend on the machine.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.rivals import RIVALS
from pytest_tfleak.judge import allowance_of
from pytest_tfleak.plan import Plan
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Status
from tests.quality.simulate import BLOCKS
from tests.quality.simulate import CLEAN
from tests.quality.simulate import EMPTIED
from tests.quality.simulate import FALLING
from tests.quality.simulate import HEAP
from tests.quality.simulate import LEAKS
from tests.quality.simulate import RSS
from tests.quality.simulate import TENSORS
from tests.quality.simulate import look_twice
from tests.quality.simulate import readings_of

#: The signals in the columns of recorded traces.
SIGNALS = {
    "heap": HEAP,
    "rss": RSS,
    "blocks": BLOCKS,
    "objects": make_signal("python.objects"),
    "threads": make_signal("process.threads"),
    "fds": make_signal("process.fds"),
}
OURS = "pytest-tfleak"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The columns of one trace, and whether it leaks, None if unknown."""

    name: str
    leaks: bool | None
    columns: Mapping[Signal, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdicts on one recording: by rule, the signals that it accuses."""

    recording: Recording
    status: Status
    accused: Mapping[str, frozenset[str]]


def read_recordings(folder: Path, truth: Path | None) -> Iterable[Recording]:
    """Yield the recordings of a folder."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            columns = {SIGNALS[key]: row[key] for key in SIGNALS if key in row}
            case = row.get("case")
            if case is None:
                yield Recording(name=row["test"], leaks=False, columns=columns)
                continue
            status = _status(truth / f"{case}.py") if truth else None
            name = f"{case} {row['variant']}"
            leaks = _leaks(status, row["variant"])
            yield Recording(name=name, leaks=leaks, columns=columns)


def _status(path: Path) -> str:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "META":
            return _status_of(node.value)
    return ""


def _status_of(meta: ast.expr) -> str:
    """Return the status in ``dict(status=...)`` or ``{"status": ...}``."""
    pairs: list[tuple[Any, ast.expr]] = []
    if isinstance(meta, ast.Call):
        pairs = [(keyword.arg, keyword.value) for keyword in meta.keywords]
    elif isinstance(meta, ast.Dict):
        pairs = [
            (key.value, value)
            for key, value in zip(meta.keys, meta.values, strict=True)
            if isinstance(key, ast.Constant)
        ]
    found = [ast.literal_eval(value) for key, value in pairs if key == "status"]
    return str(found[0]) if found else ""


def _leaks(status: str | None, variant: str) -> bool | None:
    if status is None:
        return None
    if status.startswith("leaks today"):
        return variant == "leaky"
    if status == "" or status.startswith(("fixed", "plateau", "control")):
        return False
    return None


def decide(recording: Recording, plan: Plan) -> Outcome:
    """Return the verdicts of the judge and the other rules on a recording."""
    verdict = look_twice(recording.columns, plan)
    accused = {OURS: frozenset(finding.signal for finding in verdict.findings)}
    trace = Trace(tuple(recording.columns), 0, 0)
    for rule, finds in RIVALS.items():
        found = set()
        for signal, readings in recording.columns.items():
            judged = readings[plan.warmup :][: 2 * plan.iterations]
            allowance = allowance_of(signal, trace, plan)
            if signal is RSS and HEAP in recording.columns:
                allowance = None  # without readings, no rule has an allowance
            if allowance is not None and finds(judged, allowance, signal.unit):
                found.add(signal.name)
        accused[rule] = frozenset(found)
    return Outcome(recording=recording, status=verdict.status, accused=accused)


def print_rules(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each rule, with leaks found and false alarms."""
    leaks = [outcome for outcome in outcomes if outcome.recording.leaks]
    clean = [outcome for outcome in outcomes if outcome.recording.leaks is False]
    print(f"| rule | leaks found, of {len(leaks)} | false alarms, of {len(clean)} |")
    print("|---|---|---|")
    for rule in (OURS, *RIVALS):
        hits = sum(bool(outcome.accused[rule]) for outcome in leaks)
        alarms = sum(bool(outcome.accused[rule]) for outcome in clean)
        print(f"| {rule} | {_share(hits, leaks)} | {_share(alarms, clean)} |")
    print()


def print_signals(outcomes: Sequence[Outcome]) -> None:
    """Print which signals found the leaks, what was missed, and false alarms."""
    hits: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.recording.leaks is not None:
            (hits if outcome.recording.leaks else alarms).update(outcome.accused[OURS])
    print("| signal | leaks that it found | false alarms |")
    print("|---|---|---|")
    for name in sorted(hits | alarms):
        print(f"| {name} | {hits[name]} | {alarms[name]} |")
    print()
    for outcome in outcomes:
        wrong = outcome.recording.leaks is not None and (
            outcome.status != (Status.LEAK if outcome.recording.leaks else Status.CLEAN)
        )
        if wrong:
            kind = "leak" if outcome.recording.leaks else "clean"
            print(f"- {outcome.recording.name}: {kind}, judged {outcome.status.value}")
    print()


def _share(count: int, outcomes: Sequence[Outcome]) -> str:
    return f"{count} ({count / len(outcomes):.2%})" if outcomes else "-"


def simulate(plan: Plan, trials: int) -> Iterable[tuple[str, list[Outcome]]]:
    """Yield the outcomes of each family of simulated traces, over all its signals."""
    groups = ((False, CLEAN), (True, LEAKS), (True, FALLING), (None, EMPTIED))
    for leaks, families in groups:
        for family in families:
            outcomes = []
            for signal in (HEAP, BLOCKS, TENSORS):
                if signal is TENSORS and family.__name__ in NOT_OF_COUNTS:
                    continue
                for trial in range(trials):
                    rng = Random(f"{family.__name__} {signal.name} {trial}")
                    readings = readings_of(family, signal, rng, plan)
                    name, columns = f"{family.__name__} {trial}", {signal: readings}
                    recording = Recording(name=name, leaks=leaks, columns=columns)
                    outcomes.append(decide(recording, plan))
            yield family.__name__, outcomes


#: Any growth of a count is a leak, so there is no clean drift.
NOT_OF_COUNTS = frozenset({"clean_drift", "drift_and_steps"})


def print_families(families: Sequence[tuple[str, Sequence[Outcome]]]) -> None:
    """Print a line for each family, with how often each rule finds a leak in it."""
    print("| family | traces | " + " | ".join((OURS, *RIVALS)) + " |")
    print("|---|" + "---|" * (len(RIVALS) + 2))
    for name, outcomes in families:
        shares = (
            sum(bool(outcome.accused[rule]) for outcome in outcomes) / len(outcomes)
            for rule in (OURS, *RIVALS)
        )
        row = " | ".join(f"{share:.2%}" for share in shares)
        print(f"| {name} | {len(outcomes)} | {row} |")
    print()


def main() -> None:
    """Print the tables that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR")
    parser.add_argument("--truth", type=Path, metavar="CORPUS")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--trials", type=int, default=300)
    options = parser.parse_args()
    if options.folder is None and not options.simulated:
        parser.error("give DIR, --simulated or both")
    if options.folder is not None:
        plan = Plan(iterations=options.iterations or 20, warmup=options.warmup)
        recordings = read_recordings(options.folder, options.truth)
        outcomes = [decide(recording, plan) for recording in recordings]
        print(
            f"Recorded traces, {plan.iterations} iterations, {len(outcomes)} traces\n"
        )
        print_rules(outcomes)
        print_signals(outcomes)
    if options.simulated:
        plan = Plan(iterations=options.iterations or 50)
        families = list(simulate(plan, options.trials))
        print(f"Simulated traces, {plan.iterations} iterations\n")
        print_rules([outcome for _, outcomes in families for outcome in outcomes])
        print_families(families)


if __name__ == "__main__":
    main()
