"""What pytest records of a test: a repeated body must leave what one call leaves.

Output, log records, warnings, properties, patches, finalizers and subtests of every
call would pile up, be blamed on the body, and show in the report as often as it ran.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Generator
from contextlib import ExitStack
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest


class FailedSubtests(Exception):  # noqa: N818 - named in reports, as pytest names it
    """Subtests of the body failed, which pytest reports after the call."""


class Records:
    """Calls a test's body, and drops what pytest recorded of the calls before it."""

    def __init__(self, item: pytest.Function) -> None:
        self._item = item
        self._has_recwarn = "recwarn" in item.fixturenames
        self._is_first = True
        self._subtest_failed = False
        self._properties = len(item.user_properties)
        self._log = _warnings_log()
        self._warned = len(self._log)

    def call(self, body: Callable[[], object]) -> None:
        """Call the body as if it were called once.

        Raises what the body raises, and FailedSubtests where subtests of it failed.
        """
        __tracebackhide__ = True
        if not self._is_first:
            self._drop_records()
        with ExitStack() as stack:
            funcargs: dict[str, Any] = self._item.funcargs
            for name, renew in _RENEWED.items():
                if name in funcargs:
                    stack.enter_context(renew(self._item))
            if hasattr(funcargs.get("subtests"), "_ihook"):
                stack.enter_context(self._reporting_subtests(funcargs["subtests"]))
            stack.enter_context(_running_finalizers(self._item))
            body()
        self._keep_warnings()
        self._is_first = False
        if self._subtest_failed:
            raise FailedSubtests

    def drop_output(self) -> None:
        """Drop what an earlier call printed; call before fixtures are set up anew."""
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
                pass  # lines that have warned once may warn again
        logging = self._item.config.pluginmanager.getplugin("logging-plugin")
        if logging is not None:
            logging.caplog_handler.clear()
            logging.report_handler.clear()

    def _keep_warnings(self) -> None:
        """Keep those of the first call: most are given once for a line of code."""
        if self._has_recwarn:
            return
        if self._is_first:
            self._warned = len(self._log)
        del self._log[self._warned :]

    @contextmanager
    def _reporting_subtests(self, subtests: Any) -> Generator[None, None, None]:
        """Report the subtests of the first call, and those that fail later."""
        hooks = subtests._ihook
        subtests._ihook = _SubtestHooks(hooks, self._report_subtest)
        try:
            yield
        finally:
            subtests._ihook = hooks

    def _report_subtest(self, report: Any) -> None:
        self._subtest_failed = self._subtest_failed or report.failed
        if self._is_first or report.failed:
            self._item.ihook.pytest_runtest_logreport(report=report)


class _SubtestHooks:
    """The hooks that pytest's subtests call."""

    def __init__(self, hooks: Any, report: Callable[[Any], None]) -> None:
        self._hooks = hooks
        self._report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hooks, name)

    def pytest_runtest_logreport(self, *, report: Any) -> None:
        self._report(report)


@contextmanager
def _running_finalizers(item: pytest.Function) -> Generator[None, None, None]:
    """Run what the body hands to ``request.addfinalizer()`` after each call.

    Not those of fixtures that it asks for: these are there for the next call, too.
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
def _renew_monkeypatch(item: pytest.Function) -> Generator[None, None, None]:
    """Undo what the body patches, and nothing of what fixtures have patched."""
    with pytest.MonkeyPatch.context() as fresh, _swapped(item, "monkeypatch", fresh):
        yield


@contextmanager
def _renew_mocker(item: pytest.Function) -> Generator[None, None, None]:
    mocker: Any = item.funcargs["mocker"]
    fresh = type(mocker)(item.config)
    try:
        with _swapped(item, "mocker", fresh):
            yield
    finally:
        fresh.stopall()


_RENEWED = {"monkeypatch": _renew_monkeypatch, "mocker": _renew_mocker}


@contextmanager
def _swapped(
    item: pytest.Function, name: str, value: object
) -> Generator[None, None, None]:
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
