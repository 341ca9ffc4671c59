"""All hooks, in the order in which pytest calls them, and the fixtures.

The stages of a measured test:

    options -> Plan: how one test is repeated, read and judged
    the body, called again and again -> Trace: the readings
    Trace -> judge -> diagnosis -> decide -> Verdict
    Verdict -> LeakFailed, raised in the call phase of the test
    Verdict -> report -> Ledger of the controlling process -> summary and files
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import RunOptions
from pytest_tfleak.plugin import command_line
from pytest_tfleak.plugin import hookspecs
from pytest_tfleak.plugin.early_teardown import raise_late
from pytest_tfleak.plugin.exit_timeout import ExitTimeout
from pytest_tfleak.plugin.failure import LeakFailed
from pytest_tfleak.plugin.failure import MeasurementFailed
from pytest_tfleak.plugin.failure import terminal_draws
from pytest_tfleak.plugin.finished import FinishedTests
from pytest_tfleak.plugin.journaling import JournalKeeper
from pytest_tfleak.plugin.outputs import Outputs
from pytest_tfleak.plugin.outputs import baseline_of
from pytest_tfleak.plugin.pytest_html import add_rows
from pytest_tfleak.plugin.seed import SeedKeeper
from pytest_tfleak.plugin.termination import Termination
from pytest_tfleak.plugin.timeouts import TIMEOUTS
from pytest_tfleak.plugin.timeouts import Timeouts
from pytest_tfleak.plugin.timeouts import end_of
from pytest_tfleak.plugin.total_time import TotalTime
from pytest_tfleak.plugin.transport import Transport

if TYPE_CHECKING:
    import pluggy

    from pytest_tfleak.compare.baseline import Baseline
    from pytest_tfleak.diagnosis.explained_before import ExplainedLeaks
    from pytest_tfleak.plugin.item import Checker
    from pytest_tfleak.plugin.item import RunContext
    from pytest_tfleak.probes.base import GuardedProbe
    from pytest_tfleak.probes.base import Probe
    from pytest_tfleak.probes.census import Census
    from pytest_tfleak.run.progress import LiveTerminal
    from pytest_tfleak.run.snapshot import MemorySnapshot
    from pytest_tfleak.verdict import Ledger


RUN = pytest.StashKey[RunOptions]()
BASELINE: pytest.StashKey[Baseline | None] = pytest.StashKey()
TRANSPORT = pytest.StashKey[Transport]()
OUTPUTS = pytest.StashKey[Outputs]()  # in the controlling process only
JOURNAL = pytest.StashKey[JournalKeeper]()  # in the controlling process only
TERMINATION = pytest.StashKey[Termination]()  # likewise
EARLIER: pytest.StashKey[ExplainedLeaks] = pytest.StashKey()
TOTAL_TIME = pytest.StashKey[TotalTime]()
TERMINAL: pytest.StashKey[LiveTerminal | None] = pytest.StashKey()
AHEAD = pytest.StashKey[bool]()  # whether plugin/ahead.py has done its imports
WIDTH = pytest.StashKey[int]()  # of messages, in columns


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    command_line.declare(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # before a conftest.py starts TensorFlow
        from pytest_tfleak.probes.gpu.per_worker import take_card_if_asked

        take_card_if_asked(early_config)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", command_line.marker_help())
    config.stash[RUN] = run = command_line.run_options(config)
    config.stash[BASELINE] = baseline = baseline_of(config, run)
    config.pluginmanager.register(SeedKeeper(_is_measured), "tfleak-seeds")
    config.stash[TIMEOUTS] = timeouts = Timeouts()
    config.pluginmanager.register(timeouts, "tfleak-timeouts")
    config.stash[TOTAL_TIME] = TotalTime(config, run.max_total_time or inf)
    config.stash[TRANSPORT] = transport = Transport(config, run.junit == "on")
    config.pluginmanager.register(transport, "tfleak-transport")
    if not hasattr(config, "workerinput"):  # a worker's reports go to the controller
        config.stash[OUTPUTS] = outputs = Outputs(config, run, baseline, transport.take)
        outputs.prepare()
        config.pluginmanager.register(outputs, "tfleak-outputs")
        config.pluginmanager.register(FinishedTests(config), "tfleak-finished")
        config.stash[JOURNAL] = journal = JournalKeeper(config)
        config.pluginmanager.register(journal, "tfleak-journal")
        config.stash[TERMINATION] = termination = Termination()
        config.pluginmanager.register(termination, "tfleak-termination")
        config.add_cleanup(termination.restore)
        add_rows(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    from pytest_tfleak.run.progress import open_terminal

    config = session.config
    seconds = config.stash[RUN].exit_timeout
    if OUTPUTS in config.stash and seconds is not None:
        ExitTimeout(seconds, lambda: int(session.exitstatus)).prepare()
    config.stash[WIDTH] = _width_of_messages(config)
    config.stash[TERMINAL] = terminal = open_terminal(config)
    if terminal is not None:
        config.add_cleanup(terminal.close)


def _width_of_messages(config: pytest.Config) -> int:
    """Return the terminal's width in columns, at most 80; 80 if it is unknown."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    width: int = 80 if reporter is None else reporter._tw.fullwidth
    width = getattr(config, "workerinput", {}).get("tfleak_width", width)
    return min(width, 80)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["tfleak_width"] = node.config.stash[WIDTH]


