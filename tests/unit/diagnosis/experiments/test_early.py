"""Known growth that shows in the first iterations is taken away for the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from pytest_tfleak.diagnosis.experiments import early
from pytest_tfleak.diagnosis.experiments import search
from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.judge.sequential import WARMUP as WARMUP_OF_QUICK
from pytest_tfleak.known import KNOWN
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import make_plan
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.testing import FakeProbe
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

ENTRIES, CACHE, OWN = "tf.custom_gradients", "tf.py_functions", "tf.tensors"
NAMES = (ENTRIES, CACHE, OWN)
ITERATIONS, WARMUP = 20, 5
REGISTRY = next(entry for entry in KNOWN if entry.remedy is None)
FIRST, SECOND, IDLE = (
    dataclasses.replace(REGISTRY, name=name, experiment=name, signals=(signal,))
    for name, signal in (("first", ENTRIES), ("second", CACHE), ("idle", ENTRIES))
)


class Library:
    """Adds to registries in each call, unless an intervention prevents it."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(NAMES, 0)
        self.grows: set[str] = set()
        self.away: set[str] = set()
        self.cannot_be_away: set[str] = set()
        self.calls = 0
        #: The calls in which the body raises, and whether it does without causes.
        self.fails: set[int] = set()
        self.needs_causes = False

    def call(self) -> None:
        self.calls += 1
        if self.calls in self.fails or (self.needs_causes and self.away):
            raise RuntimeError("it cannot run like this")
        for name in self.grows - (self.away - self.cannot_be_away):
            self.counts[name] += 1

    def read(self, name: str) -> Iterator[int]:
        while True:
            yield self.counts[name]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Replace TensorFlow's known growth by that of a library of our own."""
    found = Library()

    def prevents(name: str, signal: str) -> type[Intervention]:
        class Prevents(Intervention):
            words = f"without {name}"

            def _begin(self) -> None:
                if self.acts:
                    found.away.add(signal)
                    self._patches.call_back(lambda: found.away.discard(signal))

            def _after(self) -> None:
                self.seen += name != "idle"

        return Prevents

    entries = (FIRST, SECOND, IDLE)
    for entry in entries:
        made = prevents(entry.name, entry.signals[0])
        monkeypatch.setitem(INTERVENTIONS, entry.experiment, made)
    for module in (early, search):
        monkeypatch.setattr(module, "known_here", lambda: entries)
    monkeypatch.setattr(early, "is_imported", lambda _: True)
    monkeypatch.setattr(search, "is_keras_imported", lambda: False)
    monkeypatch.setattr(early, "_proven", {})
    return found


def measure(library: Library, **options: object) -> Verdict:
    """Return the verdict; all that the library reads may grow by nothing."""
    options = {"iterations": ITERATIONS, "warmup": WARMUP, **options}
    measurement = Measurement(
        library.call,
        make_plan(clear_session="never", **options),
        Setting(
            nodeid="x",
            probes=lambda _: [FakeProbe({name: library.read(name) for name in NAMES})],
        ),
    )
    return measurement.run()


def causes(verdict: Verdict) -> dict[str, str | None]:
    return {finding.signal: finding.known for finding in verdict.findings}


def test_growth_is_taken_away_before_it_is_judged(library: Library) -> None:
    library.grows = {ENTRIES, CACHE}
    verdict = measure(library)
    assert verdict.status is Status.CLEAN
    assert causes(verdict) == {ENTRIES: "first", CACHE: "second"}
    assert [finding.per_iteration for finding in verdict.known] == [1.0, 1.0]
    assert (verdict.iterations, verdict.confirmation) == (ITERATIONS, 0)
    assert library.counts[ENTRIES] < ITERATIONS
    assert not library.away


def test_a_quick_test_watches_from_the_end_of_its_warm_up(library: Library) -> None:
    looks: list[int] = []
    library.grows = {ENTRIES}
    watch = early.EarlySearch._watch

    def note(search: early.EarlySearch) -> None:
        looks.append(library.calls)
        watch(search)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(early.EarlySearch, "_watch", note)
        verdict = measure(library, depth="quick")
    assert looks == [WARMUP_OF_QUICK]
    assert verdict.status is Status.CLEAN
    assert causes(verdict) == {ENTRIES: "first"}
    # three judged calls show growth; what follows runs without its cause
    assert library.counts[ENTRIES] == WARMUP_OF_QUICK + 3


