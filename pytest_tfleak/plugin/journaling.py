"""Keep a journal while tests are measured, and report what an earlier one has left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from pytest_tfleak.journal import IN_CACHE
from pytest_tfleak.journal import Journal
from pytest_tfleak.journal import LostRun
from pytest_tfleak.journal import folders_to_read
from pytest_tfleak.journal import folders_to_write
from pytest_tfleak.journal import has_journal
from pytest_tfleak.journal import lost_runs
from pytest_tfleak.journal import write_report
from pytest_tfleak.reports.text import safe


class JournalKeeper:
    """Writes the journal of a run; only the controlling process has one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._journal: Journal | None = None
        self._running: dict[str, None] = {}
        #: What was recovered from an earlier run, as lines for the terminal.
        self.recovered: list[str] = []

    def begin(self) -> None:
        """Begin the journal, as tests are measured."""
        if self._journal is not None:
            return
        cache = getattr(self._config, "cache", None)
        if cache is not None:
            with suppress(OSError):  # and then not in the cache
                cache.mkdir(IN_CACHE)  # with the .gitignore of a new cache
        folders = folders_to_write(self._cache())
        self._journal = Journal(folders, self._config.rootpath)
        for nodeid in self._running:
            self._journal.write({"start": nodeid})

    def pytest_sessionstart(self) -> None:
        """Make the reports of runs that ended without one."""
        if self._config.option.collectonly:
            return
        with suppress(Exception):  # a report of another run must not end this one
            root = self._config.rootpath
            folders = folders_to_read(self._cache())
            folders = [folder for folder in folders if has_journal(folder, root)]
            if folders:
                self._recover(folders)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins."""
        self._running[nodeid] = None
        if self._journal is not None:
            self._journal.write({"start": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the verdicts that a report carries."""
        verdicts = getattr(report, "tfleak", [])
        environment = getattr(report, "tfleak_environment", None)
        if verdicts:
            self.begin()
        if self._journal is None:
            return
        if environment:
            self._journal.write({"environment": environment})
        for verdict in verdicts:
            self._journal.add_verdict(verdict)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that a test has ended."""
        self._running.pop(nodeid, None)
        if self._journal is not None:
            self._journal.write({"end": nodeid})

    def pytest_report_header(self) -> list[str]:
        """Say what was recovered from an earlier run."""
        return self.recovered

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Say so here if there was no header."""
        if self._config.get_verbosity() < 0:
            for line in self.recovered:
                terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        """Remove the journal: the run has ended as it should."""
        if self._journal is not None:
            self._journal.remove()

    def _cache(self) -> Path | None:
        cache = getattr(self._config, "cache", None)
        if cache is None:
            return None
        # not mkdir() of the cache, which would make the folder
        return Path(cache._cachedir) / "d" / IN_CACHE

    def _recover(self, folders: list[Path]) -> None:
        from pytest_tfleak.reports.json import render

        for run in lost_runs(folders, self._config.rootpath):
            with suppress(Exception):  # it must not hide that of another run
                self._report(run, render(run.document()))

    def _report(self, run: LostRun, text: str) -> None:
        report = run.report
        write_report(report, text)
        run.path.unlink()
        with suppress(ValueError):
            report = report.relative_to(self._config.invocation_params.dir)
        self.recovered.append(
            safe(
                f"tfleak: an earlier run left no report: {run.describe()}; that is in "
                f"{report}"
            )
        )