def pytest_report_header(config: pytest.Config) -> list[str]:
    # only xdist's workers collect tests, and they print nothing
    is_known = _is_distributed(config) and config.stash[RUN].all_tests
    return (_header(config) if is_known else []) + _gpus_of_workers(config)


def _is_distributed(config: pytest.Config) -> bool:
    """Return whether xdist has workers collect and run the tests."""
    return bool(config.getoption("dist", "no") != "no")


def _header(config: pytest.Config) -> list[str]:
    """Return which probes are on and why the others are off; nothing with ``-q``."""
    if config.get_verbosity() < 0:
        return []
    from pytest_tfleak.probes.base import guard
    from pytest_tfleak.probes.census import Census
    from pytest_tfleak.reports.terminal import header_lines
    from pytest_tfleak.run.environment import imported_version
    from pytest_tfleak.run.environment import too_old

    probes = guard(_make_probes(config.hook, Census()))
    old = too_old(imported_version("tensorflow"))
    lines = header_lines([_state_of(probe) for probe in probes], old)
    for probe in probes:
        probe.close()
    return lines


def _gpus_of_workers(config: pytest.Config) -> list[str]:
    if not config.stash[RUN].spread_gpus or config.get_verbosity() < 0:
        return []
    from pytest_tfleak.probes.gpu.per_worker import describe
    from pytest_tfleak.probes.gpu.per_worker import workers_of

    return [f"tfleak: {describe(os.environ, workers_of(config))}"]


def _state_of(probe: GuardedProbe) -> tuple[str, str | None]:
    """Return how the header names a probe, and why it is off, None if it is on."""
    why = probe.why_off()
    remark = None if why is not None else probe.remark()
    return f"{probe.name} ({remark})" if remark else probe.name, why


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, object, object]:
    collected = list(items)  # bad markers are reported in deselected tests, too
    result = yield
    mistakes = command_line.check_markers([*collected, *items], config.stash[RUN])
    mistakes = mistakes or _mistakes_of_shapes(items) or _mistakes_of_probes(items)
    mistakes = mistakes or _mistakes_of_python(items)
    if mistakes:
        if hasattr(config, "workeroutput"):
            config.workeroutput["tfleak_mistakes"] = mistakes
        raise pytest.UsageError(*mistakes)
    return result


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if config.option.collectonly:
        return
    with suppress(PlanError):  # a bad marker, which ends the run with a usage error
        requests = {
            item.nodeid: command_line.request_for(item, config.stash[RUN])
            for item in session.items
        }
        wanted = [nodeid for nodeid, request in requests.items() if request is not None]
        config.stash[TOTAL_TIME].choose(wanted)
        if wanted or any(
            "tfleak" in getattr(item, "fixturenames", ()) for item in session.items
        ):
            _import_ahead(config)


