"""Record what our own loop reads, as traces on which the judge can be run again.

    python -m benchmarks.record [BODY.py] [--out FILE] [--only WORD] [--iterations N]

BODY.py is a module with functions named ``leaky_...`` and ``clean_...``; each is one
iteration, and its name says whether it leaks. Each is recorded in a new process that
imports the module: 5 iterations of warm-up, N measured, and N more as a confirmation.
Without BODY.py, the bodies in ``tests/quality/recorded`` are recorded. Traces of the
same name in FILE are replaced, others are kept. ``benchmarks/README.md`` describes the
format.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import cache
from importlib.util import module_from_spec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import decide
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import judge
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.run.confirm import go_on
from pytest_tfleak.run.confirm import note_kept
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Verdict

ROOT = Path(__file__).parents[1]
OURS = ROOT / "tests" / "quality" / "recorded" / "bodies.py"
SCHEMA = 1
TRUTHS = {"leaky": "leak", "clean": "clean"}

Series = Sequence[int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One trace, and whether it leaks: ``truth`` is ``"leak"`` or ``"clean"``.

    Each signal has ``warmup`` readings, then twice ``iterations``. The other fields are
    as in ``Trace``.
    """

    name: str
    truth: str
    versions: Mapping[str, str]
    warmup: int
    iterations: int
    left: Mapping[str, int]
    units: Mapping[str, str]
    series: Mapping[str, Series]
    collected: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, float] = field(default_factory=dict)

    def to_line(self) -> str:
        """Return the recording as a line of JSON; a constant series is one number."""
        signals = {
            name: {"unit": self.units[name], "series": _shortened(series)}
            for name, series in self.series.items()
        }
        fields = {
            "schema": SCHEMA,
            "name": self.name,
            "truth": self.truth,
            "versions": dict(self.versions),
            "warmup": self.warmup,
            "iterations": self.iterations,
            "left": dict(self.left),
            "collected": dict(self.collected),
            "kept": dict(self.kept),
            "signals": signals,
        }
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Recording:
        """Return the recording that ``to_line`` was called on.

        Raises ValueError for a schema that this version does not read.
        """
        fields: dict[str, Any] = json.loads(line)
        if fields.pop("schema", None) != SCHEMA:
            raise ValueError(f"not a recording of schema {SCHEMA}: {line[:60]}")
        signals = fields.pop("signals")
        rows = fields["warmup"] + 2 * fields["iterations"]
        return cls(
            units={name: signal["unit"] for name, signal in signals.items()},
            series={
                name: _at_length(signal["series"], rows)
                for name, signal in signals.items()
            },
            **fields,
        )


def _shortened(series: Series) -> int | list[int | None]:
    first = series[0]
    if first is not None and all(value == first for value in series):
        return first
    return list(series)


def _at_length(series: int | Series, rows: int) -> Series:
    return [series] * rows if isinstance(series, int) else series


def read_recordings(path: Path) -> list[Recording]:
    """Return the recordings of a file."""
    return [Recording.from_line(line) for line in path.read_text("utf-8").splitlines()]


