from __future__ import annotations

import dataclasses
import re
import sys
from contextlib import suppress
from types import ModuleType
from typing import cast

import pytest

from pytest_tfleak.diagnosis import experiments
from pytest_tfleak.diagnosis.attribution import what_is_known
from pytest_tfleak.diagnosis.experiments import Explanation
from pytest_tfleak.diagnosis.experiments import growth_of
from pytest_tfleak.diagnosis.experiments import is_lowered
from pytest_tfleak.diagnosis.neutraliser import Neutraliser
from pytest_tfleak.diagnosis.neutralisers import NEUTRALISERS
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.known import find_known
from pytest_tfleak.known import known_here
from pytest_tfleak.loop import Loop
from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import make_plan
from pytest_tfleak.testing import trace_of
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding

HEAP = Signal(name="host.heap", unit="B", allowance="host_per_iteration")
REGISTRY, KERNELS = KNOWN[0], KNOWN[-1]
each_entry = pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: str(entry.name))


def finding(signal: str, rate: float | None = 10_000.0, **more: object) -> Finding:
    fields: dict[str, object] = {
        "signal": signal,
        "unit": "B",
        "per_iteration": rate,
        "total": round(100 * (rate or 1)),
        "allowance": 6_144.0,
        "first": 1,
        "last": 100,
        "allow": "host_per_iteration",
    }
    return Finding(**(fields | more))  # type: ignore[arg-type]


@each_entry
def test_an_entry_is_complete(entry: Known) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry.name)
    assert entry.issues
    assert all(re.fullmatch(r"[a-z]+#[0-9]+", issue) for issue in entry.issues)
    assert entry.experiment in NEUTRALISERS
    assert "host.heap" in entry.signals
    assert find_known(entry.name) is entry


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
def test_a_version_has_it_or_not(version: str | None, expected: bool) -> None:
    entry = dataclasses.replace(REGISTRY, fixed=(2, 22))
    assert entry.is_in(version) is expected


def test_nothing_is_known_of_a_library_that_is_not_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("tensorflow", "keras"):
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


def test_growth_of_next_to_nothing() -> None:
    assert growth_of(trace_of([5], warmup=1), "tf.tensors") == 0
    assert growth_of(trace_of([None, 7, None, 9], warmup=0), "tf.tensors") == 2


def explanation(**fields: object) -> Explanation:
    return Explanation(**fields)  # type: ignore[arg-type]


def test_without_a_cause_findings_stay_as_they_are() -> None:
    findings = (finding("host.heap"),)
    assert what_is_known(findings, findings, Explanation(), True) == findings


def test_a_remedy_does_not_excuse_a_finding() -> None:
    words = NEUTRALISERS[KERNELS.experiment].words
    shown = explanation(
        remedies={"host.heap": (KERNELS, 9_000.0)},
        experiments={"host.heap": [Experiment(name=words, per_iteration=64.0)]},
    )
    heap = finding("host.heap")
    (told,) = what_is_known([heap], [heap], shown, True)
    assert (told.known, told.accepted) == (KERNELS.name, False)
    assert told.advice == KERNELS.remedy
    assert told.experiments == (Experiment(name=words, per_iteration=64.0),)


def test_a_remedy_for_a_part_says_so() -> None:
    words = NEUTRALISERS[KERNELS.experiment].words
    shown = explanation(
        remedies={"host.heap": (KERNELS, 36_000.0)},
        experiments={"host.heap": [Experiment(name=words, per_iteration=16_384.0)]},
    )
    heap = finding("host.heap", 53_000.0)
    (told,) = what_is_known([heap], [heap], shown, True)
    assert told.advice == f"for the larger part: {KERNELS.remedy}"


def test_what_clear_session_releases_is_said() -> None:
    shown = explanation(released={"host.heap"})
    heap = finding("host.heap")
    (told,) = what_is_known([heap], [heap], shown, True)
    assert told.known is None
    assert "clear_session() releases it" in str(told.advice)


