"""The commands ``python -m pytest_tfleak compare`` and ``recover``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pytest_tfleak.compare.documents import DocumentError
from pytest_tfleak.compare.reports import compare_reports
from pytest_tfleak.compare.reports import comparison_lines
from pytest_tfleak.compare.reports import read_report
from pytest_tfleak.diagnosis.causes.in_general import texts_of
from pytest_tfleak.journal import IN_CACHE
from pytest_tfleak.journal import JournalError
from pytest_tfleak.journal import LostRun
from pytest_tfleak.journal import folders_to_read
from pytest_tfleak.journal import lost_runs
from pytest_tfleak.journal import read_journal
from pytest_tfleak.journal import temporary_folder
from pytest_tfleak.reports import html
from pytest_tfleak.reports import json
from pytest_tfleak.reports import sarif
from pytest_tfleak.reports.document import write_file
from pytest_tfleak.reports.places import place_by_name
from pytest_tfleak.reports.places import repository_of
from pytest_tfleak.reports.terminal import summary_lines
from pytest_tfleak.reports.text import safe
from pytest_tfleak.verdict import Ledger

_WORSE = 1
_USAGE = 2  # as argparse exits
_CACHE = Path(".pytest_cache", "d", IN_CACHE)
#: What it raises to show verdicts with fields of the right types that no run has made.
_FORGED = (
    *(ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)


class _CommandError(Exception):
    """A command cannot do what it is asked for; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except (DocumentError, JournalError, _CommandError) as error:
        message = safe(str(error), unicode=False)
        program = f"{parser.prog} {options.command}"
        parser.exit(_USAGE, f"{program}: error: {message}\n")
    return status


def _compare(options: argparse.Namespace) -> int:
    comparison = compare_reports(read_report(options.before), read_report(options.now))
    _write(comparison_lines(comparison, unicode=_draws(), show_all=options.all))
    return _WORSE if comparison.is_worse else 0


def _recover(options: argparse.Namespace) -> int:
    """Make the reports of a run that ended without one, and print its summary."""
    run = _latest() if options.journal is None else read_journal(options.journal)
    try:
        summary, document = _summary(run), run.document()
        texts = [
            (path, render(document))
            for path, render in (
                (options.json, json.render),
                (options.html, html.render),
                (options.sarif, partial(_sarif, run)),
            )
            if path is not None
        ]
    except _FORGED as error:
        why = f"{type(error).__name__}: {error}"
        raise _CommandError(f"{run.path}: cannot be shown: {why}") from None
    _write(summary)
    for path, text in texts:
        try:
            write_file(path, text)
        except OSError as error:
            why = error.strerror or str(error)
            raise _CommandError(f"cannot write {path}: {why}") from None
        _write([safe(f"report written to {path}", _draws())])
    return 0


def _sarif(run: LostRun, document: dict[str, Any]) -> str:
    names = [verdict.nodeid for verdict in run.results()]
    places = {name: place_by_name(run.rootdir, name) for name in names}
    return sarif.render(document, places, repository_of(run.rootdir), texts_of)


def _summary(run: LostRun) -> list[str]:
    """Return what a run had measured, as lines."""
    ledger = Ledger()
    for verdict in run.results():
        ledger.add(verdict)
    doubt = "" if run.is_over() else "; or it still runs"
    return [
        safe(f"{run.path}: {run.describe()}{doubt}", _draws()),
        *(line.text for line in summary_lines(ledger, unicode=_draws())),
    ]


def _latest() -> LostRun:
    """Return the latest run of this folder, or one above it, that left no report."""
    for folder in _here_and_above():
        if found := lost_runs([folder / _CACHE], idle=0):
            return found[0]
        if found := lost_runs(folders_to_read(None), folder, idle=0):
            return found[0]
    raise _CommandError(
        f"no run has left a journal in {_CACHE} here or above, or in "
        f"{temporary_folder()}: name the file (if cache_dir is set, it is in "
        f"{_CACHE.relative_to(_CACHE.parts[0]).as_posix()} there)"
    )


def _here_and_above() -> Iterator[Path]:
    here = Path.cwd()
    yield here
    yield from here.parents


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_tfleak",
        description="Tools for the reports of pytest-tfleak.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    compare = commands.add_parser(
        "compare",
        help="print what got worse, better, is new and is gone between two reports",
        description="Print what got worse, better, is new and is gone between two "
        "reports that --tfleak-json wrote.",
        epilog="exit status: 0 nothing is worse or new; 1 something is; 2 the command "
        "line or a file is wrong",
    )
    compare.set_defaults(run=_compare)
    compare.add_argument("before", type=Path, metavar="BEFORE.json")
    compare.add_argument("now", type=Path, metavar="NOW.json")
    compare.add_argument(
        "--all", action="store_true", help="list all that is better or gone"
    )
    recover = commands.add_parser(
        "recover",
        help="make the report of a run that ended without one, as by a crash",
        description="Print what a run had measured when its process ended without a "
        "report, as by a crash or os._exit(), and which test was running.",
        epilog="exit status: 0 it is recovered; 2 the command line is wrong, or there "
        "is nothing to recover",
    )
    recover.set_defaults(run=_recover)
    recover.add_argument(
        "journal",
        type=Path,
        nargs="?",
        metavar="JOURNAL",
        help="what the run has left (default: the latest in pytest's cache, here or "
        "above, or among temporary files)",
    )
    for name in ("json", "html", "sarif"):
        recover.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help=f"write the {name.upper()} report",
        )
    return parser


def _draws() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _write(lines: Sequence[str]) -> None:
    try:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # such as "| head": Python would complain at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
