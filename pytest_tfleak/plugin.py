"""pytest's hooks.

Options become a plan, and inside the call phase of each measured test runs

    plan -> loop over the test's own runtest -> trace -> judge -> verdict -> LeakFailed

The verdict travels on the report, as builtins, to the ledger of the controlling
process, which the terminal summary reads.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_tfleak import hookspecs
from pytest_tfleak import options
from pytest_tfleak.failure import LeakFailed
from pytest_tfleak.failure import MeasurementFailed
from pytest_tfleak.failure import terminal_draws
from pytest_tfleak.plan import PlanError
from pytest_tfleak.seeds import SeedKeeper

if TYPE_CHECKING:
    import pluggy

    from pytest_tfleak.census import Census
    from pytest_tfleak.items import Checker
    from pytest_tfleak.ledger import Ledger
    from pytest_tfleak.probes.base import Probe
    from pytest_tfleak.snapshot import MemorySnapshot
    from pytest_tfleak.verdict import Verdict

RUN = pytest.StashKey[dict[str, Any]]()
LEDGER: pytest.StashKey[Ledger] = pytest.StashKey()
VERDICTS = pytest.StashKey[list["Verdict"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.declare(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", options.marker_help())
    config.stash[RUN] = options.run_options(config)
    config.pluginmanager.register(SeedKeeper(_is_measured), "tfleak-seeds")
    if not hasattr(config, "workerinput"):  # a worker's reports go to the controller
        config.pluginmanager.register(_LedgerKeeper(config), "tfleak-ledger")


@pytest.hookimpl(tryfirst=True)
def pytest_tfleak_probes(census: Census) -> Sequence[Probe]:
    from pytest_tfleak.probes import make_probes

    return make_probes(census)


def pytest_report_header(config: pytest.Config) -> list[str]:
    from pytest_tfleak.census import Census
    from pytest_tfleak.reports.header import header_lines

    probes = _make_probes(config.hook, Census())
    lines = header_lines(
        [(probe.name, probe.why_off()) for probe in probes], config.get_verbosity()
    )
    for probe in probes:
        probe.close()
    return lines


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, object, object]:
    collected = list(items)  # a bad marker is a mistake in deselected tests as well
    result = yield
    mistakes = options.check_markers([*collected, *items], config.stash[RUN])
    if mistakes:
        if hasattr(config, "workeroutput"):
            config.workeroutput["tfleak_mistakes"] = mistakes
        raise pytest.UsageError(*mistakes)
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # a worker cannot end the run with a usage error
    mistakes = getattr(node, "workeroutput", {}).get("tfleak_mistakes")
    if mistakes:
        raise pytest.UsageError(*mistakes)


@pytest.hookimpl  # not first: a test that is skipped is skipped
def pytest_runtest_setup(item: pytest.Item) -> None:
    request = _request_for(item)
    if request is not None and request.is_marked and request.plan.enabled:
        from pytest_tfleak.items import why_unsupported

        why = why_unsupported(item)
        if why is not None:
            pytest.fail(f"the tfleak marker {why}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    request = _request_for(item)  # anew: a fixture may have added a marker
    if request is None:
        return (yield)
    from pytest_tfleak.items import MeasuredItem

    measured = MeasuredItem(item, request, partial(_make_probes, item.ihook))
    with measured.in_place_of_runtest():
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception):
            # there will be no report of this test
            if measured.verdict is not None:
                _ledger(item.config).add(measured.verdict)
            raise
        finally:
            record(item, measured.verdict)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        verdicts = item.stash.get(VERDICTS, [])
        vars(report)["tfleak"] = [verdict.to_dict() for verdict in verdicts]
        if report.failed:
            for v in verdicts:
                if v.reason is not None:
                    word = v.status.value.replace("_", " ")
                    report.sections.append(("tfleak", f"{word}: {v.detail}"))
        error = call.excinfo and call.excinfo.value
        vars(report)["tfleak_failed"] = isinstance(error, LeakFailed)
        crash = getattr(report.longrepr, "reprcrash", None)
        if isinstance(error, (LeakFailed, MeasurementFailed)) and crash is not None:
            # the line of the short summary: without the name of the exception
            crash.message = str(error).partition("\n")[0].removeprefix("LEAK: ")
        item.stash[VERDICTS] = []
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    if report.failed and getattr(report, "tfleak_failed", False):
        return "failed", "L", ("LEAK", {"red": True})
    return None


class _LedgerKeeper:
    """Gathers the verdicts from the reports, in the controlling process."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for data in getattr(report, "tfleak", []):
            from pytest_tfleak.verdict import Verdict

            _ledger(self._config).add(Verdict.from_dict(data))


def _ledger(config: pytest.Config) -> Ledger:
    """Return the run's ledger; a run without measured tests does not pay for it."""
    from pytest_tfleak.ledger import Ledger

    return config.stash.setdefault(LEDGER, Ledger())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    ledger = config.stash.get(LEDGER, None)
    if ledger is None:
        return
    from pytest_tfleak.reports.terminal import summary_lines

    writer = terminalreporter._tw
    lines = summary_lines(
        ledger,
        config.get_verbosity(),
        writer.fullwidth,
        terminal_draws(),
    )
    if not lines:
        return
    terminalreporter.section("tfleak", sep="=")
    for line in lines:
        terminalreporter.write_line(line.text, **_MARKUP[line.markup])


_MARKUP = {
    "leak": {"red": True},
    "warn": {"yellow": True},
    "clean": {"green": True},
    "dim": {"light": True},
    "plain": {},
}


@pytest.fixture
def tfleak(request: pytest.FixtureRequest) -> Checker:
    """Check a block inside a test: ``tfleak.check(fn, iterations=30)``."""
    from pytest_tfleak.items import Checker

    item = request.node
    return Checker(
        nodeid=item.nodeid,
        run=request.config.stash[RUN],
        probes=partial(_make_probes, item.ihook),
        record=partial(record, item),
    )


@pytest.fixture
def clear_keras_session() -> Generator[None, None, None]:
    """Call ``keras.utils.clear_session()`` before and after the test."""
    from pytest_tfleak.observed import call_clear_session

    call_clear_session()
    yield
    call_clear_session()


@pytest.fixture
def memory_snapshot(request: pytest.FixtureRequest) -> Callable[[], MemorySnapshot]:
    """Return a function that takes a ``MemorySnapshot``; two of them subtract."""
    from pytest_tfleak.snapshot import take_snapshot

    return partial(take_snapshot, partial(_make_probes, request.node.ihook))


def _is_measured(item: pytest.Item) -> bool:
    return _request_for(item) is not None


def _request_for(item: pytest.Item) -> options.Request | None:
    try:
        return options.request_for(item, item.config.stash[RUN])
    except PlanError as error:
        pytest.fail(f"tfleak marker: {error}", pytrace=False)


def record(item: pytest.Item, verdict: Verdict | None) -> None:
    """Keep a verdict for the report of the running test."""
    if verdict is not None:
        item.stash.setdefault(VERDICTS, []).append(verdict)


def _make_probes(hook: pluggy.HookRelay, census: Census) -> list[Probe]:
    groups = hook.pytest_tfleak_probes(census=census)
    # pluggy calls the built-in first; a hook's results come in the order of the calls
    return [probe for group in groups for probe in group]
