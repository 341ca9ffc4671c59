"""Test files that run in a process of their own, each as one item of the whole run.

Their tests look at all objects again and again. In the process of the whole run, with
its thousands of items, they would take up to eight times as long.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

TESTS = Path(__file__).parent
FILES = {
    TESTS / name
    for name in (
        "plugin/test_baseline.py",
        "plugin/test_fixtures.py",
        "plugin/test_junit.py",
        "plugin/test_same_leak.py",
        "plugin/test_sarif.py",
        "plugin/test_teardown.py",
        "unit/diagnosis/experiments/test_early.py",
        "unit/diagnosis/experiments/test_search.py",
        "unit/diagnosis/survivors/test_containers.py",
        "unit/diagnosis/survivors/test_longer_values.py",
        "unit/diagnosis/survivors/test_watch.py",
        "unit/probes/test_census.py",
        "unit/run/test_loop.py",
        "unit/test_measurement.py",
        "unit/test_signals.py",
    )
}
_INSIDE = "TFLEAK_OWN_PROCESS"
#: Variables that say what the process around it does.
_OF_OUTER = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST")


class OwnProcess(pytest.File):
    """A test file whose tests run in one process, without those of other files."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the one item."""
        yield _WholeFile.from_parent(self, name="in_its_own_process")


class _WholeFile(pytest.Item):
    funcargs: ClassVar[dict[str, object]] = {}  # pytest-benchmark 5.0 asks all items

    def runtest(self) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_OF_OUTER)
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", self.path],
            env={**environment, _INSIDE: "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.config.rootpath,
        )
        if done.returncode:
            raise _FailedError(done.stdout)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str:
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class _FailedError(Exception):
    """Tests of the file failed; its text is what pytest printed."""


def has_own_process(path: Path, config: pytest.Config) -> bool:
    """Return whether a file runs as one item.

    It does not if it, or some tests by a marker or a word, are asked for.
    """
    if path not in FILES or _INSIDE in os.environ:
        return False
    names = {Path(argument.partition("::")[0]).name for argument in config.args}
    return path.name not in names and not (
        config.option.markexpr or config.option.keyword
    )
