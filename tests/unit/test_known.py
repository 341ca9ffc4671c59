from __future__ import annotations

import dataclasses
import re
import sys
from types import ModuleType
from typing import Any
from typing import cast

import pytest

from pytest_tfleak.diagnosis.experiments import search as experiments
from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.search import growth_of
from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.known import KnownGrowth
from pytest_tfleak.known import Trial
from pytest_tfleak.known import find_known
from pytest_tfleak.known import is_lowered
from pytest_tfleak.known import known_here
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import make_plan
from pytest_tfleak.run.budget import Budget
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.guard import Guard
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.testing import trace_of
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from tests.builders import make_finding

HEAP = Signal(name="host.heap", unit="B", allowance="host_per_iteration")
REGISTRY = KNOWN[0]
each_entry = pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: str(entry.name))


def finding(signal: str, rate: float | None = 10_000.0, **more: Any) -> Finding:
    fields = {"unit": "B", "allowance": 6_144.0, "allow": "host_per_iteration"}
    return make_finding(signal, rate, **(fields | more))


@each_entry
def test_an_entry_is_complete(entry: Known) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry.name)
    assert entry.issues
    reference = r"[a-z]+#[0-9]+|tensorflow/[a-z_/]+[.]cc"
    assert all(re.fullmatch(reference, issue) for issue in entry.issues)
    assert entry.experiment in INTERVENTIONS
    assert "host.heap" in entry.signals
    assert find_known(entry.name) is entry


def test_what_the_causes_have_added_is_the_sum_of_what_each_trial_has_lowered() -> None:
    remedied = next(entry for entry in KNOWN if entry.remedy)
    rows = [
        ("host.heap", 900.0, 400.0, REGISTRY),
        ("host.heap", 400.0, 150.0, KNOWN[1]),
        ("host.heap", 150.0, 0.0, remedied),  # it stays
        ("python.blocks", 30.0, 10.0, REGISTRY),
    ]
    trials = [
        Trial(signal=signal, words="", before=before, after=after, entry=entry)
        for signal, before, after, entry in rows
    ]
    growth = KnownGrowth(causes=(REGISTRY, KNOWN[1]), trials=tuple(trials))
    assert growth.taken_away == {"host.heap": 750.0, "python.blocks": 20.0}


def test_names_and_experiments_are_unique() -> None:
    assert len({entry.name for entry in KNOWN}) == len(KNOWN)
    assert len({entry.experiment for entry in KNOWN}) == len(KNOWN)


def test_entries_without_a_remedy_come_first() -> None:
    has_remedy = [entry.remedy is not None for entry in KNOWN]
    assert has_remedy == sorted(has_remedy)


def test_an_unknown_name_has_no_entry() -> None:
    assert find_known("no-such-growth") is None


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.21.0", True),
        ("2.0.0", True),
        ("1.15.5", False),
        ("2.22.0-rc1", False),
        ("2.22", False),
        ("2.21.0-dev20260101", True),
        (None, False),
        ("unknown", False),
    ],
)
def test_an_entry_applies_to_some_versions(version: str | None, expected: bool) -> None:
    entry = dataclasses.replace(REGISTRY, fixed=(2, 22))
    assert entry.is_in(version) is expected