def write_recordings(path: Path, recordings: Iterable[Recording]) -> None:
    """Write recordings to a file, and keep those of other names in it."""
    known = read_recordings(path) if path.exists() else []
    kept = {recording.name: recording for recording in known}
    kept |= {recording.name: recording for recording in recordings}
    text = "".join(recording.to_line() + "\n" for recording in kept.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def record(
    name: str,
    truth: str,
    body: Callable[[], object],
    plan: Plan,
    more_probes: Sequence[Probe] = (),
) -> Recording:
    """Run a body in our own loop, with confirmation, and return what was read."""
    census = Census(plan.ignore)
    probes = [*make_probes(census), *more_probes]
    loop = Loop(body, plan, probes, census)
    with loop:
        loop.warm_up()
        loop.measure()
        base, _ = go_on(loop, plan)
        note_kept(loop, loop.trace, base, loop.trace.confirmed)
        left = _left(loop, census, probes)
    trace = loop.trace
    freed = trace.collected[trace.measured]
    series = {signal.name: trace.series(signal.name) for signal in trace}
    series = {name: read for name, read in series.items() if any_read(read)}
    return Recording(
        name=name,
        truth=truth,
        versions=_versions(),
        warmup=trace.warmed_up,
        iterations=trace.judged // 2,
        left=left,
        units={signal.name: signal.unit for signal in trace if signal.name in series},
        series=series,
        collected={n: v for n, v in freed.items() if n in series},
        kept={n: v for n, v in trace.kept.items() if n in series},
    )


def any_read(series: Series) -> bool:
    """Return whether a series contains any reading."""
    return any(value is not None for value in series)


def _left(loop: Loop, census: Census, probes: Sequence[Probe]) -> dict[str, int]:
    loop.clear()
    census.take()
    counts = {
        signal: len(objects)
        for probe in probes
        for signal, objects in probe.still_there().items()
    }
    census.release()
    return counts


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("tensorflow", "keras"):
        if hasattr(sys.modules.get(name), "__version__"):
            versions[name] = sys.modules[name].__version__
    return versions


def judge_recording(recording: Recording, plan: Plan) -> Verdict:
    """Judge a recording as a run would: confirm only growth that looks suspicious."""
    known = built_in_signals()
    signals = [
        known.get(name) or _signal(name, recording.units[name])
        for name in recording.series
    ]
    trace = Trace(signals, recording.warmup, 2 * recording.iterations)
    for column, series in enumerate(recording.series.values()):
        for row, value in enumerate(series):
            if value is not None:
                trace.buffer[row * trace.width + column] = value
    trace.warmed_up, trace.measured = recording.warmup, recording.iterations
    if is_suspicious(trace, plan):
        trace.confirmed = recording.iterations
        trace.collected[trace.measured] = dict(recording.collected)
        trace.kept.update(recording.kept)
    trace.left.update(recording.left)
    judged = judge(trace, plan)
    grounds = Grounds(
        nodeid=recording.name, plan=plan, judged=judged, findings=judged.findings
    )
    return decide(grounds)


@cache
def built_in_signals() -> Mapping[str, Signal]:
    """Return the signals of the built-in probes by name, with today's allowances."""
    probes = make_probes(Census())
    signals = {signal.name: signal for probe in probes for signal in probe.signals()}
    return MappingProxyType(signals)


def _signal(name: str, unit: str) -> Signal:
    gpu = name.startswith("gpu.allocator[")
    return Signal(name=name, unit=unit, allowance="gpu_per_iteration" if gpu else None)


def load_bodies(path: Path) -> dict[str, Callable[[], object]]:
    """Import a module of bodies; return them by name, in the order of the file."""
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python module")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return {
        name: body
        for name, body in vars(module).items()
        if name.partition("_")[0] in TRUTHS and callable(body)
    }


def record_alone(path: Path, name: str, iterations: int) -> Recording:
    """Record one body in a new process."""
    command = [sys.executable, "-m", "benchmarks.record", str(path.absolute())]
    command += ["--alone", name, "--iterations", str(iterations)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    return Recording.from_line(run.stdout.splitlines()[-1])


def main() -> None:
    """Record the bodies that the command line names, and print their verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("body", nargs="?", type=Path, default=OURS, metavar="BODY.py")
    parser.add_argument("--out", type=Path, help="default: beside BODY.py, as .jsonl")
    parser.add_argument("--only", default="", help="bodies whose name holds this")
    parser.add_argument("--iterations", type=int, default=Plan().iterations)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = Plan(iterations=options.iterations, max_time=None)
    if options.alone:
        name = options.alone
        body = load_bodies(options.body)[name]
        truth = TRUTHS[name.partition("_")[0]]
        print("\n" + record(name, truth, body, plan).to_line())
        return
    out = options.out or options.body.with_suffix(".jsonl")
    names = [name for name in load_bodies(options.body) if options.only in name]
    for name in names:
        recording = record_alone(options.body, name, options.iterations)
        write_recordings(out, [recording])
        verdict = judge_recording(recording, plan)
        found = ", ".join(finding.signal for finding in verdict.findings)
        print(f"{name:32} {verdict.status.value:12} {found or verdict.detail or ''}")


if __name__ == "__main__":
    main()
