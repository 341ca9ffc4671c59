"""Find out when the test's own timeout expires: a measurement must end before it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from math import inf
from time import perf_counter
from types import TracebackType

import pytest

TIMEOUTS: pytest.StashKey[Timeouts] = pytest.StashKey()
_PLUGIN = "pytest_timeout"


class Timeouts:
    """Notes when the running test started, and when its call phase did."""

    def __init__(self) -> None:
        self.started = self.called = perf_counter()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Note when the test starts."""
        self.started = perf_counter()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Note when its call phase starts."""
        self.called = perf_counter()
        return (yield)


def end_of(item: pytest.Item) -> float:
    """Return when a timeout will end the running test, ``inf`` for never.

    The time is on ``perf_counter``'s clock.
    """
    noted = item.config.stash[TIMEOUTS]
    ends = [noted.started + _seconds_of_faulthandler(item)]
    settings = _settings_of_pytest_timeout(item)
    seconds = getattr(settings, "timeout", None)
    if seconds and seconds > 0:
        is_of_call = getattr(settings, "func_only", False) is True
        ends.append((noted.called if is_of_call else noted.started) + seconds)
    return min(ends)


def is_timeout(error: BaseException) -> bool:
    """Return whether the signal handler of pytest-timeout raised an error."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == _PLUGIN:
            return True
        trace = trace.tb_next
    return False


def _settings_of_pytest_timeout(item: pytest.Item) -> object:
    module = sys.modules.get(_PLUGIN)
    if module is None or not item.config.pluginmanager.is_registered(module):
        return None
    read = getattr(module, "_get_item_settings", None)
    return None if read is None else read(item)


def _seconds_of_faulthandler(item: pytest.Item) -> float:
    """Return pytest's own timeout if it ends the process, else ``inf``."""
    try:
        if item.config.getini("faulthandler_exit_on_timeout"):
            return float(item.config.getini("faulthandler_timeout") or inf) or inf
    except (KeyError, ValueError):  # this pytest does not have the option
        pass
    return inf
