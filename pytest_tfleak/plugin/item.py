"""Measure one test in place of its ``runtest``, and fail it if it leaks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Generator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_tfleak.decide import Ended
from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import decide
from pytest_tfleak.diagnosis.explained_before import ExplainedLeaks
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import NestedMeasurementError
from pytest_tfleak.measurement import ProbeMaker
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import RunOptions
from pytest_tfleak.plan import parse_options
from pytest_tfleak.plugin.call_records import FailedSubtests
from pytest_tfleak.plugin.command_line import Request
from pytest_tfleak.plugin.early_teardown import EarlyTeardown
from pytest_tfleak.plugin.failure import LeakFailed
from pytest_tfleak.plugin.failure import MeasurementFailed
from pytest_tfleak.plugin.failure import terminal_draws
from pytest_tfleak.plugin.shapes import Shape
from pytest_tfleak.plugin.shapes import Unsupported
from pytest_tfleak.plugin.shapes import shape_of
from pytest_tfleak.plugin.timeouts import is_timeout
from pytest_tfleak.probes.base import ProbeError
from pytest_tfleak.probes.base import in_words
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import lead_text
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import safe
from pytest_tfleak.run.interrupts import INTERRUPTS
from pytest_tfleak.run.interrupts import SKIPS
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.snapshot import MemorySnapshot
from pytest_tfleak.run.snapshot import take_snapshot
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

if TYPE_CHECKING:
    from pytest_tfleak.compare.baseline import Baseline
    from pytest_tfleak.run.progress import LiveTerminal


def _is_from_outside(error: BaseException) -> bool:
    """Return whether a user or a timeout ended the run or the test from outside."""
    return isinstance(error, (KeyboardInterrupt, pytest.exit.Exception)) or is_timeout(
        error
    )


#: How a test may end early: pytest's exceptions in addition to Python's.
ENDINGS = Endings(
    skips=(*SKIPS, pytest.skip.Exception),
    failures=(pytest.fail.Exception,),
    interrupts=(*INTERRUPTS, pytest.exit.Exception),
    is_from_outside=_is_from_outside,
)
#: The reasons of a verdict if a later call ended otherwise than the first.
_CUT_SHORT = (Reason.BODY_FAILED, Reason.BODY_SKIPPED, Reason.INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all measurements of a run share."""

    probes: ProbeMaker
    end: Callable[[], float]  # when the test's own timeout expires
    baseline: Baseline | None
    earlier: ExplainedLeaks
    terminal: LiveTerminal | None
    width: int  # of messages, in columns
    callers: bool  # show the lines that called the one that leaks
    record: Callable[[Verdict | None], None]
    spent: Callable[[], AbstractContextManager[None]]  # counts towards max_total_time

    def setting(self, nodeid: str, via: str, handed: dict[str, object]) -> Setting:
        """Return the setting of one measurement in this run."""
        return Setting(
            nodeid=nodeid,
            via=via,
            probes=self.probes,
            handed=handed,
            terminal=self.terminal,
            baseline=self.baseline,
            earlier=self.earlier,
            endings=ENDINGS,
            test_ends=self.end(),
        )


def why_unsupported(item: pytest.Item) -> str | None:
    """Return why a test cannot be measured, None if it can."""
    shape = shape_of(item, item.runtest, "body")
    if isinstance(shape, Unsupported):
        return shape.why
    if _uses_fixture(item):
        return "cannot be combined with the tfleak fixture: use one or the other"
    return None


def _uses_fixture(item: pytest.Item) -> bool:
    return "tfleak" in getattr(item, "fixturenames", ())


