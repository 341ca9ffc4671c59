"""The search for causes, which takes one after the other away."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from pytest_tfleak.diagnosis.experiments import search
from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes.census import Census
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.run.budget import Budget
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Status
from tests.builders import make_finding

KEPT: list[bytearray] = []


class Fails(Intervention):
    """Needs a name that this TensorFlow does not have."""

    words = "with a name that moved"

    def _begin(self) -> None:
        raise AttributeError("no attribute 'moved'")


def test_an_experiment_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = KNOWN[0]
    monkeypatch.setattr(search, "known_here", lambda: (entry,))
    monkeypatch.setitem(INTERVENTIONS, entry.experiment, Fails)

    verdict = Measurement(
        lambda: KEPT.append(bytearray(100_000)),
        make_plan(iterations=10, warmup=1),
        Setting(nodeid="test_it"),
    ).run()

    assert verdict.status is Status.LEAK  # its list is not what that name keeps
    assert (
        "Growth with a name that moved could not be measured: AttributeError: "
        "no attribute 'moved'."
    ) in failure_text(verdict, width=400)


SMALL = replace(KNOWN[0], name="small", signals=("x",), remedy=None)
LARGE = replace(SMALL, name="large")
LAST = replace(SMALL, name="last")


GROWTH = make_finding("x", 100.0)


class Scripted(search.Search):
    """A search whose experiments have given growth per iteration, or end early."""

    def __init__(
        self,
        rates: Sequence[float | Exception],
        finding: Finding = GROWTH,
    ) -> None:
        plan = make_plan()
        loop = Loop(lambda: None, plan, [], Census())
        super().__init__(loop, plan, [finding], Budget(plan))
        self._script = iter(rates)

    def _watch(self, candidates: Sequence[Known]) -> set[str]:
        self._rates = {"x": 100.0}
        return {entry.name for entry in candidates}

    def _measure(self, interventions: Sequence[Intervention]) -> dict[str, float]:
        rate = next(self._script)
        if isinstance(rate, Exception):
            raise rate
        return {"x": rate}


def untried(monkeypatch: pytest.MonkeyPatch, *rates: float | Exception) -> list[str]:
    """Run the experiments on three entries; return those that were not tried."""
    monkeypatch.setattr(search, "known_here", lambda: (SMALL, LARGE, LAST))
    scripted = Scripted(rates)
    with suppress(ValueError):
        scripted.run()
    return [entry.name for entry in scripted.result.untried]


def test_all_are_tried_in_two_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # in the first round only the large one lowers the growth, then nothing does
    assert untried(monkeypatch, 100, 40, 40, 40, 40) == []


@pytest.mark.parametrize("error", [search.TimeIsUpError(), ValueError()])
def test_one_that_is_cut_in_the_middle_is_untried(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert "large" in untried(monkeypatch, 100, error, error, error)


@pytest.mark.parametrize("error", [search.TimeIsUpError(), ValueError()])
def test_one_that_is_cut_in_the_second_round_is_untried(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert "small" in untried(monkeypatch, 100, 40, 40, error, error)


@pytest.mark.parametrize(
    ("allowance", "left", "is_found"),
    [(105.0, 20.0, True), (105.0, 95.0, False), (200.0, 20.0, False)],
    ids=["a part goes", "noise goes", "within its allowance"],
)
def test_growth_just_below_its_allowance_may_be_known(
    monkeypatch: pytest.MonkeyPatch, allowance: float, left: float, is_found: bool
) -> None:
    monkeypatch.setattr(search, "known_here", lambda: (LARGE,))
    finding = replace(make_finding("x", 100.0), allowance=allowance)
    result = Scripted([left, left], finding).run()
    assert result.causes == ((LARGE,) if is_found else ())
