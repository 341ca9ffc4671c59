"""Verdicts on their way from the process that measured to the one that reports."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING
from typing import Any

import pytest

if TYPE_CHECKING:
    from pytest_tfleak.verdict import Verdict


class Outbox:
    """Sends verdicts, as builtins, with the report of the test that is running."""

    def __init__(self, config: pytest.Config, junit: bool) -> None:
        self._config = config
        # other reporters show these properties as well: only where they were asked for
        self._for_junit = junit and bool(config.getoption("xmlpath", None))
        self._verdicts: list[Verdict] = []
        self._environment: dict[str, Any] = {}
        self._is_interrupted = False

    def add(self, verdict: Verdict | None) -> None:
        """Keep a verdict, if there is one, for the next report of its test."""
        if verdict is not None:
            self._verdicts.append(verdict)

    def take(self) -> dict[str, Any]:
        """Return the verdicts that no report took along, and forget them."""
        verdicts, self._verdicts = self._verdicts, []
        return self._message(verdicts) | {"complete": not self._is_interrupted}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Give the report the verdicts that were reached in this phase."""
        verdicts = self._verdicts
        if self._for_junit:
            _set_properties(item, verdicts, is_new=call.when == "setup")
        report = yield
        if verdicts:
            message = self._message(verdicts)
            vars(report)["tfleak"] = message["verdicts"]
            vars(report)["tfleak_environment"] = message["environment"]
            report.sections += _sections(verdicts) if report.failed else ()
            self._verdicts = []
        return report

    def pytest_keyboard_interrupt(self) -> None:
        """Note that tests are missing, whatever the exit status will be."""
        self._is_interrupted = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Send the rest from a worker of xdist."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["tfleak"] = self.take()

    def _message(self, verdicts: list[Verdict]) -> dict[str, Any]:
        """Return builtins; the environment only where it is not what was sent last."""
        if not verdicts:
            return {"verdicts": [], "environment": {}}
        from pytest_tfleak.environment import look_up
        from pytest_tfleak.reports.base import sendable

        environment = look_up()
        is_new = environment != self._environment
        self._environment = environment
        return {
            "verdicts": [sendable(verdict.to_dict()) for verdict in verdicts],
            "environment": sendable(environment) if is_new else {},
        }


def _sections(verdicts: list[Verdict]) -> Generator[tuple[str, str], None, None]:
    from pytest_tfleak.reports.text import safe
    from pytest_tfleak.reports.text import wrap

    for verdict in verdicts:
        if verdict.reason is not None:
            word = verdict.status.value.replace("_", " ")
            text = f"{word}: {safe(verdict.detail or '')}"
            yield "tfleak", "\n".join(wrap(text, 80, rest="  "))


def _set_properties(item: pytest.Item, verdicts: list[Verdict], is_new: bool) -> None:
    """Add the properties of verdicts, and drop those of an earlier run of the test."""
    from pytest_tfleak.reports.junit import PREFIX
    from pytest_tfleak.reports.junit import VERDICT
    from pytest_tfleak.reports.junit import properties

    pairs = item.user_properties
    if is_new:
        pairs[:] = [(name, v) for name, v in pairs if not name.startswith(PREFIX)]
    earlier = sum(
        name.startswith(PREFIX) and name.endswith(VERDICT) for name, _ in pairs
    )
    for number, verdict in enumerate(verdicts, earlier + 1):
        pairs += properties(verdict, number)
