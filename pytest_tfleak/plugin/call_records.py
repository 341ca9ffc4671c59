"""Drop pytest's records of one call of the body before the next call.

Otherwise output, log records, warnings, properties, patches, finalizers and subtests of
all calls would pile up: they would look like a leak of the body and fill the report.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import SkipTest

import pytest


class FailedSubtests(Exception):  # noqa: N818 - reports show the name, as pytest's
    """Subtests of the body failed; ``report`` makes pytest fail the test for them.

    Those of the first call are already reported.
    """

    def __init__(self, reports: Sequence[Callable[[], object]]) -> None:
        super().__init__("subtests failed")
        self._reports = reports

    @property
    def is_of_later_call(self) -> bool:
        """Return whether the subtests failed in a later call than the first."""
        return bool(self._reports)

    def report(self) -> None:
        """Report the subtests that failed in a later call."""
        for report in self._reports:
            report()


class CallRecords:
    """Calls a test's body, each time without the records of earlier calls."""

    def __init__(self, item: Any) -> None:
        self._item = item
        self._has_recwarn = "recwarn" in item.fixturenames
        self._is_first = True
        self._subtest_failed = False
        #: Report the subtests that failed in later calls.
        self._withheld: list[Callable[[], object]] = []
        self._properties = len(item.user_properties)
        self._log = _warnings_log()
        self._warned = len(self._log)

    def call(self, body: Callable[[], object]) -> None:
        """Call the body as if for the first time.

        Raises what the body raises, and FailedSubtests if its subtests failed.
        """
        __tracebackhide__ = True
        self._withheld = []
        if not self._is_first:
            self._drop_records()
        with ExitStack() as stack:
            funcargs: dict[str, Any] = self._item.funcargs
            for name, renew in _RENEWED.items():
                if name in funcargs:
                    stack.enter_context(renew(self._item))
            if hasattr(funcargs.get("subtests"), "_ihook"):
                stack.enter_context(self._reporting_subtests(funcargs["subtests"]))
            if hasattr(type(self._item), "addSubTest"):
                stack.enter_context(self._reporting_unittest_subtests())
            stack.enter_context(_running_finalizers(self._item))
            body()
        self._keep_warnings()
        self._is_first = False
        if self._subtest_failed or self._withheld:
            raise FailedSubtests(self._withheld)

    def drop_output(self) -> None:
        """Drop what earlier calls printed; call it before fixtures are set up again."""
        capture = self._item.config.pluginmanager.getplugin("capturemanager")
        if self._is_first or capture is None:
            return
        if capture.is_globally_capturing():
            capture.read_global_capture()
        if capture._capture_fixture is not None:
            capture._capture_fixture.readouterr()

    def _drop_records(self) -> None:
        del self._item.user_properties[self._properties :]
        if self._has_recwarn:
            del self._log[self._warned :]
            with warnings.catch_warnings():
                pass  # on exit it resets the registries: all lines may warn again
        logging = self._item.config.pluginmanager.getplugin("logging-plugin")
        if logging is not None:
            logging.caplog_handler.clear()
            logging.report_handler.clear()

    def _keep_warnings(self) -> None:
        """Keep the warnings of the first call: Python gives most only once per line."""
        if self._has_recwarn:
            return
        if self._is_first:
            self._warned = len(self._log)
        del self._log[self._warned :]

    @contextmanager
    def _reporting_subtests(self, subtests: Any) -> Generator[None, None, None]:
        """Report the subtests of the first call; withhold failures of later calls."""
        hooks = subtests._ihook
        subtests._ihook = _SubtestHooks(hooks, self._report_subtest)
        try:
            yield
        finally:
            subtests._ihook = hooks

    def _report_subtest(self, report: Any) -> None:
        if self._is_first:
            self._subtest_failed = self._subtest_failed or report.failed
            self._item.ihook.pytest_runtest_logreport(report=report)
        elif report.failed:
            _count_failed(self._item, -1)  # pytest has already counted it
            self._withheld.append(partial(self._report_later, report))

    def _report_later(self, report: Any) -> None:
        _count_failed(self._item, 1)
        self._item.ihook.pytest_runtest_logreport(report=report)

    @contextmanager
    def _reporting_unittest_subtests(self) -> Generator[None, None, None]:
        """Do the same for the subtests of unittest, which report to the item itself."""
        vars(self._item)["addSubTest"] = self._add_subtest
        try:
            yield
        finally:
            del vars(self._item)["addSubTest"]

    def _add_subtest(self, test_case: object, test: object, exc_info: Any) -> None:
        add = partial(
            type(self._item).addSubTest, self._item, test_case, test, exc_info
        )
        is_noted = isinstance(exc_info, pytest.ExceptionInfo)
        error = exc_info.value if is_noted else exc_info and exc_info[1]
        failed = error is not None and not isinstance(error, _NO_FAILURES)
        if self._is_first:
            self._subtest_failed = self._subtest_failed or failed
            add()
        elif failed:
            self._withheld.append(add)
        elif is_noted:  # pytest has noted a skip for the report that is left out
            self._item._excinfo.pop()