def _import_ahead(config: pytest.Config) -> None:
    if config.stash.get(AHEAD, False):
        return
    config.stash[AHEAD] = True
    from pytest_tfleak.plugin.ahead import import_ahead

    import_ahead(config)
    if OUTPUTS in config.stash:
        config.stash[OUTPUTS].import_ahead()
        config.stash[JOURNAL].begin()
        config.stash[TERMINATION].install()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # a worker cannot end the run with a usage error
    mistakes = getattr(node, "workeroutput", {}).get("tfleak_mistakes")
    if mistakes:
        raise pytest.UsageError(*mistakes)


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> list[str]:
    run = config.stash[RUN]
    try:
        requests = [command_line.request_for(item, run) for item in items]
    except PlanError:  # a bad marker, which ends the run with a usage error
        return []
    asks = any("tfleak" in getattr(item, "fixturenames", ()) for item in items)
    if asks or any(request and request.plan.enabled for request in requests):
        return [] if config.option.collectonly else _header(config)
    return command_line.without_effect(config, run) if items else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    request = _request_for(item)  # asked again: a fixture may have added a marker
    if request is None:
        return (yield)
    _import_ahead(item.config)
    from pytest_tfleak.plugin.item import MeasuredItem
    from pytest_tfleak.plugin.item import without_turn

    context, total = _context_of(item), item.config.stash[TOTAL_TIME]
    if (
        request.plan.enabled
        and "tfleak" not in getattr(item, "fixturenames", ())
        and not total.has_turn(item.nodeid)
    ):
        context.record(without_turn(item.nodeid, request.via, total.why_not))
        return (yield)
    measured = MeasuredItem(item, request, context)
    with measured.in_place_of_runtest(), total.spent():
        try:
            return (yield)
        finally:
            context.record(measured.verdict)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    raise_late(item)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_tfleak_probes(census: Census) -> Sequence[Probe]:
    from pytest_tfleak.probes import make_probes

    return make_probes(census)


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
        # for the short summary: no name of the exception
        summary = error.summary if isinstance(error, LeakFailed) else ""
        first, *_ = str(error).split("\n", 1)
        crash.message = summary or first.removeprefix("LEAK: ")
        # for --tb=line: the line of the test instead of ours, which raised
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


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if OUTPUTS in config.stash and not config.option.collectonly:
        ledger = config.stash[OUTPUTS].ledger
        if ledger is not None:
            config.stash[TOTAL_TIME].remember(ledger.verdicts())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    outputs = config.stash[OUTPUTS]
    if outputs.ledger is None:
        return
    from pytest_tfleak.reports.terminal import Line
    from pytest_tfleak.reports.terminal import summary_lines
    from pytest_tfleak.reports.terminal import time_lines

    width, unicode = terminalreporter._tw.fullwidth, terminal_draws()
    lines = summary_lines(outputs.ledger, config.get_verbosity(), width, unicode)
    if _lacked_header(config, outputs.ledger):
        lines[:0] = [Line(text, "dim") for text in _header(config)]
    if outputs.why_too_old is not None:
        lines.insert(0, Line(outputs.why_too_old, "warn"))
    if outputs.lacks and config.get_verbosity() > 1:
        lines.append(Line(f"This TensorFlow lacks {'; '.join(outputs.lacks)}.", "dim"))
    baseline = outputs.baseline_summary()
    if baseline is not None:
        from pytest_tfleak.compare.baseline import summary_lines as baseline_lines

        texts = baseline_lines(baseline, config.get_verbosity(), width, unicode)
        lines += [Line(text, "plain") for text in texts]
    verbosity, workers = config.get_verbosity(), len(outputs.workers)
    lines += time_lines(outputs.ledger, verbosity, width, unicode, workers)
    if not lines:
        return
    terminalreporter.write_sep("=", "tfleak")
    for line in lines:
        terminalreporter.write_line(line.text, **_MARKUP[line.markup])


def _lacked_header(config: pytest.Config, ledger: Ledger) -> bool:
    """Return whether ``-v`` asks for a header that could not come first."""
    if not _is_distributed(config) or config.stash[RUN].all_tests:
        return False
    is_measured = any(verdict.iterations for verdict in ledger.verdicts())
    return is_measured and config.get_verbosity() > 0


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
    from pytest_tfleak.plugin.item import Checker

    item = request.node
    return Checker(item.nodeid, item.config.stash[RUN], _context_of(item))


@pytest.fixture
def clear_keras_session() -> Generator[None, None, None]:
    """Call ``keras.utils.clear_session()`` before and after the test."""
    _clear_keras_session()
    yield
    _clear_keras_session()


