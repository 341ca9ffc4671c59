"""Write the files and annotations of a run; only the controlling process does.

Each path is tried before the first test. The files are written once, when the session
ends for any reason. Their contents arrive on test reports, also from xdist's workers.

To add a report, write a module with ``render(document) -> str`` in ``reports/`` and add
its row to ``REPORTERS``: the option and all messages about the file come from there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_tfleak.plan import Option
from pytest_tfleak.plan import RunOptions
from pytest_tfleak.plan import file_option
from pytest_tfleak.plugin.failure import terminal_draws
from pytest_tfleak.plugin.finished import PackedVerdicts
from pytest_tfleak.reports.text import safe
from pytest_tfleak.run.ci import ci_variable

if TYPE_CHECKING:
    from pytest_tfleak.compare.baseline import Baseline
    from pytest_tfleak.reports.places import Place
    from pytest_tfleak.verdict import Ledger
    from pytest_tfleak.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """A report that a run can write to a file."""

    name: str  # "json" makes the option --tfleak-json
    title: str  # what the terminal calls the file
    help: str
    module: str  # has a function render(document) -> str; imported only to write
    #: Whether ``render`` takes the places of the tests, the repository and the texts of
    #: causes, too.
    needs_places: bool = False

    @property
    def option(self) -> Option:
        """Return the option that names the file."""
        return file_option(self.name, self.help)

    def render(self, document: dict[str, Any], *places: object) -> str:
        """Return the text of the file."""
        text: str = import_module(self.module).render(document, *places)
        return text


#: The table of reporters.
REPORTERS = (
    Reporter(
        name="json",
        title="JSON report",
        help="write what was found to this file, as JSON",
        module="pytest_tfleak.reports.json",
    ),
    Reporter(
        name="html",
        title="HTML report",
        help="write what was found to this file, as a web page",
        module="pytest_tfleak.reports.html",
    ),
    Reporter(
        name="sarif",
        title="SARIF report",
        help="write the leaks to this file, as SARIF for code scanning and editors",
        module="pytest_tfleak.reports.sarif",
        needs_places=True,
    ),
)
#: The exit status of a run that could not write one of its files, if it ended well.
NOT_WRITTEN = pytest.ExitCode.INTERNAL_ERROR
#: Files of other plugins that ours must not replace, by the names of their options.
_OTHERS = {"--junitxml": "xmlpath", "--html": "htmlpath", "--log-file": "log_file"}
_ENDED = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file to write, and the function that makes its text."""

    flag: str
    title: str
    path: Path
    text: Callable[[dict[str, Any]], str]


def resolve(config: pytest.Config, file: str) -> Path:
    """Return a path from the command line as absolute: tests may change directory."""
    return config.invocation_params.dir / expanded(file)


def expanded(file: str) -> str:
    """Return a path with the values of ``~`` and of variables."""
    # Path.expanduser would raise for an unknown user
    return os.path.expandvars(os.path.expanduser(file))  # noqa: PTH111


def baseline_of(config: pytest.Config, run: RunOptions) -> Baseline | None:
    """Return the baseline of a run, None if it has none.

    Every xdist worker reads it, since each accepts its own findings. Raises
    pytest.UsageError for a bad file, and for one that is missing but must not be.
    """
    if not run.baseline:
        return None
    path = resolve(config, run.baseline)
    baseline = _open_baseline(path, "--tfleak-baseline")
    saved = resolve(config, run.save_baseline) if run.save_baseline else None
    why = "--tfleak-baseline-required" if run.baseline_required else ci_variable()
    is_written = baseline.recorded and not config.option.collectonly
    if is_written and why is not None and not _is_same(path, saved):
        from pytest_tfleak.compare.baseline import how_to_save

        raise pytest.UsageError(
            f"--tfleak-baseline: {safe(str(path))} does not exist, and is not written "
            f"because {why} is set: to record it, {safe(how_to_save(run.baseline))}, "
            "run it on your machine, and commit the file"
        )
    return baseline


def _open_baseline(path: Path, flag: str) -> Baseline:
    """Return the baseline in a file. Raises pytest.UsageError if it holds none."""
    from pytest_tfleak.compare.baseline import BaselineError
    from pytest_tfleak.compare.baseline import read_baseline

    try:
        return read_baseline(path)
    except (BaselineError, OSError, ValueError) as error:
        raise pytest.UsageError(f"{flag}: {safe(str(error))}") from None


