"""``python -m pytest_tfleak compare BEFORE.json NOW.json``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_tfleak.compare.documents import DocumentError
from pytest_tfleak.compare.reports import compare_reports
from pytest_tfleak.compare.reports import comparison_lines
from pytest_tfleak.compare.reports import read_report

_WORSE = 1
_USAGE = 2  # as argparse exits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        comparison = compare_reports(
            read_report(options.before), read_report(options.now)
        )
    except DocumentError as error:
        message = str(error).encode("ascii", "backslashreplace").decode()
        parser.exit(_USAGE, f"{parser.prog} compare: error: {message}\n")
    lines = comparison_lines(comparison, unicode=_draws(), show_all=options.all)
    _write("\n".join(lines) + "\n")
    return _WORSE if comparison.is_worse else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_tfleak",
        description="Tools for the reports of pytest-tfleak.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="print what got worse, better, is new and is gone between two reports",
        description="Print what got worse, better, is new and is gone between two "
        "reports that --tfleak-json wrote.",
        epilog="exit status: 0 nothing is worse or new; 1 something is; 2 the command "
        "line or a file is wrong",
    )
    compare.add_argument("before", type=Path, metavar="BEFORE.json")
    compare.add_argument("now", type=Path, metavar="NOW.json")
    compare.add_argument(
        "--all", action="store_true", help="list all that is better or gone"
    )
    return parser


def _draws() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # such as "| head": Python would complain at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
