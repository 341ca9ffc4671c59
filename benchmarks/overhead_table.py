"""Print the results of ``overhead.py`` as Markdown.

python -m benchmarks.overhead_table benchmarks/results/overhead.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.overhead_start import RUNS


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown, with a table for each part."""
    parts = {
        "loops": (_loop_rows, _fixed_rows),
        "pytest": (_pytest_rows,),
        "psleak": (_psleak_rows,),
        "start": (_start_rows,),
    }
    tables = [
        "\n".join(rows(results[part]))
        for part, makers in parts.items()
        if results[part]
        for rows in makers
    ]
    return "\n\n".join(tables)


def _loop_rows(loops: dict[str, Any]) -> Iterator[str]:
    yield "| body | bare | our loop | added | of that, CPU time | naive loop | added |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, of_body in loops.items():
        row = [name, _milliseconds(of_body["bare"]["us"])]
        for kind in ("ours", "naive"):
            figures = of_body[kind]
            row += [_times(figures["ratio"]), _milliseconds(figures["added_us"])]
        row.insert(4, _milliseconds(of_body["ours_cpu_us"]))
        yield f"| {' | '.join(row)} |"


def _fixed_rows(loops: dict[str, Any]) -> Iterator[str]:
    yield f"| our fixed cost, ms of CPU time | {' | '.join(loops)} |"
    yield "|---|" + "--:|" * len(loops)
    fixed = [of_body["ours_fixed_cpu_ms"] for of_body in loops.values()]
    for step in fixed[0]:
        medians = [f"{spent[step]['median']:.1f}" for spent in fixed]
        yield f"| {step} | {' | '.join(medians)} |"


def _pytest_rows(bodies: dict[str, Any]) -> Iterator[str]:
    yield f"| one test in pytest: time, CPU time to bare | {' | '.join(bodies)} |"
    yield "|---|" + "--:|" * len(bodies)
    for mode in next(iter(bodies.values())):
        cells = [
            f"{by_mode[mode]['seconds']['median']:.2f} s, "
            f"{by_mode[mode]['cpu_ratio']['median']:,.2f}×"
            for by_mode in bodies.values()
        ]
        yield f"| {mode} | {' | '.join(cells)} |"


def _psleak_rows(bodies: dict[str, Any]) -> Iterator[str]:
    yield "| psleak | calls | time | per call, to bare | added | verdict |"
    yield "|---|--:|--:|--:|--:|---|"
    for name, asked in bodies.items():
        yield (
            f"| {name} | {asked['calls']} | {asked['seconds']:.1f} s "
            f"| {asked['ratio']:,.2f}× | {asked['added_us_per_call'] / 1e3:.2f} ms "
            f"| {asked['outcome']} |"
        )


def _start_rows(start: dict[str, Any]) -> Iterator[str]:
    yield "| pytest's start | with | without | added (quartiles) |"
    yield "|---|--:|--:|--:|"
    for run in RUNS:
        for what in ("wall_ms", "cpu_ms"):
            figures = start[run][what]
            added = figures["added"]
            yield (
                f"| {run}, {what[:-3]} | {figures['with']['median']:.0f} ms "
                f"| {figures['without']['median']:.0f} ms | {added['median']:.1f} ms "
                f"({added['lower']:.1f} to {added['upper']:.1f}) |"
            )


def _milliseconds(us: dict[str, float]) -> str:
    return f"{us['median'] / 1e3:.3f} ms ({us['min'] / 1e3:.3f}–{us['max'] / 1e3:.3f})"


def _times(ratio: dict[str, float]) -> str:
    if ratio["median"] >= 100:
        return f"{ratio['median']:,.0f}×"
    return f"{ratio['median']:.3f}× ({ratio['lower']:.3f}–{ratio['upper']:.3f})"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