class Outputs:
    """Gathers the verdicts and the environment of a run, and writes the files."""

    def __init__(
        self,
        config: pytest.Config,
        run: RunOptions,
        baseline: Baseline | None,
        take_rest: Callable[[], dict[str, Any]],
    ) -> None:
        """``take_rest`` returns verdicts of this process that no report carried."""
        self._config = config
        self._baseline = baseline
        self._take_rest = take_rest
        #: A baseline that this run only reads and must not write.
        self._read_only: Path | None = None
        self._earlier: dict[str, Baseline] = {}  # what each file held before, by flag
        self._reporters = [one for one in REPORTERS if one.name in run.reports]
        needs_places = any(reporter.needs_places for reporter in self._reporters)
        self._needs_places = needs_places or _is_on_github()
        self._files = [*self._report_files(run), *self._baseline_files(run)]
        self._environment: dict[str, Any] = {}
        self._places: dict[str, Place] = {}
        self._is_complete = True
        self._written: list[str] = []
        self._errors: list[str] = []
        self._commands: list[str] = []
        self._packed = PackedVerdicts()
        #: The processes of xdist that measured something.
        self.workers: set[str] = set()

    def _report_files(self, run: RunOptions) -> Iterator[_File]:
        for reporter in self._reporters:
            yield _File(
                flag=reporter.option.command_line_flag,
                title=reporter.title,
                path=resolve(self._config, run.reports[reporter.name]),
                text=partial(self._report_text, reporter),
            )

    def _report_text(self, reporter: Reporter, document: dict[str, Any]) -> str:
        if not reporter.needs_places:
            return reporter.render(document)
        from pytest_tfleak.diagnosis.causes.in_general import texts_of

        places = self._all_places()
        return reporter.render(document, places, self._repository(), texts_of)

    def _all_places(self) -> dict[str, Place]:
        """Return the place of each test, also of those that were never reported."""
        from pytest_tfleak.reports.places import place_by_name

        names = [verdict.nodeid for verdict in self._verdicts()]
        root = self._config.rootpath
        return {name: place_by_name(root, name) for name in names} | self._places

    def _repository(self) -> Path:
        from pytest_tfleak.reports.places import repository_of

        return repository_of(self._config.rootpath)

    def _baseline_files(self, run: RunOptions) -> Iterator[_File]:
        """Yield the baseline to write because it is missing, and the one to save."""
        read = resolve(self._config, run.baseline) if run.baseline else None
        saved = resolve(self._config, run.save_baseline) if run.save_baseline else None
        if read is not None and not _is_same(read, saved):
            if self._baseline is not None and self._baseline.recorded:
                yield self._baseline_file("--tfleak-baseline", read)
            else:
                self._read_only = read
        if saved is not None:
            yield self._baseline_file("--tfleak-save-baseline", saved)

    def _baseline_file(self, flag: str, path: Path) -> _File:
        text = partial(self._baseline_text, flag)
        return _File(flag=flag, title="baseline", path=path, text=text)

    def prepare(self) -> None:
        """Try every path. Raises pytest.UsageError for one that cannot be written."""
        if not self._files:
            return
        from pytest_tfleak.reports.document import prepare

        flags = dict(self._taken())
        for file in self._files:
            other = flags.setdefault(os.path.realpath(file.path), file.flag)
            if other != file.flag:
                raise pytest.UsageError(
                    f"{other} and {file.flag} name one file: {safe(str(file.path))}"
                )
            try:
                prepare(file.path)
            except (OSError, ValueError) as error:
                raise pytest.UsageError(
                    f"{file.flag}: cannot write {safe(str(file.path))}: {_words(error)}"
                ) from None
            # a pipe has no earlier content, and to read it would wait forever
            if file.flag == "--tfleak-save-baseline" and not file.path.is_fifo():
                self._earlier[file.flag] = _open_baseline(file.path, file.flag)

    def _taken(self) -> Iterator[tuple[str, str]]:
        """Yield the files of this run that ours must not replace, and their flags."""
        for flag, name in _OTHERS.items():
            file = self._config.getoption(name, None)
            path = file and resolve(self._config, str(file))
            if path and (path.is_file() or not path.exists()):  # not a device
                yield os.path.realpath(path), flag
        if self._read_only is not None:
            yield os.path.realpath(self._read_only), "--tfleak-baseline"

    def import_ahead(self) -> None:
        """Import what is needed after a test to gather and write verdicts."""
        modules = ["pytest_tfleak.verdict", "pytest_tfleak.run.environment"]
        if self._files:
            modules.append("pytest_tfleak.reports.document")
        if self._baseline is not None or self._earlier:
            modules.append("pytest_tfleak.compare.baseline")
        if _is_on_github():
            modules.append("pytest_tfleak.reports.github")
        if any(r.needs_places for r in self._reporters):
            modules.append("pytest_tfleak.diagnosis.causes.in_general")
        for module in [*modules, *(r.module for r in self._reporters)]:
            import_module(module)

    def take(self, message: dict[str, Any]) -> None:
        """Add the verdicts of a process, and its environment."""
        for data in message["verdicts"]:
            self._packed.add(data)
        if message["environment"]:
            from pytest_tfleak.run.environment import merge

            merge(self._environment, message["environment"])
        self._is_complete &= message["complete"]

    @property
    def ledger(self) -> Ledger | None:
        """Return the verdicts; a run without measured tests has none."""
        return self._packed.ledger()

    @property
    def lacks(self) -> list[str]:
        """Return the private names that TensorFlow lacked in some process."""
        return list(self._environment.get("lacks") or ())

    @property
    def why_too_old(self) -> str | None:
        """Return that TensorFlow is too old, if a test has imported such a one."""
        from pytest_tfleak.run.environment import too_old

        return too_old(self._environment.get("tensorflow"))

    def baseline_summary(self) -> dict[str, Any] | None:
        """Return how the run compares with its baseline, None if it has none."""
        if self._baseline is None:
            return None
        return self._baseline.summary(self._verdicts())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the verdicts that a report carries."""
        verdicts = getattr(report, "tfleak", [])
        environment = getattr(report, "tfleak_environment", None)
        self.take({"verdicts": verdicts, "environment": environment, "complete": True})
        if verdicts and hasattr(report, "worker_id"):
            self.workers.add(report.worker_id)
        if verdicts and self._needs_places:
            from pytest_tfleak.reports.document import without_surrogates
            from pytest_tfleak.reports.places import Place

            file, line, _ = report.location
            self._places[without_surrogates(report.nodeid)] = Place(
                file=str(self._config.rootpath / file),
                line=None if line is None else line + 1,
                failed=report.failed,
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Add the verdicts that an xdist worker could not attach to a report."""
        # pop, because this hook is called twice for an interrupted worker
        message = getattr(node, "workeroutput", {}).pop("tfleak", None)
        if message is not None:
            self.take(message)
        self._is_complete &= error is None

    @pytest.hookimpl(tryfirst=True)  # before another plugin's report can fail
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the files; if one fails, set the exit status."""
        self.take(self._take_rest())
        self._is_complete &= exitstatus in _ENDED
        self._is_complete &= not (session.shouldfail or session.shouldstop)
        if self._config.option.collectonly:
            return  # nothing was measured: keep the files as they are
        if self._files or _is_on_github():
            document = self._make_document()
            for file in self._files:
                self._write(file, document)
            if self._errors and exitstatus in _ENDED:
                session.exitstatus = NOT_WRITTEN
            if _is_on_github():
                self._annotate(document)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Print which files were written, and which were not."""
        if self._config.get_verbosity() >= 0:
            for line in self._written:
                terminalreporter.write_sep("-", line)
        for line in self._errors:
            terminalreporter.write_line(line, red=True)
        self._errors = []

    def pytest_unconfigure(self) -> None:
        """Print the commands for GitHub, and errors that no summary has shown."""
        for line in self._errors:
            sys.stderr.write(f"{line}\n")
        for line in self._commands:
            sys.stdout.write(f"{line}\n")

    def _make_document(self) -> dict[str, Any]:
        from pytest_tfleak.reports.document import make_document
        from pytest_tfleak.run.environment import look_up
        from pytest_tfleak.run.environment import merge

        merge(self._environment, look_up())
        return make_document(
            self._verdicts(),
            self._environment,
            complete=self._is_complete,
            baseline=self.baseline_summary(),
        )

    def _verdicts(self) -> Sequence[Verdict]:
        ledger = self.ledger
        return () if ledger is None else ledger.verdicts()

    def _write(self, file: _File, document: dict[str, Any]) -> None:
        from pytest_tfleak.reports.document import write_file

        try:
            write_file(file.path, file.text(document))
        except Exception as error:  # the other reports must still be written
            words = f"{file.title} not written to {file.path}: {_words(error)}"
            self._errors.append(f"tfleak: {safe(words)}")
        else:
            path = safe(str(file.path))
            self._written.append(f"tfleak: {file.title} written to {path}")

    def _baseline_text(self, flag: str, document: dict[str, Any]) -> str:
        from pytest_tfleak.compare.baseline import baseline_text

        if not document["complete"]:
            raise InterruptedError(0, "the run was cut short")
        return baseline_text(self._verdicts(), self._earlier.get(flag))

    def _annotate(self, document: dict[str, Any]) -> None:
        from pytest_tfleak.reports import github

        self._commands += github.commands(
            document, self._places, self._repository(), terminal_draws()
        )
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if not summary or not document["tests"]:
            return
        try:
            github.add_step_summary(document, Path(summary))
        except OSError as error:
            words = f"no step summary written to {summary}: {_words(error)}"
            self._errors.append(f"tfleak: {safe(words)}")


def _is_same(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)


def _is_on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