def _clear_keras_session() -> None:
    from pytest_tfleak.tf.access import call_clear_session

    why = call_clear_session()
    if why is not None:
        warnings.warn(
            pytest.PytestWarning(f"clear_keras_session did nothing: {why}"),
            stacklevel=1,
        )


@pytest.fixture
def memory_snapshot(request: pytest.FixtureRequest) -> Callable[[], MemorySnapshot]:
    """Return a function that takes a ``MemorySnapshot``; subtract two to compare."""
    from pytest_tfleak.run.snapshot import take_snapshot

    return partial(take_snapshot, partial(_make_probes, request.node.ihook))


def _is_measured(item: pytest.Item) -> bool:
    return _request_for(item) is not None


def _request_for(item: pytest.Item) -> command_line.Request | None:
    try:
        return command_line.request_for(item, item.config.stash[RUN])
    except PlanError as error:
        pytest.fail(f"tfleak marker: {error}", pytrace=False)


def _context_of(item: pytest.Item) -> RunContext:
    from pytest_tfleak.diagnosis.explained_before import ExplainedLeaks
    from pytest_tfleak.plugin.item import RunContext

    config = item.config
    return RunContext(
        probes=partial(_make_probes, item.ihook),
        end=partial(end_of, item),
        baseline=config.stash[BASELINE],
        earlier=config.stash.setdefault(EARLIER, ExplainedLeaks()),
        terminal=config.stash[TERMINAL],
        width=config.stash[WIDTH],
        callers=config.get_verbosity() > 1,
        record=config.stash[TRANSPORT].add,
        spent=config.stash[TOTAL_TIME].spent,
    )


def _mistakes_of_shapes(items: Sequence[pytest.Item]) -> list[str]:
    """Return a message for each test that has a marker and cannot be measured.

    A marker of its class or module may be meant for other tests; a test that is skipped
    need not be measurable.
    """
    mistakes = []
    for item in items:
        request = _request_for(item)
        if request is None or not (request.is_marked_itself and request.repeats):
            continue
        from pytest_tfleak.plugin.item import why_unsupported

        why = why_unsupported(item)
        if why is not None and item.get_closest_marker("skip") is None:
            mistakes.append(f"{item.nodeid}: the tfleak marker {why}")
    return mistakes


def _mistakes_of_python(items: Sequence[pytest.Item]) -> list[str]:
    """Return that this Python cannot be measured, if tests are to be."""
    if not any(map(_is_measured, items)):
        return []  # and nothing is imported
    from pytest_tfleak.run.environment import WITHOUT_GIL
    from pytest_tfleak.run.environment import without_gil

    return [f"tfleak: {WITHOUT_GIL}"] if without_gil() else []


def _mistakes_of_probes(items: Sequence[pytest.Item]) -> list[str]:
    """Return what is wrong with the probes of other plugins on measured tests."""
    checked: set[frozenset[int]] = set()
    mistakes: list[str] = []
    for item in items:
        made_by = item.ihook.pytest_tfleak_probes.get_hookimpls()
        plugins = frozenset(id(made.plugin) for made in made_by)
        if len(plugins) == 1 or plugins in checked or not _is_measured(item):
            continue
        from pytest_tfleak.probes.base import ProbeError
        from pytest_tfleak.probes.base import guard
        from pytest_tfleak.probes.base import signals_of
        from pytest_tfleak.probes.census import Census

        checked.add(plugins)
        probes = guard(_make_probes(item.ihook, Census()))
        try:
            signals_of(probes)
        except ProbeError as error:
            mistakes.append(f"tfleak: {error}")
        for probe in probes:
            probe.close()
    return mistakes


def _make_probes(hook: pluggy.HookRelay, census: Census) -> list[Probe]:
    """Return all probes; if another plugin's fail to build, one that says so.

    An error in another plugin must not fail the measured test.
    """
    caller = hook.pytest_tfleak_probes
    try:
        # results come in the order of the calls, so the built-in probes are first
        return [probe for group in caller(census=census) for probe in group]
    except Exception as error:
        from pytest_tfleak.probes import make_probes
        from pytest_tfleak.probes.base import NoProbe

        return [*make_probes(census), NoProbe("pytest_tfleak_probes", error)]
