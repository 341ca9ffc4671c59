"""Compare what an iteration costs in several checkouts, in turns.

    python -m benchmarks.overhead_checkouts [--turns N] CHECKOUT ...

Each turn runs every checkout in a process of its own, one after the other, with the
interpreter that runs this, whose environment needs TensorFlow and Keras. The body is
the spin of 20 ms of ``overhead_bodies.py``: it leaves the processor's caches cold. The
time is the CPU time of the thread without that of the body, so that waiting for a core
does not count; ratios are to the first checkout in the same turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.overhead_bodies import summed_up
from benchmarks.overhead_rivals import environment

#: Runs in a checkout; it may only use what old ones have, too.
_ALONE = """
import json
import sys
from statistics import median
from benchmarks import overhead
from benchmarks.overhead_bodies import make_bodies

body = make_bodies()["20 ms"]
steps = [overhead._time_ours(body)[1] for _ in range(int(sys.argv[1]))]
print(json.dumps(median(spent[overhead.ITERATION] for spent in steps)))
"""
#: How many measurements of 50 iterations each process makes.
_RUNS = 5


def measure(checkout: Path) -> float:
    """Return the seconds that an iteration costs in one process of a checkout."""
    run = subprocess.run(
        [sys.executable, "-c", _ALONE, str(_RUNS)],
        cwd=checkout,
        env={**environment(), "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(json.loads(run.stdout.splitlines()[-1]))


def table(checkouts: list[Path], turns: list[list[float]]) -> str:
    """Return medians and quartiles as a table in Markdown."""
    lines = ["| checkout | an iteration | ratio |", "|---|--:|--:|"]
    for place, checkout in enumerate(checkouts):
        cost = summed_up([turn[place] for turn in turns], 1e3, 2)
        ratio = summed_up([turn[place] / turn[0] for turn in turns], digits=2)
        shown = (f"{x['median']} ({x['lower']}–{x['upper']})" for x in (cost, ratio))
        lines.append(f"| {checkout.name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the checkouts in turns, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    checkouts = [checkout.resolve() for checkout in arguments.checkouts]
    turns: list[list[float]] = []
    for _ in range(arguments.turns):
        turns.append([measure(checkout) for checkout in checkouts])
        print([round(1e3 * seconds, 3) for seconds in turns[-1]], file=sys.stderr)
    print(table(checkouts, turns))


if __name__ == "__main__":
    main()
