"""A diagnosis that fails, is cut short or is interrupted never hides the verdict."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from time import perf_counter
from time import sleep
from typing import Any
from typing import ClassVar
from unittest import SkipTest

import numpy
import pytest

from pytest_tfleak.compare.baseline import Baseline
from pytest_tfleak.diagnosis.experiments import search
from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.diagnosis.survivors import watch
from pytest_tfleak.known import KNOWN
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.measurement import find_leaks
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.room import Free
from pytest_tfleak.probes.room import Room
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.stopwatch import CONFIRMATION
from pytest_tfleak.run.stopwatch import LOOP
from pytest_tfleak.run.stopwatch import Stopwatch
from pytest_tfleak.signals import make_signal
from pytest_tfleak.testing import FakeProbe
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status

JUDGED = 20  # iterations, including the confirmation

MIB = 2**20


def leaking(body: Callable[[], object], **options: object) -> Measurement:
    return Measurement(
        body,
        make_plan(iterations=JUDGED // 2, warmup=0, **options),
        Setting(
            nodeid="x",
            probes=lambda census: [
                *make_probes(census),
                FakeProbe({"fake": itertools.count()}),
            ],
        ),
    )


def test_what_follows_a_confirmation_takes_none_of_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts: list[str] = []
    enter = Stopwatch.enter

    def note(watch: Stopwatch, part: str) -> None:
        parts.append(part)
        enter(watch, part)

    monkeypatch.setattr(Stopwatch, "enter", note)
    assert find_leaks(lambda: None, iterations=10).status is Status.CLEAN
    assert parts[:2] == [CONFIRMATION, LOOP]


def fails_afterwards(error: type[BaseException]) -> Callable[[], None]:
    calls = itertools.count(1)

    def body() -> None:
        if next(calls) > JUDGED:
            raise error("late")

    return body


class Skipped(BaseException):
    """Has the name of a pytest exception, but the caller did not pass it."""


class Exit(Exception):  # noqa: N818 - that is the point
    """Has the name of a pytest exception."""


@pytest.mark.parametrize("error", [ValueError, Exit, SkipTest])
def test_a_body_that_fails_in_the_diagnosis_has_leaked(
    error: type[BaseException],
) -> None:
    verdict = leaking(fails_afterwards(error)).run()

    assert verdict.status is Status.LEAK
    assert [finding.signal for finding in verdict.failing] == ["fake"]
    assert any("cut short" in note for note in verdict.notes)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, Skipped]
)
def test_what_is_no_failure_of_the_body_passes_through_the_diagnosis(
    error: type[BaseException],
) -> None:
    measurement = leaking(fails_afterwards(error))
    with pytest.raises(error):
        measurement.run()

    assert measurement.verdict is not None
    assert measurement.verdict.status is Status.LEAK
    assert measurement.verdict.failing
    assert any("interrupted" in note for note in measurement.verdict.notes)


@lru_cache(maxsize=2_000)
def fill(number: int) -> bytearray:
    """Fill a cache, which a loop that grows fills to its bound or holds."""
    return bytearray(20_000)


KEPT: list[bytearray] = []
FIRST = itertools.count()


def call_fails(fails: int, grow: Callable[[], object], error: BaseException) -> bool:
    """Measure with an error in this call; return whether it came to that call.

    Raises the error if it passes through.
    """
    calls = itertools.count(1)
    came = False

    def body() -> None:
        nonlocal came
        grow()
        if next(calls) == fails:
            came = True
            raise error

    endings = Endings(
        failures=(Skipped,),
        is_from_outside=lambda error: isinstance(error, (KeyboardInterrupt, Skipped)),
    )
    plan = make_plan(iterations=5, warmup=0)
    Measurement(body, plan, Setting(nodeid="x", endings=endings)).run()
    return came


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, pytest.param(Skipped, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("grow", "signals"),
    [
        (lambda: fill(next(FIRST)), ()),
        (lambda: KEPT.append(bytearray(50_000)), ("host.heap",)),
    ],
    ids=["a cache", "known growth"],
)
def test_what_ends_the_test_from_outside_passes_through_in_whichever_call_it_comes(
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    grow: Callable[[], object],
    signals: tuple[str, ...],
) -> None:
    entry = replace(KNOWN[0], signals=signals)
    monkeypatch.setattr(search, "known_here", lambda: (entry,))
    for fails in itertools.count(4, 8):
        try:
            if not call_fails(fails, grow, error()):
                break
        except error:
            continue
        pytest.fail(f"the {error.__name__} of call {fails} was swallowed")
    assert fails > 10  # after the judged iterations


def test_known_growth_is_judged_again_within_the_test_s_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = replace(KNOWN[0], signals=("host.heap",))
    monkeypatch.setattr(search, "known_here", lambda: (entry,))
    monkeypatch.setitem(INTERVENTIONS, entry.experiment, WithoutKept)
    calls = 0

    def body() -> None:
        nonlocal calls
        calls += 1
        KEPT.append(bytearray(50_000))
        sleep(0.05)

    ends = perf_counter() + 3
    plan = make_plan(iterations=50, warmup=0)
    verdict = Measurement(body, plan, Setting(nodeid="x", test_ends=ends)).run()

    assert verdict.status is Status.INCONCLUSIVE or not verdict.failing
    assert calls <= 3 / 0.05  # each takes that long at least


class WithoutKept(Intervention):
    """Takes what the body keeps away after each iteration."""

    def _begin(self) -> None:
        self.seen = 1

    def _after(self) -> None:
        self.seen = 1
        if self.acts:
            KEPT.pop()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Exit, Reason.BODY_FAILED),
        (Skipped, Reason.BODY_FAILED),
        (SkipTest, Reason.BODY_SKIPPED),
        (KeyboardInterrupt, Reason.INTERRUPTED),
    ],
)
def test_an_ending_is_recognised_by_its_class_and_not_by_a_name(
    error: type[BaseException], reason: Reason
) -> None:
    def body() -> None:
        raise error

    measurement = leaking(body)
    with pytest.raises(error):
        measurement.run()
    assert measurement.verdict is not None
    assert measurement.verdict.reason is reason


def test_classes_that_the_caller_passes_are_recognised() -> None:
    def body() -> None:
        raise Skipped

    endings = Endings(skips=(Skipped,))
    measurement = Measurement(body, Plan(), Setting(nodeid="x", endings=endings))
    with pytest.raises(Skipped):
        measurement.run()
    assert measurement.verdict is not None
    assert measurement.verdict.reason is Reason.BODY_SKIPPED


def test_an_interrupt_before_the_first_iteration_ends_this_measurement_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pytest_tfleak.measurement.Surroundings", interrupted)
        with pytest.raises(KeyboardInterrupt):
            find_leaks(lambda: None, iterations=5)
    assert find_leaks(lambda: None, iterations=5).iterations == 5


def test_an_error_in_the_diagnosis_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RecursionError("too deep")

    monkeypatch.setattr("pytest_tfleak.measurement.explain_findings", fail)
    verdict = leaking(lambda: None).run()

    assert verdict.status is Status.LEAK and verdict.failing
    assert any("RecursionError: too deep" in note for note in verdict.notes)


class Gauge(FakeProbe):
    """A probe that fails to read."""

    name = "gauge"

    def read(self, buffer: Any, start: int, deep: bool) -> None:
        raise OSError("gone")


FADING = [round(200 * (1 - 0.95**row)) for row in range(40)]
UNSTEADY = [sum(rise <= row for rise in (2, 7, 21, 35, 38)) for row in range(40)]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (FakeProbe({"other": FADING}), Reason.FADING),
        (FakeProbe({"other": UNSTEADY}), Reason.UNSTEADY),
        (Gauge({"gauge": []}), Reason.PROBE_FAILED),
    ],
    ids=["fading", "unsteady", "probe failed"],
)
def test_a_leak_in_the_baseline_hides_no_doubt_about_another_signal(
    other: FakeProbe, reason: Reason
) -> None:
    verdict = Measurement(
        lambda: None,
        make_plan(iterations=20, warmup=0, diagnose="off"),
        Setting(
            nodeid="x",
            probes=lambda _: [FakeProbe({"fake": itertools.count()}), other],
            baseline=Baseline("baseline.json", recorded=True),
        ),
    ).run()

    assert [finding.signal for finding in verdict.recorded] == ["fake"]
    assert not verdict.failing
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, reason)


def test_known_growth_without_time_for_its_experiment_is_no_leak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = replace(KNOWN[0], signals=("fake",))
    monkeypatch.setattr(search, "known_here", lambda: (entry,))
    measurement = leaking(lambda: sleep(0.002), diagnose_time=0.001)
    verdict = measurement.run()

    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    assert [finding.signal for finding in verdict.failing] == ["fake"]
    text = " ".join(failure_text(verdict).split())
    assert f"on {entry.title} ({entry.issue})" in text
    assert "allow more time with diagnose_time" in text


def test_a_body_that_fails_in_an_experiment_may_grow_as_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = replace(KNOWN[0], signals=("fake",))
    monkeypatch.setattr(search, "known_here", lambda: (entry,))
    verdict = leaking(fails_afterwards(ValueError)).run()

    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason is Reason.NOT_REPEATABLE
    assert (verdict.detail or "").endswith("did not finish: ValueError: late")


def test_a_leak_stands_if_an_experiment_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = replace(KNOWN[0], signals=("fake",))
    monkeypatch.setattr(search, "known_here", lambda: (entry,))
    measurement = leaking(fails_afterwards(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        measurement.run()

    assert measurement.verdict is not None
    assert measurement.verdict.status is Status.LEAK


class Request:
    """An object that a service forgets to release."""

    all: ClassVar[list[Request]] = []


def keep_in_closure() -> Callable[[], object]:
    kept: list[Request] = []
    return lambda: kept.append(Request())


def keep_in_class() -> Callable[[], object]:
    Request.all.clear()
    return lambda: Request.all.append(Request())


@pytest.mark.parametrize("keep", [keep_in_closure, keep_in_class])
def test_objects_of_the_user_s_classes_are_judged(
    keep: Callable[[], Callable[[], object]],
) -> None:
    verdict = find_leaks(keep(), iterations=20)
    assert verdict.status is Status.LEAK
    (finding,) = verdict.findings
    assert (finding.signal, finding.allow) == ("python.objects", "objects")
    assert finding.path is not None
    assert (finding.per_iteration, finding.path.type) == (1, f"{__name__}.Request")
    allowed = find_leaks(keep(), iterations=20, objects=1)
    assert (allowed.status, allowed.notes) == (Status.CLEAN, ())


def test_tasks_are_judged() -> None:
    kept: list[asyncio.Task[bool]] = []
    loop = asyncio.new_event_loop()

    async def leave_a_task() -> None:
        kept.append(asyncio.create_task(asyncio.Event().wait()))

    try:
        verdict = find_leaks(
            lambda: loop.run_until_complete(leave_a_task()), iterations=20
        )
    finally:
        for task in kept:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*kept, return_exceptions=True))
        loop.close()
    assert verdict.status is Status.LEAK
    (finding,) = verdict.findings
    assert (finding.signal, finding.cause) == ("python.objects", "task-never-ended")


NOTE = "pile up, within the allowances of memory: 1 {} per iteration."


def test_what_only_objects_would_judge_is_named() -> None:
    kept: list[object] = []
    verdict = find_leaks(lambda: kept.append(Fraction(1, 2)), iterations=20)
    assert verdict.status is Status.CLEAN
    assert NOTE.format("Fraction") in verdict.notes[0]
    off = find_leaks(lambda: kept.append(Request()), iterations=20, diagnose="off")
    assert off.status is Status.CLEAN
    assert NOTE.format("Request") in off.notes[0]


def test_objects_that_only_a_library_keeps_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numpy, "kept", [], raising=False)
    verdict = find_leaks(lambda: vars(numpy)["kept"].append(Request()), iterations=20)
    assert verdict.status is Status.CLEAN
    assert NOTE.format("Request") in verdict.notes[-1]


def test_objects_in_a_bounded_cache_are_not_judged() -> None:
    kept = deque[Request](maxlen=5_000)
    verdict = find_leaks(lambda: kept.append(Request()), iterations=20)
    assert verdict.status is Status.CLEAN


def test_objects_that_come_with_allowed_growth_are_not_judged() -> None:
    kept: list[object] = []

    def body() -> None:
        kept.append((Request(), bytearray(20_000)))

    verdict = find_leaks(body, iterations=20, host_per_iteration="40 KiB")
    assert verdict.status is Status.CLEAN


def test_a_body_that_fails_while_its_objects_are_judged_is_clean() -> None:
    kept: list[Request] = []

    def body() -> None:
        if len(kept) == 50:
            raise ValueError("enough")
        kept.append(Request())

    verdict = find_leaks(body, iterations=20)
    assert (verdict.status, verdict.iterations) == (Status.CLEAN, 20)
    assert NOTE.format("Request") in verdict.notes[0]


def test_objects_that_replace_older_ones_are_not_named() -> None:
    kept = deque((Request() for _ in range(200)), maxlen=200)
    assert not find_leaks(lambda: kept.append(Request()), iterations=20).notes


def test_objects_of_every_other_iteration_are_not_named() -> None:
    kept: list[Request] = []
    turns = itertools.cycle([kept.append, id])
    assert not find_leaks(lambda: next(turns)(Request()), iterations=20).notes


@pytest.mark.parametrize("seconds", [watch._SECONDS_TRACED, 0.0])
def test_what_only_every_tenth_call_keeps_is_explained(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a busy machine, where traced iterations take long."""
    monkeypatch.setattr(watch, "_SECONDS_TRACED", seconds)
    kept: list[bytearray] = []
    calls = itertools.count(1)

    def body() -> None:
        if not next(calls) % 10:
            kept.append(bytearray(500_000))

    (found,) = find_leaks(body, iterations=40).failing

    assert found.what is not None and found.what.startswith("0.1 bytearray")
    assert found.path is not None and not found.path.is_native