def test_there_are_no_entries_for_a_library_that_is_not_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("tensorflow", "keras", "tf_keras"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert known_here() == ()
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(("version", "count"), [("2.21.0", len(KNOWN)), ("1.15", 0)])
def test_the_version_is_that_of_the_imported_module(
    monkeypatch: pytest.MonkeyPatch, version: str, count: int
) -> None:
    for name, number in (("tensorflow", version), ("keras", version)):
        module = ModuleType(name)
        vars(module)["__version__"] = number.replace("2.21", "3.15")
        monkeypatch.setitem(sys.modules, name, module)
    assert len(known_here()) == count


@pytest.mark.parametrize(
    ("library", "version"), [("keras", "3.15"), ("keras", "2.15"), ("tf_keras", "2.21")]
)
def test_automatic_names_are_known_of_each_keras(
    monkeypatch: pytest.MonkeyPatch, library: str, version: str
) -> None:
    for name in ("tensorflow", "keras", "tf_keras"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = ModuleType(library)
    vars(module)["__version__"] = version
    monkeypatch.setitem(sys.modules, library, module)
    assert [entry.name for entry in known_here()] == ["keras-automatic-names"]


@pytest.mark.parametrize("entry", [e for e in KNOWN if e.remedy])
def test_a_remedy_names_the_keras_at_hand(entry: Known) -> None:
    named = name_clear_session(str(entry.remedy), "tf_keras.clear()")
    assert ("tf_keras.clear()" in named) is ("{" in str(entry.remedy))
    assert "{" not in named and "keras.utils" not in named


@pytest.mark.parametrize(
    ("before", "after", "limit", "lowered"),
    [
        (100_000, 500, 6_144, True),  # gone
        (100_000, 60_000, 6_144, True),  # a large part
        (100_000, 95_000, 6_144, False),  # noise
        (7_000, 6_500, 6_144, False),  # less than a fifth
        (9_000, 6_500, 6_144, False),  # less than the allowance
        (5_000, 0, 6_144, False),  # was never too much
        (1, 0, 0, True),
        (0.2, 0.2, 0, False),
        (0, 0, 0, False),
        (10, -30_000, 0, True),
    ],
)
def test_what_counts_as_lowered(
    before: float, after: float, limit: float, lowered: bool
) -> None:
    assert is_lowered(before, after, limit, 0.2) is lowered


def test_growth_starts_at_the_last_row_of_the_warm_up() -> None:
    assert growth_of(trace_of([0, 100, 110, 120, 130], warmup=2), "tf.tensors") == 10


def test_growth_is_a_mean_but_of_few_rows_a_median() -> None:
    every_fifth = trace_of([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2], warmup=1)
    assert growth_of(every_fifth, "tf.tensors") == pytest.approx(0.2)
    one_step = trace_of([0, 2, 900, 902], warmup=1)
    assert growth_of(one_step, "tf.tensors") == 2


def test_growth_of_a_series_with_gaps_or_one_reading() -> None:
    assert growth_of(trace_of([5], warmup=1), "tf.tensors") == 0
    assert growth_of(trace_of([None, 7, None, 9], warmup=0), "tf.tensors") == 2


@pytest.mark.parametrize("make", INTERVENTIONS.values(), ids=INTERVENTIONS)
def test_an_intervention_without_tensorflow_does_nothing(
    make: type[Intervention],
) -> None:
    before = set(sys.modules)
    assert make.words
    with make() as intervention:
        intervention.after()
    assert set(sys.modules) == before
    assert not intervention.seen


@pytest.mark.parametrize(
    ("written", "expected"),
    [(True, "on"), ("on", "on"), ("True", "on"), (False, "off"), (" off ", "off")],
)
def test_diagnose_is_on_or_off(written: object, expected: str) -> None:
    assert make_plan(diagnose=written).diagnose == expected


@pytest.mark.parametrize("written", [1, None, "maybe", "", []])
def test_diagnose_is_nothing_else(written: object) -> None:
    with pytest.raises(PlanError, match='expected "on" or "off"'):
        make_plan(diagnose=written)


FAILS = -1


class Scripted:
    """A loop whose heap grows at the next of these rates in each experiment.

    The body fails after the last of them, and where the rate is FAILS.
    """

    def __init__(self, *rates: int) -> None:
        self.rates = list(rates)
        self.trace = trace_of([0] * 105, warmup=5, signal=HEAP)
        self.guard = Guard([], Plan())  # nothing is about to run out

    def run_again(
        self, _after: object, warmup: int, iterations: int, deadline: Deadline
    ) -> Trace:
        rate = self.rates.pop(0)
        if rate == FAILS:
            raise IndexError
        readings = [k * rate for k in range(warmup + iterations + 1)]
        return trace_of(readings, warmup=warmup, signal=HEAP)


class Busy(Intervention):
    """An intervention in something that every body does."""

    def __enter__(self) -> Intervention:
        self.seen = 1
        return self


class Idle(Intervention):
    """An intervention in something that no body does."""

    def __enter__(self) -> Intervention:
        return self


FIRST, SECOND, THIRD = (
    dataclasses.replace(REGISTRY, name=name, experiment=name)
    for name in ("first", "second", "third")
)


def search(
    monkeypatch: pytest.MonkeyPatch,
    loop: Scripted,
    *,
    idle: str = "",
    fits: list[bool] | None = None,
) -> experiments.Search:
    """Return a search among three entries; ``fits`` says whether there is time left."""
    entries = (FIRST, SECOND, THIRD)
    monkeypatch.setattr(experiments, "known_here", lambda: entries)
    monkeypatch.setattr(experiments, "is_keras_imported", lambda: False)
    made = {e.name: Idle if e.name in idle else Busy for e in entries}
    monkeypatch.setattr(experiments, "INTERVENTIONS", made)
    growth = [finding("host.heap", 90_000)]
    plan = make_plan()
    found = experiments.Search(cast(Loop, loop), plan, growth, Budget(plan))
    if fits is not None:
        monkeypatch.setattr(found, "_fits", lambda: fits.pop(0) if fits else False)
    return found


@pytest.mark.parametrize(
    ("rates", "names"),
    [
        # unchanged, without the first, without both, and once more without the first
        ([90_000, 30_000, 0, 30_000], ["first", "second"]),
        ([90_000, 50_000, 0, 1_000], ["first"]),
    ],
    ids=["both", "one-step"],
)
def test_a_single_step_of_the_heap_is_no_second_cause(
    monkeypatch: pytest.MonkeyPatch, rates: list[int], names: list[str]
) -> None:
    loop = Scripted(*rates)
    found = search(monkeypatch, loop, idle="third").run()
    assert [entry.name for entry in found.causes] == names
    assert not found.untried
    assert not loop.rates


@pytest.mark.parametrize(
    ("fits", "rates", "causes", "untried"),
    [
        ([], [], [], [FIRST, SECOND, THIRD]),
        ([True], [90_000], [], [FIRST, SECOND, THIRD]),
        ([True, True], [90_000, 90_000], [], [SECOND, THIRD]),
        ([True, True], [90_000, 20_000], [FIRST], [SECOND, THIRD]),
        ([True, True], [90_000, 0], [FIRST], []),
        # a small cause may show only when a larger one is taken away
        ([True] * 4, [90_000, 90_000, 20_000, 20_000], [SECOND], [FIRST, THIRD]),
    ],
    ids=["none", "only as it is", "one", "a part", "all", "not for a second time"],
)
def test_what_there_was_no_time_for_is_untried(
    monkeypatch: pytest.MonkeyPatch,
    fits: list[bool],
    rates: list[int],
    causes: list[Known],
    untried: list[Known],
) -> None:
    found = search(monkeypatch, Scripted(*rates), fits=fits).run()
    assert (list(found.causes), sorted(found.untried, key=lambda e: e.name)) == (
        causes,
        untried,
    )
    assert found.failure is None


def test_what_the_body_does_not_do_needs_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Scripted(90_000)
    found = search(monkeypatch, loop, idle="first third", fits=[True]).run()
    assert found.untried == (SECOND,)


def test_a_body_that_fails_as_it_is_ends_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = search(monkeypatch, Scripted(), idle="third")
    with pytest.raises(IndexError):  # the script has ended
        failing.run()
    assert [e for e in failing.result.untried if e != THIRD] == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("rates", "causes", "untried"),
    [
        ([90_000], [], [FIRST, SECOND]),
        ([90_000] * 2, [], [SECOND]),
        ([90_000, FAILS, 0], [SECOND], [FIRST]),
        ([90_000, 0], [FIRST], []),
    ],
    ids=["without either", "without the second", "without the first", "not needed"],
)
def test_a_cause_that_the_body_needs_is_untried_and_others_are_tried(
    monkeypatch: pytest.MonkeyPatch,
    rates: list[int],
    causes: list[Known],
    untried: list[Known],
) -> None:
    found = search(monkeypatch, Scripted(*rates), idle="third").run()
    assert (list(found.causes), list(found.untried)) == (causes, untried)
    assert (found.failure is None) == (not untried)
    assert len(found.notes) == len(untried)
    assert all("the body failed (IndexError" in note for note in found.notes)