def test_what_one_test_has_shown_needs_no_experiments_in_the_next(
    library: Library,
) -> None:
    library.grows = {ENTRIES, CACHE}
    measure(library)
    first, library.calls = library.calls, 0
    verdict = measure(library)
    assert causes(verdict) == {ENTRIES: "first", CACHE: "second"}
    assert verdict.findings[0].experiments[0].name == "without first, without second"
    assert library.calls < first


def test_a_quick_test_takes_all_causes_away_at_once(library: Library) -> None:
    library.grows = {ENTRIES, CACHE}
    verdict = measure(library, depth="quick", warmup=2)
    assert verdict.status is Status.CLEAN
    assert causes(verdict) == {ENTRIES: "first", CACHE: "second"}
    assert verdict.findings[0].experiments[0].name == "without first, without second"
    # the warm-up, three calls that show growth, one more and six judged ones without it
    assert library.calls == 2 + 3 + 1 + 6


def test_causes_come_back_in_a_quick_test_whose_growth_goes_on(
    library: Library,
) -> None:
    library.grows = {ENTRIES}
    library.cannot_be_away = {ENTRIES}
    verdict = measure(library, depth="quick")
    assert verdict.status is Status.LEAK
    assert causes(verdict) == {ENTRIES: None}
    assert not library.away
    assert verdict.iterations == 2 * ITERATIONS


def test_a_quick_test_out_of_time_before_it_knows_is_not_clean(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.grows = {ENTRIES}
    monkeypatch.setattr(
        Loop, "is_out_of_time", property(lambda _: library.calls >= 2 + 3 + 1)
    )
    verdict = measure(library, depth="quick")
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason is Reason.OUT_OF_TIME
    assert not library.away


def test_a_leak_beside_it_is_found_by_a_quick_test(library: Library) -> None:
    library.grows = {ENTRIES, OWN}
    verdict = measure(library, depth="quick")
    assert verdict.status is Status.LEAK
    assert causes(verdict) == {ENTRIES: "first", OWN: None}


def test_a_leak_beside_it_is_found(library: Library) -> None:
    library.grows = {ENTRIES, OWN}
    verdict = measure(library)
    assert verdict.status is Status.LEAK
    assert causes(verdict) == {ENTRIES: "first", OWN: None}
    assert verdict.confirmation == ITERATIONS
    assert not library.away


def test_growth_of_the_body_alone_is_not_experimented_with(library: Library) -> None:
    library.grows = {OWN}
    verdict = measure(library)
    assert verdict.status is Status.LEAK
    assert causes(verdict) == {OWN: None}
    assert verdict.warmup == WARMUP


def test_what_no_experiment_ends_is_judged_as_it_is(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.grows = {ENTRIES}
    monkeypatch.setitem(INTERVENTIONS, FIRST.experiment, INTERVENTIONS["second"])
    verdict = measure(library)
    assert verdict.status is Status.LEAK
    assert causes(verdict) == {ENTRIES: None}


@pytest.mark.parametrize("when", ["in an experiment", "later"])
def test_a_body_that_fails_without_causes_is_judged_with_them(
    library: Library, when: str
) -> None:
    library.grows = {ENTRIES}
    if when == "later":
        library.fails = {WARMUP + 2 * (1 + search.MOST) + 10}
    else:
        library.needs_causes = True
    verdict = measure(library)
    if when == "later":  # then the search after the run succeeds
        assert verdict.status is Status.CLEAN
        assert causes(verdict) == {ENTRIES: "first"}
    else:
        assert verdict.status is Status.INCONCLUSIVE
        assert verdict.reason is Reason.NOT_REPEATABLE
    assert not library.away


def test_growth_with_a_diagnosis_that_is_off_is_no_known_growth(
    library: Library,
) -> None:
    library.grows = {ENTRIES}
    verdict = Measurement(
        library.call,
        make_plan(iterations=ITERATIONS, warmup=WARMUP, diagnose="off"),
        Setting(
            nodeid="x",
            probes=lambda _: [FakeProbe({ENTRIES: library.read(ENTRIES)})],
        ),
    ).run()
    assert verdict.status is Status.LEAK
    assert verdict.warmup == WARMUP