#: How a subtest ends early without a failure.
_NO_FAILURES = (SkipTest, pytest.skip.Exception, pytest.xfail.Exception)


class _SubtestHooks:
    """Stands in for the hooks that the ``subtests`` fixture calls."""

    def __init__(self, hooks: Any, report: Callable[[Any], None]) -> None:
        self._hooks = hooks
        self._report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hooks, name)

    def pytest_runtest_logreport(self, *, report: Any) -> None:
        self._report(report)


def _count_failed(item: Any, more: int) -> None:
    """Add to the number of failed subtests, for which pytest fails the test."""
    key = getattr(sys.modules.get("_pytest.subtests"), "failed_subtests_key", None)
    counts = item.config.stash.get(key, None) if key is not None else None
    if counts is not None:
        # since 9.2, pytest counts by an id of its own that is not a string
        counts[getattr(item, "id", item.nodeid)] += more


@contextmanager
def _running_finalizers(item: Any) -> Generator[None, None, None]:
    """After each call, run the finalizers that the body added to its request.

    Keep those of fixtures that it requested: the next call uses the same fixtures.
    """
    state: Any = getattr(item.session, "_setupstate", None)
    finalizers = getattr(state, "stack", {}).get(item, ([], None))[0]
    before = len(finalizers)
    try:
        yield
    finally:
        added = finalizers[before:]
        finalizers[before:] = filter(_is_of_fixture, added)
        for finalizer in reversed(added):
            if not _is_of_fixture(finalizer):
                finalizer()


def _is_of_fixture(finalizer: Callable[[], object]) -> bool:
    call = finalizer.func if isinstance(finalizer, partial) else finalizer
    return isinstance(getattr(call, "__self__", None), pytest.FixtureDef)


@contextmanager
def _renew_monkeypatch(item: Any) -> Generator[None, None, None]:
    """Undo the patches of the body, but not those of fixtures."""
    with pytest.MonkeyPatch.context() as fresh, _swapped(item, "monkeypatch", fresh):
        yield


@contextmanager
def _renew_mocker(item: Any) -> Generator[None, None, None]:
    mocker: Any = item.funcargs["mocker"]
    fresh = type(mocker)(item.config)
    try:
        with _swapped(item, "mocker", fresh):
            yield
    finally:
        fresh.stopall()


_RENEWED = {"monkeypatch": _renew_monkeypatch, "mocker": _renew_mocker}


@contextmanager
def _swapped(item: Any, name: str, value: object) -> Generator[None, None, None]:
    kept = item.funcargs[name]
    item.funcargs[name] = value
    try:
        yield
    finally:
        item.funcargs[name] = kept


def _warnings_log() -> list[warnings.WarningMessage]:
    """Return the list to which the innermost catch_warnings(record=True) appends."""
    show = getattr(warnings, "_showwarnmsg_impl", None)
    log = getattr(show, "__self__", None)
    return log if isinstance(log, list) else []
