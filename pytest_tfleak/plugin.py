"""pytest's hooks.

Options become a plan, and inside the call phase of each measured test runs

    plan -> loop over the test's own runtest -> trace -> judge -> verdict -> LeakFailed

The verdict travels on the report, as builtins, to the ledger of the controlling
process, which the terminal summary reads.
"""

from __future__ import annotations

import os
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
from pytest_tfleak.outbox import Outbox
from pytest_tfleak.plan import PlanError
from pytest_tfleak.pytest_html_row import add_rows
from pytest_tfleak.seeds import SeedKeeper
from pytest_tfleak.sinks import Sinks
from pytest_tfleak.sinks import open_baseline
from pytest_tfleak.sinks import resolve

if TYPE_CHECKING:
    import pluggy

    from pytest_tfleak.baseline import Baseline
    from pytest_tfleak.census import Census
    from pytest_tfleak.items import Checker
    from pytest_tfleak.probes.base import Probe
    from pytest_tfleak.progress import LiveTerminal
    from pytest_tfleak.snapshot import MemorySnapshot

RUN = pytest.StashKey[dict[str, Any]]()
BASELINE: pytest.StashKey[Baseline | None] = pytest.StashKey()
SINKS = pytest.StashKey[Sinks]()
TERMINAL: pytest.StashKey[LiveTerminal | None] = pytest.StashKey()
WIDTH = pytest.StashKey[int]()
OUTBOX = pytest.StashKey[Outbox]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.declare(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # before a conftest.py starts TensorFlow
        from pytest_tfleak.spread import take_card_if_asked

        take_card_if_asked(early_config)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", options.marker_help())
    config.stash[RUN] = run = options.run_options(config)
    file = run.get("baseline")
    baseline = file and open_baseline(resolve(config, file), "--tfleak-baseline")
    config.stash[BASELINE] = baseline
    config.pluginmanager.register(SeedKeeper(_is_measured), "tfleak-seeds")
    config.stash[OUTBOX] = outbox = Outbox(config, run.get("junit", "on") == "on")
    config.pluginmanager.register(outbox, "tfleak-outbox")
    if not hasattr(config, "workerinput"):  # a worker's reports go to the controller
        sinks = Sinks(config, run, baseline, outbox.take)
        sinks.prepare()
        config.stash[SINKS] = sinks
        config.pluginmanager.register(sinks, "tfleak-sinks")
        add_rows(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    from pytest_tfleak.progress import open_terminal

    session.config.stash[TERMINAL] = open_terminal(session.config)
    session.config.stash[WIDTH] = _width_of_messages(session.config)


def _width_of_messages(config: pytest.Config) -> int:
    """Return the columns of the terminal, 80 where there are more or none is known."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    width: int = 80 if reporter is None else reporter._tw.fullwidth
    width = getattr(config, "workerinput", {}).get("tfleak_width", width)
    return min(width, 80)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["tfleak_width"] = node.config.stash[WIDTH]


def pytest_unconfigure(config: pytest.Config) -> None:
    terminal = config.stash.get(TERMINAL, None)
    if terminal is not None:
        terminal.close()


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
    if lines and config.stash[RUN].get("spread_gpus"):
        from pytest_tfleak.spread import describe
        from pytest_tfleak.spread import workers_of

        lines.append(f"tfleak: {describe(os.environ, workers_of(config))}")
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

    measured = MeasuredItem(
        item,
        request,
        partial(_make_probes, item.ihook),
        item.config.stash[BASELINE],
        item.config.stash[TERMINAL],
        item.config.stash[WIDTH],
    )
    with measured.in_place_of_runtest():
        try:
            return (yield)
        finally:
            item.config.stash[OUTBOX].add(measured.verdict)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo and call.excinfo.value
    if call.when == "call":
        vars(report)["tfleak_failed"] = isinstance(error, LeakFailed)
    crash = getattr(report.longrepr, "reprcrash", None)
    if isinstance(error, (LeakFailed, MeasurementFailed)) and crash is not None:
        # the line of the short summary: without the name of the exception
        crash.message = str(error).partition("\n")[0].removeprefix("LEAK: ")
        # the line of --tb=line: that of the test, not the one of ours that raises
        crash.path, line = str(item.path), item.location[1]
        crash.lineno = 1 if line is None else line + 1
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    if report.failed and getattr(report, "tfleak_failed", False):
        return "failed", "L", ("LEAK", {"red": True})
    return None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    sinks = config.stash[SINKS]
    if sinks.ledger is None:
        return
    from pytest_tfleak.reports.terminal import Line
    from pytest_tfleak.reports.terminal import summary_lines

    width, unicode = terminalreporter._tw.fullwidth, terminal_draws()
    lines = summary_lines(sinks.ledger, config.get_verbosity(), width, unicode)
    baseline = sinks.baseline_summary()
    if baseline is not None:
        from pytest_tfleak.reports.baseline import summary_lines as baseline_lines

        texts = baseline_lines(baseline, config.get_verbosity(), width, unicode)
        lines += [Line(text, "plain") for text in texts]
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
        baseline=request.config.stash[BASELINE],
        terminal=request.config.stash[TERMINAL],
        width=request.config.stash[WIDTH],
        callers=request.config.get_verbosity() > 1,
        record=request.config.stash[OUTBOX].add,
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


def _make_probes(hook: pluggy.HookRelay, census: Census) -> list[Probe]:
    groups = hook.pytest_tfleak_probes(census=census)
    # pluggy calls the built-in first; a hook's results come in the order of the calls
    return [probe for group in groups for probe in group]
