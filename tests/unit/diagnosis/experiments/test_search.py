"""The search for causes, which takes one after the other away."""

from __future__ import annotations

import pytest

from pytest_tfleak.diagnosis.experiments import search
from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.known import KNOWN
from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import make_plan
from pytest_tfleak.reports.message import failure_text

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

    assert verdict.failing
    assert (
        "Growth with a name that moved could not be measured: AttributeError: "
        "no attribute 'moved'."
    ) in failure_text(verdict, width=400)
