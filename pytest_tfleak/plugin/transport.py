"""Carry verdicts from the process that measures to the one that reports.

A verdict travels as builtins on the report of its test. Verdicts that no report could
carry follow when the session ends; an xdist worker sends them in its output.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_tfleak.plugin.finished import drop_properties
from pytest_tfleak.plugin.finished import own_properties

if TYPE_CHECKING:
    from pytest_tfleak.verdict import Verdict


class Transport:
    """Attaches verdicts to the report of the test that is running."""

    def __init__(self, config: pytest.Config, junit: bool) -> None:
        self._config = config
        # other reporters show these properties, too: add none unless requested
        self._for_junit = junit and bool(config.getoption("xmlpath", None))
        self._verdicts: list[Verdict] = []
        self._environment: dict[str, Any] = {}
        self._is_interrupted = False

    def add(self, verdict: Verdict | None) -> None:
        """Keep a verdict, if there is one, for the next report of its test."""
        if verdict is not None:
            self._verdicts.append(verdict)

    def take(self) -> dict[str, Any]:
        """Return and forget the verdicts that no report has carried."""
        verdicts, self._verdicts = self._verdicts, []
        return self._message(verdicts) | {"complete": not self._is_interrupted}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the verdicts of this phase to its report."""
        verdicts = self._verdicts
        if self._for_junit:
            _set_properties(item, verdicts, is_new=call.when == "setup")
        report = yield
        if self._for_junit and call.when == "teardown":
            drop_properties(item.user_properties)  # the report has them by now
        if verdicts:
            try:
                self._attach(report, verdicts)
            except Exception as error:  # the report of the next phase may carry them
                name = type(error).__name__
                why = f"the verdict is not on this report: {name}: {error}"
                report.sections.append(("tfleak", why))
        return report

    def _attach(self, report: pytest.TestReport, verdicts: list[Verdict]) -> None:
        message = self._message(verdicts)
        vars(report)["tfleak"] = message["verdicts"]
        vars(report)["tfleak_environment"] = message["environment"]
        self._verdicts = []
        report.sections += _sections(verdicts) if report.failed else ()

    def pytest_keyboard_interrupt(self) -> None:
        """Remember that tests are missing: the exit status may not show it."""
        self._is_interrupted = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Send the remaining verdicts of an xdist worker."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["tfleak"] = self.take()

    def _message(self, verdicts: list[Verdict]) -> dict[str, Any]:
        """Return verdicts as builtins, with the environment if it has changed."""
        if not verdicts:
            return {"verdicts": [], "environment": {}}
        from pytest_tfleak.reports.document import sendable
        from pytest_tfleak.run.environment import look_up

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
            lines = wrap(text, 80, rest="  ")
            for note in verdict.notes:
                lines += wrap(safe(note), 80, "  ", "  ")
            yield "tfleak", "\n".join(lines)


def _set_properties(item: pytest.Item, verdicts: list[Verdict], is_new: bool) -> None:
    """Add the properties of verdicts; drop those of an earlier run of the same test."""
    from pytest_tfleak.reports.junit import VERDICT
    from pytest_tfleak.reports.junit import properties

    pairs = item.user_properties
    if is_new:
        drop_properties(pairs)
    earlier = sum(name.endswith(VERDICT) for name in own_properties(pairs))
    for number, verdict in enumerate(verdicts, earlier + 1):
        pairs += properties(verdict, number)