@pytest.mark.parametrize(("via", "is_noted"), [("marker", True), ("library", False)])
def test_a_leak_of_iterators_names_the_option_for_an_exit_that_hangs(
    via: str, is_noted: bool
) -> None:
    probe = FakeProbe({"tf.iterators": itertools.count()}, allowance="iterators")
    setting = Setting(nodeid="t", via=via, probes=lambda _: [probe])
    verdict = Measurement(lambda: None, make_plan(diagnose="off"), setting).run()
    assert verdict.status is Status.LEAK
    named = [note for note in verdict.notes if "--tfleak-exit-timeout=60" in note]
    assert bool(named) is is_noted


class Filling(FakeProbe):
    """Reads a heap and a registry that grow, on a machine whose memory they fill."""

    def __init__(self, entries: int) -> None:
        super().__init__({})
        self._used = 0
        self._each = entries
        self._entries = 0

    def signals(self) -> Any:
        return make_signal("host.heap"), make_signal("tf.custom_gradients")

    def read(self, buffer: Any, start: int, deep: bool) -> None:
        self._used += 50 * MIB
        self._entries += self._each
        buffer[start], buffer[start + 1] = self._used, self._entries

    def rooms(self) -> Any:
        return [
            Room(
                resource="memory",
                unit="B",
                signals=("host.heap",),
                free=lambda: Free(1000 * MIB - self._used, "the machine"),
                read=lambda: self._used,
            )
        ]


@pytest.mark.parametrize(
    ("entries", "status", "reason"),
    [(0, Status.LEAK, None), (1, Status.INCONCLUSIVE, Reason.OUT_OF_ROOM)],
)
def test_without_room_for_experiments_only_registries_suggest_known_growth(
    monkeypatch: pytest.MonkeyPatch,
    entries: int,
    status: Status,
    reason: Reason | None,
) -> None:
    monkeypatch.setattr("pytest_tfleak.measurement.known_here", lambda: KNOWN)
    probe = Filling(entries)
    setting = Setting(nodeid="t", probes=lambda _: [probe])
    verdict = Measurement(lambda: None, make_plan(), setting).run()
    assert (verdict.status, verdict.reason) == (status, reason), verdict.detail
    assert verdict.iterations < 20
    notes = str(verdict.notes)
    assert "Stopped early, after 12 iterations: memory grew by 550 MiB" in notes