@dataclass(frozen=True, slots=True)
class RunsOnce:
    """Why a test is not repeated."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class NotRepeated:
    """A test of any shape, which is judged by what it leaves and not by growth."""

    call: Callable[[], object]
    is_inherited: bool  # such as test_session of tf.test.TestCase, which skips itself


class MeasuredItem:
    """Measures a test when pytest would call its ``runtest``."""

    def __init__(
        self, item: pytest.Item, request: Request, context: RunContext
    ) -> None:
        self._item = item
        self._plan = request.plan
        self._is_marked = request.is_marked
        self._via = request.via
        self._context = context
        self._runtest = item.runtest
        self.verdict: Verdict | None = None

    @contextmanager
    def in_place_of_runtest(self) -> Generator[None, None, None]:
        """Have pytest call ``measure`` instead of the item's ``runtest``."""
        attributes = vars(self._item)
        own = {name: attributes[name] for name in ("runtest",) if name in attributes}
        attributes["runtest"] = self.measure
        try:
            yield
        finally:
            del attributes["runtest"]
            attributes.update(own)

    def measure(self) -> None:
        """Measure the test and raise what its verdict demands."""
        __tracebackhide__ = True
        shape = self._shape()
        if isinstance(shape, RunsOnce):
            self._runtest()
            self.verdict = self._not_measured(shape.reason, shape.detail)
            return
        if isinstance(shape, NotRepeated):
            self._measure_calls(shape)
            return
        self._plan = replace(self._plan, repeat=shape.repeat)
        setting = self._context.setting(self._item.nodeid, self._via, shape.handed())
        setting = replace(setting, teardown=shape.teardown(), renewed=shape.renewed())
        if self._plan.faults:
            setting = replace(setting, surround=shape.surround)
        if self._item.get_closest_marker("xfail") is not None:
            # pytest may not show its message, so no other test can refer to it
            setting = replace(setting, earlier=None)
        measurement = Measurement(shape.call, self._plan, setting)
        runs_again = False
        try:
            measurement.run()
        except BaseException as error:
            if ENDINGS.is_skip(error) and shape.is_inherited():
                measurement.verdict = None  # such as test_session of tf.test.TestCase
            if _has_not_begun(measurement, error):
                measurement.verdict = self._not_measured(
                    Reason.NOT_STARTED, in_words(error)
                )
                runs_again = not self._is_marked
            elif isinstance(error, NestedMeasurementError) and not self._is_marked:
                runs_again = not _passed_at_first(measurement, error)
                measurement.verdict = self._measures_itself()
            elif self._is_settled(measurement, error):
                shape.forget()
                return
        finally:
            self.verdict = measurement.verdict
        shape.forget()
        if runs_again:
            self._runtest()  # now outside of ours, so it may call find_leaks
            return
        fail_if_demanded(self.verdict, self._plan, self._is_marked, self._context)

    def _measures_itself(self) -> Verdict:
        return self._not_measured(Reason.MEASURES_ITSELF, "calls the library")

    def _not_measured(self, reason: Reason, detail: str) -> Verdict:
        return _not_measured(self._item.nodeid, self._via, reason, detail)

    def _is_settled(self, measurement: Measurement, error: BaseException) -> bool:
        """Return whether no verdict is left to act on after the body raised.

        Raises the error if it is the test's own.
        """
        __tracebackhide__ = True
        if isinstance(error, FailedSubtests) and (
            self._is_marked or not error.is_of_later_call
        ):
            error.report()
            return True  # pytest fails the test for them
        if not _passed_at_first(measurement, error):
            raise error
        if not _is_cut_short(measurement.verdict):
            return False
        measurement.verdict = _not_repeatable(measurement, error)
        if self._is_marked:
            raise error
        return True  # it passes when run once, and no marker asked to repeat it

    def _measure_calls(self, shape: NotRepeated) -> None:
        """Run the test, mostly once as pytest does, and judge what it leaves open."""
        __tracebackhide__ = True
        setting = self._context.setting(self._item.nodeid, self._via, {})
        early = EarlyTeardown(self._item)
        setting = replace(setting, tear_down_early=early.tear_down)
        measurement = Measurement(shape.call, self._plan, setting)
        runs_again = False
        try:
            measurement.run()
        except BaseException as error:
            if ENDINGS.is_skip(error) and shape.is_inherited:
                measurement.verdict = None
            if isinstance(error, NestedMeasurementError) and not self._is_marked:
                runs_again = True
                measurement.verdict = self._measures_itself()
            elif _passed_at_first(measurement, error):
                measurement.verdict = _not_repeatable(measurement, error)
                if self._is_marked:
                    raise
            elif not _has_recorded_error(self._item):
                raise
            else:
                return  # pytest reports what it recorded
        finally:
            self.verdict = measurement.verdict
        if runs_again or _has_recorded_error(self._item):
            vars(self._item).pop("_excinfo", None)  # the error was ours, or comes late
        if runs_again:
            self._runtest()  # now outside of ours, so it may call find_leaks
            return
        fail_if_demanded(self.verdict, self._plan, self._is_marked, self._context)

    def _run_as_pytest(self) -> None:
        """Run the test; raise its error even if pytest has recorded it instead."""
        __tracebackhide__ = True
        self._runtest()
        if _has_recorded_error(self._item):
            raise self._item._excinfo[0].value  # type: ignore[attr-defined]  # as checked

    def _shape(self) -> Shape | NotRepeated | RunsOnce:
        """Return how to repeat the test, or why it is not measured."""
        if not self._plan.enabled:
            return RunsOnce(Reason.DISABLED, self._plan.reason or "enabled=False")
        if _uses_fixture(self._item):
            return RunsOnce(Reason.MEASURES_ITSELF, "uses the tfleak fixture")
        shape = shape_of(self._item, self._runtest, self._plan.repeat)
        if self._plan.depth == "leftovers":
            return self._not_repeated(shape)
        if isinstance(shape, Unsupported):
            return RunsOnce(Reason.UNSUPPORTED, f"tfleak {shape.why}")
        return shape

    def _not_repeated(self, shape: Shape | Unsupported) -> NotRepeated:
        """Return how to call the test to judge what it leaves, whatever its shape.

        If it is to be called several times, its shape must know how.
        """
        if isinstance(shape, Unsupported):
            self._plan = replace(self._plan, iterations=1)
            return NotRepeated(self._run_as_pytest, is_inherited=False)
        call = shape.call if self._plan.iterations > 1 else self._run_as_pytest
        return NotRepeated(call, shape.is_inherited())


