"""Draw the picture and print the tables of ``sensitivity.py``."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

from pytest_tfleak.quantities import format_count
from pytest_tfleak.quantities import format_quantity

PANELS = {
    "host.heap": "heap: malloc without free",
    "python.blocks": "Python blocks: small objects kept",
    "host.rss": "RSS, as if there were no heap figure",
    "host.allocator": "TensorFlow's pool: 256 KiB, every k-th iteration",
}
COLOURS = {20: "tab:red", 50: "tab:green", 200: "tab:blue"}
DASHES = ("-", "--", ":")


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw a panel for each signal, with the probability to find a leak by its size."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(2, 2, figsize=(13, 9), layout="constrained")
    for axis, (name, title) in zip(axes.flat, PANELS.items(), strict=True):
        curves = [row for row in results["results"] if row["signal"] == name]
        unit = curves[0]["unit"]
        for row, dashes in zip(curves, DASHES, strict=False):
            _draw_curves(axis, row, dashes, unit)
        _draw_checks(axis, [row for row in results["checks"] if row["signal"] == name])
        default = curves[0]["allowance"]
        told = f"default allowance, {format_quantity(default, unit)}"
        axis.axvline(default, color="black", linewidth=1, label=told)
        axis.axhline(0.99, color="grey", linewidth=0.8)
        axis.set_title(title)
        axis.set_xlabel(f"leaked per iteration ({'bytes' if unit == 'B' else unit})")
        axis.set_ylabel("probability to be found")
        axis.set_ylim(-0.02, 1.05)
        _scale(axis, unit, name)
        axis.grid(alpha=0.3)
        place = "upper left" if name == "host.rss" else "center right"
        axis.legend(loc=place, fontsize=8)
    figure.suptitle(
        "How probably a leak beside a real model.fit is found.\n"
        "Lines: its size added to runs without a leak. Grey: 0.99."
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_curves(axis: Any, row: dict[str, Any], dashes: str, unit: str) -> None:
    allowance = format_quantity(row["allowance"], unit)
    for found in row["answers"]:
        sizes, shares, _, _ = zip(*sorted(map(tuple, found["curve"])), strict=True)
        label = f"{found['iterations']} iterations"
        axis.plot(
            sizes,
            shares,
            dashes,
            color=COLOURS[found["iterations"]],
            label=label if dashes == "-" else f"{label}, allowance {allowance}",
            linewidth=1.8 if dashes == "-" else 1,
        )


def _draw_checks(axis: Any, checks: Sequence[dict[str, Any]]) -> None:
    for n, colour in COLOURS.items():
        points = [row for row in checks if row["iterations"] == n]
        axis.plot(
            [row["planted"] for row in points],
            [row["found"] for row in points],
            "o",
            color=colour,
            markerfacecolor="white",
            zorder=3,
        )
    axis.plot(
        [], [], "o", color="black", markerfacecolor="white", label="really planted"
    )


def _scale(axis: Any, unit: str, name: str) -> None:
    if unit != "B":
        axis.set_xlim(left=0)
        return
    if name == "host.heap":
        ticks = [0, 1024, 2048, 4096, 6144, 8192, 10240]
        axis.set_xlim(0, 10_240)
    else:
        axis.set_xscale("log", base=2)
        ticks = [1024 * 4**k for k in range(6)]
        axis.set_xlim(1024, 2_400_000)
    axis.set_xticks(ticks, [format_quantity(tick, unit) for tick in ticks])
    axis.minorticks_off()


def tables(results: dict[str, Any]) -> Iterator[str]:
    """Yield the tables in Markdown."""
    smallest = (*_smallest_rows(results["results"]), *_planted_rows(results["checks"]))
    yield "\n".join(smallest)
    yield "\n".join(_at_the_allowance(results["results"]))
    yield "\n".join(_check_rows(results["checks"]))
    yield "\n".join(_added_rows(results["additivity"]))


def _smallest_rows(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    numbers = [found["iterations"] for found in rows[0]["answers"]]
    heads = " | ".join(f"{n} iterations" for n in numbers)
    yield f"| signal | allowance | {heads} |"
    yield "|---|--:|" + "--:|" * len(numbers)
    for row in rows:
        cells = [_smallest(row, found) for found in row["answers"]]
        allowance = format_quantity(row["allowance"], row["unit"])
        yield f"| {row['signal']} | {allowance} | {' | '.join(cells)} |"


def _planted_rows(checks: Sequence[dict[str, Any]]) -> Iterator[str]:
    for name in PANELS:
        cells = []
        for n in COLOURS:
            tried = [r for r in checks if (r["signal"], r["iterations"]) == (name, n)]
            tried.sort(key=lambda row: row["planted"], reverse=True)
            found = list(takewhile(lambda row: row["found"] >= 0.99, tried))
            unit = "blocks" if name == "python.blocks" else "B"
            cells.append(
                format_quantity(found[-1]["planted"], unit) if found else "none"
            )
        yield f"| {name}, of those really planted | default | {' | '.join(cells)} |"


def _smallest(row: dict[str, Any], found: dict[str, Any]) -> str:
    alarms = next((leak for size, leak, *_ in found["curve"] if size == 0), 0)
    if found["smallest"] is None:
        text = "none"
    elif found["smallest"] == 0:
        text = "0"
    else:
        text = format_quantity(found["smallest"], row["unit"])
    return text + (f" (alarms {alarms:.1%})" if alarms else "")


def _at_the_allowance(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield (
        "| signal | leaked per iteration | iterations | found | inconclusive "
        "| found at the start |"
    )
    yield "|---|--:|--:|--:|--:|--:|"
    for row in rows:
        for found in row["answers"]:
            for size, leak, undecided, start in found["curve"]:
                if size == row["allowance"] > 0:
                    yield (
                        f"| {row['signal']} | {format_quantity(size, row['unit'])} "
                        f"| {found['iterations']} | {leak:.1%} | {undecided:.1%} "
                        f"| {start * found['starts']:.0f} of {found['starts']} |"
                    )


def _check_rows(checks: Sequence[dict[str, Any]]) -> Iterator[str]:
    numbers = sorted({row["iterations"] for row in checks})
    heads = " | ".join(f"{n} iterations" for n in numbers)
    yield f"| signal | really planted | {heads} |"
    yield "|---|--:|" + "--:|" * len(numbers)
    by_leak: dict[tuple[str, str], dict[int, str]] = {}
    for row in checks:
        cell = f"{row['found']:.1%} of {row['runs']}, {row['superposed']:.1%}"
        unit = "blocks" if row["signal"] == "python.blocks" else "B"
        size = format_quantity(row["planted"], unit)
        cells = by_leak.setdefault((row["signal"], size), {})
        cells[row["iterations"]] = cell
    for (signal, size), cells in by_leak.items():
        row_cells = " | ".join(cells.get(n, "-") for n in numbers)
        yield f"| {signal} | {size} | {row_cells} |"


def _added_rows(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| signal | planted | moved it by | growth | less the planted | without |"
    yield "|---|---|--:|--:|--:|--:|"
    for row in rows:
        least, most = row["without"]
        moved = ", ".join(format_count(step) for step in row["moved"])
        yield (
            f"| {row['signal']} | {row['planted']} | {moved} | {row['growth']:,.1f} "
            f"| {row['rest']:,.1f} | {least:,.1f} to {most:,.1f} |"
        )
