"""One pytest item, measured: its body, its fixtures, and how a verdict fails it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest
from _pytest.outcomes import Failed
from _pytest.tmpdir import tmppath_result_key
from _pytest.unittest import TestCaseFunction

from pytest_tfleak.amend import demand_gpu
from pytest_tfleak.check import Measurement
from pytest_tfleak.check import NestedMeasurementError
from pytest_tfleak.check import ProbeMaker
from pytest_tfleak.failure import LeakFailed
from pytest_tfleak.failure import MeasurementFailed
from pytest_tfleak.failure import terminal_draws
from pytest_tfleak.options import Request
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import parse_options
from pytest_tfleak.records import FailedSubtests
from pytest_tfleak.records import Records
from pytest_tfleak.reports.terminal import failure_text
from pytest_tfleak.snapshot import MemorySnapshot
from pytest_tfleak.snapshot import take_snapshot
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

if TYPE_CHECKING:
    from pytest_tfleak.baseline import Baseline
    from pytest_tfleak.progress import LiveTerminal


def why_unsupported(item: pytest.Item) -> str | None:
    """Say why this test's body cannot be repeated, None where it can."""
    if isinstance(item, TestCaseFunction):
        return "does not support unittest.TestCase yet: use a function or a plain class"
    if not isinstance(item, pytest.Function):
        return f"does not support tests of type {type(item).__name__}"
    if inspect.iscoroutinefunction(item.obj) or inspect.isasyncgenfunction(item.obj):
        return "does not support async tests yet: run the coroutine in a plain test"
    if getattr(item.obj, "is_hypothesis_test", False):
        return "does not support Hypothesis tests yet: use a plain test"
    if "tfleak" in item.fixturenames:
        return "does not go with the tfleak fixture: take the one or the other"
    return None


class MeasuredItem:
    """Repeats an item's ``runtest`` the way pytest would have called it."""

    def __init__(
        self,
        item: pytest.Item,
        request: Request,
        probes: ProbeMaker,
        baseline: Baseline | None,
        terminal: LiveTerminal | None,
        width: int,
    ) -> None:
        self._terminal = terminal
        self._width = width
        self._baseline = baseline
        self._item = item
        self._plan = _within_timeout(item, request.plan)
        self._is_marked = request.is_marked
        self._probes = probes
        self._runtest = item.runtest
        self.verdict: Verdict | None = None

    @contextmanager
    def in_place_of_runtest(self) -> Generator[None, None, None]:
        """Have pytest call ``run`` where it would call the item's ``runtest``."""
        attributes = vars(self._item)
        own = {name: attributes[name] for name in ("runtest",) if name in attributes}
        attributes["runtest"] = self.run
        try:
            yield
        finally:
            del attributes["runtest"]
            attributes.update(own)

    def run(self) -> None:
        """Measure the test and raise what its verdict demands."""
        __tracebackhide__ = True
        why = self._why_not()
        if why is not None:
            self._runtest()
            self.verdict = _not_measured(self._item.nodeid, *why)
            return
        assert isinstance(self._item, pytest.Function)
        measurement = Measurement(
            partial(self._iterate, self._item, Records(self._item)),
            self._plan,
            nodeid=self._item.nodeid,
            probes=self._probes,
            handed=self._fixture_values(self._item),
            door="marker",
            terminal=self._terminal,
        )
        try:
            measurement.run()
        except FailedSubtests:
            return  # pytest fails the test for them
        except NestedMeasurementError:
            if self._is_marked:
                raise
            self._runtest()  # it calls find_leaks: outside of a measurement it can
            measurement.verdict = _not_measured(
                self._item.nodeid, Reason.MEASURES_ITSELF, "calls the library"
            )
            return
        except (Exception, Failed) as error:
            if not _passed_at_first(measurement.verdict, error):
                raise
            measurement.verdict = _not_repeatable(
                measurement.verdict, error, self._plan
            )
            if self._is_marked:
                raise
            return  # without us the test passes, and nobody asked to repeat this one
        finally:
            self.verdict = measurement.verdict
        if self._baseline is not None and self.verdict is not None:
            accepted = self._baseline.apply(self.verdict)
            self.verdict = demand_gpu(accepted, self._plan)
        callers = self._item.config.get_verbosity() > 1
        fail_if_demanded(
            self.verdict, self._plan, self._is_marked, callers, self._width
        )

    def _why_not(self) -> tuple[Reason, str] | None:
        if not self._plan.enabled:
            return Reason.DISABLED, self._plan.reason or "enabled=False"
        if "tfleak" in getattr(self._item, "fixturenames", ()):
            return Reason.MEASURES_ITSELF, "uses the tfleak fixture"
        why = why_unsupported(self._item)
        return None if why is None else (Reason.UNSUPPORTED, f"tfleak {why}")

    def _fixture_values(self, item: pytest.Function) -> dict[str, object]:
        """Return what the body is handed, and may leave objects in, by name."""
        lasting = {
            name
            for name, definitions in item._fixtureinfo.name2fixturedefs.items()
            if self._plan.repeat == "body" or definitions[-1].scope != "function"
        }
        lasting.discard("request")
        values = item.funcargs.items()
        return {f"fixture {name}": v for name, v in values if name in lasting}

    def _iterate(self, item: pytest.Function, records: Records) -> None:
        """Call the body as pytest would, with ``repeat="test"`` in new fixtures."""
        __tracebackhide__ = True
        records.drop_output()
        if self._plan.repeat == "body":
            records.call(self._runtest)
            return
        state = item.session._setupstate
        state.setup(item)  # does nothing the first time: pytest has done it
        records.call(self._runtest)
        outcomes = item.stash.get(tmppath_result_key, None)
        state.teardown_exact(item.parent)  # type: ignore[arg-type]  # a chain will do
        if outcomes is not None:  # tmp_path's teardown expects them, and drops them
            item.stash[tmppath_result_key] = outcomes
        item._initrequest()  # lets go of the fixtures' values


