"""What leaves a run: files and annotations, by the controlling process alone.

Paths are tried before the first test. Files are written once, at the end of the
session, however it ends; what they hold came on the reports, also from xdist's workers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_tfleak.failure import terminal_draws
from pytest_tfleak.reports.text import safe

if TYPE_CHECKING:
    from pytest_tfleak.baseline import Baseline
    from pytest_tfleak.ledger import Ledger
    from pytest_tfleak.reports.github import Place
    from pytest_tfleak.verdict import Verdict

FILES = {
    "json": "JSON report",
    "html": "HTML report",
    "baseline": "baseline",
    "save_baseline": "baseline",
}
#: Files of other plugins that ours must not be, by the names of their options.
_OTHERS = {"--junitxml": "xmlpath", "--html": "htmlpath", "--log-file": "log_file"}
#: The exit status of a run of which a file could not be written.
NOT_WRITTEN = pytest.ExitCode.INTERNAL_ERROR
_ENDED = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)


def resolve(config: pytest.Config, file: str) -> Path:
    """Return a path of the command line, whatever directory the tests change to."""
    # not Path.expanduser, which raises for a user that there is not
    expanded = os.path.expandvars(os.path.expanduser(file))  # noqa: PTH111
    return config.invocation_params.dir / expanded


def open_baseline(path: Path, flag: str) -> Baseline:
    """Return the baseline in a file. Raises pytest.UsageError where it holds another.

    Read by every process: findings are accepted where they are measured.
    """
    from pytest_tfleak.baseline import BaselineError
    from pytest_tfleak.baseline import read_baseline

    try:
        return read_baseline(path)
    except (BaselineError, OSError, ValueError) as error:
        raise pytest.UsageError(f"{flag}: {safe(str(error))}") from None


class Sinks:
    """Gathers what was found and on what, and writes it at the end."""

    def __init__(
        self,
        config: pytest.Config,
        run: dict[str, Any],
        baseline: Baseline | None,
        rest: Callable[[], dict[str, Any]],
    ) -> None:
        """``rest`` returns what this process measured and no report carried."""
        self._config = config
        self._baseline = baseline
        self._rest = rest
        files = {name: resolve(config, run[name]) for name in FILES if run.get(name)}
        read = files.get("baseline")
        is_saved = "save_baseline" in files and _is_one(read, files["save_baseline"])
        if is_saved or not (baseline is not None and baseline.recorded):
            files.pop("baseline", None)
        #: A baseline that this run reads and must not write.
        self._kept = None if is_saved or "baseline" in files else read
        self._files = files
        self._earlier: Baseline | None = None
        self._environment: dict[str, Any] = {}
        self._places: dict[str, Place] = {}
        self._is_complete = True
        self._written: list[str] = []
        self._errors: list[str] = []
        self._commands: list[str] = []
        self.ledger: Ledger | None = None  # a run without measured tests has none

    def prepare(self) -> None:
        """Try every path. Raises pytest.UsageError for one that cannot be written."""
        if not self._files:
            return
        from pytest_tfleak.reports.base import prepare

        flags = dict(self._taken())
        for name, path in self._files.items():
            flag = "--tfleak-" + name.replace("_", "-")
            other = flags.setdefault(os.path.realpath(path), flag)
            if other != flag:
                raise pytest.UsageError(f"{other} and {flag} name one file: {path}")
            try:
                prepare(path)
            except (OSError, ValueError) as error:
                raise pytest.UsageError(
                    f"{flag}: cannot write {safe(str(path))}: {_words(error)}"
                ) from None
        if "save_baseline" in self._files:
            path = self._files["save_baseline"]
            self._earlier = open_baseline(path, "--tfleak-save-baseline")

    def _taken(self) -> Iterator[tuple[str, str]]:
        """Give the files of this run that no report may replace, and their flags."""
        for flag, name in _OTHERS.items():
            file = self._config.getoption(name, None)
            path = file and resolve(self._config, str(file))
            if path and (path.is_file() or not path.exists()):  # no device
                yield os.path.realpath(path), flag
        if self._kept is not None:
            yield os.path.realpath(self._kept), "--tfleak-baseline"

    def take(self, message: dict[str, Any]) -> None:
        """Take in what a process has measured, and on what."""
        for data in message["verdicts"]:
            from pytest_tfleak.ledger import Ledger
            from pytest_tfleak.verdict import Verdict

            self.ledger = self.ledger or Ledger()
            self.ledger.add(Verdict.from_dict(data))
        if message["environment"]:
            from pytest_tfleak.environment import merge

            merge(self._environment, message["environment"])
        self._is_complete &= message["complete"]

    def baseline_summary(self) -> dict[str, Any] | None:
        """Return what became of the baseline, None where the run has none."""
        if self._baseline is None:
            return None
        return self._baseline.summary(self._verdicts())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what comes with a report."""
        verdicts = getattr(report, "tfleak", [])
        environment = getattr(report, "tfleak_environment", None)
        self.take({"verdicts": verdicts, "environment": environment, "complete": True})
        if verdicts and _is_on_github():
            from pytest_tfleak.reports.github import Place

            file, line, _ = report.location
            self._places[report.nodeid] = Place(
                file=str(self._config.rootpath / file),
                line=None if line is None else line + 1,
                failed=report.failed,
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take in what an xdist worker could not send with a report."""
        # taken out: a worker that was interrupted goes down twice
        message = getattr(node, "workeroutput", {}).pop("tfleak", None)
        if message is not None:
            self.take(message)
        self._is_complete &= error is None

    @pytest.hookimpl(tryfirst=True)  # another plugin's report may fail
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the files; where that fails, the exit status says so."""
        self.take(self._rest())
        self._is_complete &= exitstatus in _ENDED
        self._is_complete &= not (session.shouldfail or session.shouldstop)
        if self._config.option.collectonly:
            return  # nothing was measured: what the files hold is still true
        if self._files or _is_on_github():
            document = self._make_document()
            for name, path in self._files.items():
                self._write(name, path, document)
            if self._errors and exitstatus in _ENDED:
                session.exitstatus = NOT_WRITTEN
            if _is_on_github():
                self._annotate(document)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Say which files were written, and which were not."""
        if self._config.get_verbosity() >= 0:
            for line in self._written:
                terminalreporter.write_sep("-", line)
        for line in self._errors:
            terminalreporter.write_line(line, red=True)
        self._errors = []

    def pytest_unconfigure(self) -> None:
        """Print what GitHub reads, and errors that no terminal's summary has shown."""
        for line in self._errors:
            sys.stderr.write(f"{line}\n")
        for line in self._commands:
            sys.stdout.write(f"{line}\n")

    def _make_document(self) -> dict[str, Any]:
        from pytest_tfleak.environment import look_up
        from pytest_tfleak.environment import merge
        from pytest_tfleak.reports.base import make_document

        merge(self._environment, look_up())
        return make_document(
            self._verdicts(),
            self._environment,
            complete=self._is_complete,
            baseline=self.baseline_summary(),
        )

    def _verdicts(self) -> Sequence[Verdict]:
        return () if self.ledger is None else self.ledger.verdicts()

    def _write(self, name: str, path: Path, document: dict[str, Any]) -> None:
        what = FILES[name]
        try:
            if name == "save_baseline":
                self._save_baseline(path, self._earlier)
            elif name == "baseline":  # there was none
                self._save_baseline(path, None)
            else:
                from pytest_tfleak.reports.base import write_file

                write_file(path, _renderer(name)(document))
        except Exception as error:  # one report must not take the others with it
            words = f"{what} not written to {path}: {_words(error)}"
            self._errors.append(f"tfleak: {safe(words)}")
        else:
            self._written.append(f"tfleak: {what} written to {safe(str(path))}")

    def _save_baseline(self, path: Path, earlier: Baseline | None) -> None:
        from pytest_tfleak.baseline import baseline_text
        from pytest_tfleak.reports.base import write_file

        if not self._is_complete:
            raise InterruptedError(0, "the run was cut short")
        write_file(path, baseline_text(self._verdicts(), earlier))

    def _annotate(self, document: dict[str, Any]) -> None:
        from pytest_tfleak.reports import github

        root = os.environ.get("GITHUB_WORKSPACE") or self._config.rootpath
        self._commands += github.commands(
            document, self._places, Path(root), terminal_draws()
        )
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if not summary or not document["tests"]:
            return
        try:
            github.add_step_summary(document, Path(summary))
        except OSError as error:
            words = f"no step summary written to {summary}: {_words(error)}"
            self._errors.append(f"tfleak: {safe(words)}")


def _is_one(path: Path | None, other: Path) -> bool:
    return path is not None and os.path.realpath(path) == os.path.realpath(other)


def _is_on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _renderer(name: str) -> Callable[[dict[str, Any]], str]:
    """Return the function that makes the text of a file, imported when it is needed."""
    if name == "html":
        from pytest_tfleak.reports.html import render

        return render
    from pytest_tfleak.reports import json

    return json.render


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