@pytest.mark.parametrize("accepted", [True, False])
def test_what_went_away_is_known(accepted: bool) -> None:
    shown = explanation(causes=[REGISTRY])
    (told,) = what_is_known([finding("host.heap")], [], shown, accepted)
    assert (told.known, told.accepted) == (REGISTRY.name, accepted)
    assert told.per_iteration == 10_000


@pytest.mark.parametrize("signal", ["process.fds", "tf.tensors"])
def test_what_no_experiment_took_away_is_not_excused(signal: str) -> None:
    shown = explanation(causes=[REGISTRY], known={"host.heap": (REGISTRY, 9e5)})
    heap = finding("host.heap", 1_000_000.0)
    own = finding(signal, 1.0, unit="objects", allowance=0.0)
    told = what_is_known([heap, own], [], shown, True)
    assert [(f.signal, f.known) for f in told] == [
        (signal, None),
        ("host.heap", REGISTRY.name),
    ]


def test_what_is_left_is_the_users_own_and_the_rest_is_known() -> None:
    shown = explanation(causes=[REGISTRY], known={"host.heap": (REGISTRY, 9e5)})
    heap, left = finding("host.heap", 1_000_000.0), finding("host.heap", 100_000.0)
    tensors = finding("tf.tensors", 1.0, unit="tensors", allowance=0.0)
    told = what_is_known([heap, tensors], [left, tensors], shown, True)
    assert [(f.signal, f.per_iteration, f.known) for f in told] == [
        ("host.heap", 100_000, None),
        ("tf.tensors", 1, None),
        ("host.heap", 900_000, REGISTRY.name),
    ]
    assert [f.accepted for f in told] == [False, False, True]
    assert told[-1].total == 90_000_000


def test_what_is_still_there_has_nothing_to_do_with_growth() -> None:
    left = finding("tf.sessions", None, unit="sessions", allowance=0.0)
    told = what_is_known(
        [left, finding("host.heap")], [], explanation(causes=[REGISTRY]), True
    )
    assert [(f.signal, f.accepted) for f in told] == [
        ("tf.sessions", False),
        ("host.heap", True),
    ]


@pytest.mark.parametrize("make", NEUTRALISERS.values(), ids=NEUTRALISERS)
def test_a_neutraliser_puts_back_what_it_changed(make: type[Neutraliser]) -> None:
    before = set(sys.modules)
    assert make.words
    with suppress(AttributeError), make() as neutraliser:  # TensorFlow is not there
        neutraliser.after()
    assert set(sys.modules) == before


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


class Scripted:
    """A loop whose heap grows by the next of some rates in each experiment."""

    seconds_per_iteration = 0.001
    seconds_left = 60.0

    def __init__(self, *rates: int) -> None:
        self.rates = list(rates)

    def run_again(self, _after: object, warmup: int, iterations: int) -> Trace:
        rate = self.rates.pop(0)
        readings = [k * rate for k in range(warmup + iterations + 1)]
        return trace_of(readings, warmup=warmup, signal=HEAP)


class Busy(Neutraliser):
    """What every body does something for."""

    def __enter__(self) -> Neutraliser:
        self.seen = 1
        return self


@pytest.mark.parametrize(
    ("rates", "names"),
    [
        # as it is, without the first, without both; the same twice; and what is left
        ([90_000, 30_000, 0, 30_000], ["first", "second"]),
        ([90_000, 50_000, 0, 1_000], ["first"]),
    ],
    ids=["both", "one-step"],
)
def test_a_single_step_of_the_heap_is_no_second_cause(
    monkeypatch: pytest.MonkeyPatch, rates: list[int], names: list[str]
) -> None:
    first, second = (
        dataclasses.replace(REGISTRY, name=name, experiment=name)
        for name in ("first", "second")
    )
    monkeypatch.setattr(experiments, "known_here", lambda: (first, second))
    monkeypatch.setattr(experiments, "is_keras_imported", lambda: False)
    busy = dict.fromkeys(("first", "second"), Busy)
    monkeypatch.setattr(experiments, "NEUTRALISERS", busy)
    loop = Scripted(*rates)
    growth = [finding("host.heap", 90_000)]
    found = experiments.Search(cast(Loop, loop), make_plan(), growth).run()
    assert [entry.name for entry in found.causes] == names
    assert not loop.rates