class Checker:
    """The ``tfleak`` fixture: checks blocks inside a test."""

    def __init__(
        self,
        *,
        nodeid: str,
        run: dict[str, Any],
        probes: ProbeMaker,
        baseline: Baseline | None,
        terminal: LiveTerminal | None,
        width: int,
        callers: bool,
        record: Callable[[Verdict | None], None],
    ) -> None:
        self._nodeid = nodeid
        self._run = {k: v for k, v in run.items() if k != "all_tests"}
        self._probes = probes
        self._baseline = baseline
        self._terminal = terminal
        self._width = width
        self._callers = callers
        self._record = record

    def check(self, fn: Callable[[], object], **options: object) -> Verdict:
        """Call ``fn`` again and again; fail the test where it leaks.

        ``options`` are the marker's keywords and win over command line and ini. Raises
        LeakFailed on a leak, pytest.UsageError for an option that no plan takes, and
        what ``fn`` raises.
        """
        __tracebackhide__ = True
        try:
            plan = Plan(**{**self._run, **parse_options(options, "library")})
        except PlanError as error:
            raise pytest.UsageError(f"tfleak.check: {error}") from None
        measurement = Measurement(
            fn,
            plan,
            nodeid=self._nodeid,
            probes=self._probes,
            handed={"the checked function": fn},
            door="fixture",
            terminal=self._terminal,
        )
        caller = sys._getframe(1)
        line = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        try:
            verdict = measurement.run()
            if verdict.status is not Status.CLEAN:
                notes = (f"The check at {line}.", *verdict.notes)
                verdict = replace(verdict, notes=notes)
            if self._baseline is not None:
                verdict = demand_gpu(self._baseline.apply(verdict), plan)
            measurement.verdict = verdict
        finally:
            self._record(measurement.verdict)
        fail_if_demanded(verdict, plan, True, self._callers, self._width)
        return verdict

    def snapshot(self) -> MemorySnapshot:
        """Return what the process holds now; two snapshots subtract."""
        return take_snapshot(self._probes)


def fail_if_demanded(
    verdict: Verdict | None, plan: Plan, is_marked: bool, callers: bool, width: int
) -> None:
    """Raise what a verdict calls for: nothing where it is CLEAN.

    ``callers`` adds the lines that called the one that leaks; ``width`` is that of the
    message, in columns.
    """
    if verdict is None:
        return
    unicode = terminal_draws()
    if verdict.status is Status.LEAK:
        raise LeakFailed(failure_text(verdict, width, unicode, callers))
    demanded = (verdict.status is Status.INCONCLUSIVE and plan.strict) or (
        verdict.status is Status.NOT_MEASURED
        and (is_marked or verdict.reason is Reason.GPU_NOT_MEASURED)
    )
    if demanded:
        raise MeasurementFailed(failure_text(verdict, width, unicode))


def _within_timeout(item: pytest.Item, plan: Plan) -> Plan:
    """Keep the loop and the search for causes inside pytest-timeout's limit."""
    settings_of = getattr(
        sys.modules.get("pytest_timeout"), "_get_item_settings", lambda _: None
    )
    timeout = getattr(settings_of(item), "timeout", None)
    if not timeout or timeout <= 0:
        return plan
    return replace(
        plan,
        max_time=min(plan.max_time or timeout, timeout / 2),
        diagnose_time=min(plan.diagnose_time, timeout / 8),
    )


def _passed_at_first(verdict: Verdict | None, error: BaseException) -> bool:
    """Say whether the body passed and failed later; it may not bear repeating."""
    return (
        verdict is not None
        and verdict.reason is Reason.BODY_FAILED
        and verdict.warmup + verdict.iterations > 0
        and not isinstance(error, pytest.xfail.Exception)
    )


def _not_repeatable(
    verdict: Verdict | None, error: BaseException, plan: Plan
) -> Verdict:
    assert verdict is not None
    iteration = verdict.warmup + verdict.iterations + 1
    detail = f"passed at first, {type(error).__name__} in iteration {iteration}"
    _, _, why = (verdict.detail or "").partition("; ")
    if why:
        detail += f"; {why}"
    if plan.repeat == "body":
        detail += '; repeat="test" renews its fixtures'
    return replace(verdict, reason=Reason.NOT_REPEATABLE, detail=detail)


def _not_measured(nodeid: str, reason: Reason, detail: str) -> Verdict:
    return Verdict(
        nodeid=nodeid, status=Status.NOT_MEASURED, reason=reason, detail=detail
    )