class Checker:
    """The ``tfleak`` fixture: checks blocks inside a test."""

    def __init__(self, nodeid: str, run: RunOptions, context: RunContext) -> None:
        self._nodeid = nodeid
        self._run = run
        self._context = context

    def check(self, fn: Callable[[], object], **options: object) -> Verdict:
        """Call ``fn`` again and again; fail the test if it leaks.

        ``options`` are the marker's keywords; they override command line and ini.
        Raises LeakFailed on a leak, pytest.UsageError for an unknown or bad option, and
        what ``fn`` raises.
        """
        __tracebackhide__ = True
        try:
            given = parse_options(options, "library")
        except PlanError as error:
            raise pytest.UsageError(f"tfleak.check: {error}") from None
        plan = self._run.plan_for(given, is_asked=True)
        setting = self._context.setting(self._nodeid, "fixture", {"function": fn})
        measurement = Measurement(fn, plan, setting)
        caller = sys._getframe(1)
        line = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        try:
            with self._context.spent():
                verdict = measurement.run()
            if verdict.status is not Status.CLEAN or verdict.recorded:
                notes = (f"The check at {line}.", *verdict.notes)
                verdict = replace(verdict, notes=notes)
            measurement.verdict = verdict
        finally:
            self._context.record(measurement.verdict)
        fail_if_demanded(verdict, plan, True, self._context)
        return verdict

    def snapshot(self) -> MemorySnapshot:
        """Return what the process holds now; subtract two snapshots to compare."""
        return take_snapshot(self._context.probes)


def without_turn(nodeid: str, via: str, why: str) -> Verdict:
    """Return the verdict on a test that there was no time to measure."""
    return _not_measured(nodeid, via, Reason.NO_TIME_LEFT, why)


def fail_if_demanded(
    verdict: Verdict | None, plan: Plan, is_marked: bool, context: RunContext
) -> None:
    """Raise the failure that a verdict calls for, if any."""
    if verdict is None:
        return
    unicode = terminal_draws()
    if verdict.status is Status.LEAK:
        text = failure_text(verdict, context.width, unicode, context.callers)
        room = context.width - columns(f"LEAK {verdict.nodeid} - ")
        raise LeakFailed(text, summary=safe(lead_text(verdict, room), unicode))
    demanded = (verdict.status is Status.INCONCLUSIVE and plan.strict) or (
        verdict.status is Status.NOT_MEASURED
        and (is_marked or verdict.reason is Reason.GPU_NOT_MEASURED)
    )
    if demanded:
        raise MeasurementFailed(failure_text(verdict, context.width, unicode))


def _has_not_begun(measurement: Measurement, error: BaseException) -> bool:
    """Return whether measuring failed before it called the body, for lack of memory."""
    return (
        isinstance(error, Exception)
        and not isinstance(error, (NestedMeasurementError, ProbeError))
        and not measurement.has_begun
    )


def _has_recorded_error(item: pytest.Item) -> bool:
    """Return whether a ``unittest.TestCase`` has failed or was skipped.

    pytest records its error, and raises it only for the report.
    """
    return bool(getattr(item, "_excinfo", None))


def _passed_at_first(measurement: Measurement, error: BaseException) -> bool:
    """Return whether the body passed at first and raised this error in a later call.

    An error that ends the run or the test from outside does not count.
    """
    return measurement.calls > 0 and not _is_from_outside(error)


def _is_cut_short(verdict: Verdict | None) -> bool:
    """Return whether the verdict says only that the body ended early."""
    return verdict is not None and verdict.reason in _CUT_SHORT


def _not_repeatable(measurement: Measurement, error: BaseException) -> Verdict:
    grounds, iteration = measurement.grounds, measurement.calls + 1
    assert grounds.ended is not None
    detail = f"passed at first, {_in_a_word(error)} in iteration {iteration}"
    _, _, why = grounds.ended.detail.partition("; ")
    if why:
        detail += f"; {why}"
    if grounds.plan.repeat == "body":
        detail += '; repeat="test" renews its fixtures'
    ended = Ended(reason=Reason.NOT_REPEATABLE, detail=detail)
    return decide(replace(grounds, ended=ended))


def _in_a_word(error: BaseException) -> str:
    if isinstance(error, FailedSubtests):
        return "a subtest failed"
    if isinstance(error, pytest.xfail.Exception):
        return "xfailed"
    return "skipped" if ENDINGS.is_skip(error) else type(error).__name__


def _not_measured(nodeid: str, via: str, reason: Reason, detail: str) -> Verdict:
    ended = Ended(reason=reason, detail=detail)
    return decide(Grounds(nodeid=nodeid, via=via, ended=ended))
