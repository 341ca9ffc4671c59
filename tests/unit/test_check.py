"""A diagnosis that fails, is cut short or is interrupted never hides the verdict."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pytest_tfleak.check import Measurement
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import make_probes
from pytest_tfleak.testing import FakeProbe
from pytest_tfleak.verdict import Status

JUDGED = 20  # iterations, those of the confirmation included


def leaking(body: Callable[[], object]) -> Measurement:
    return Measurement(
        body,
        make_plan(iterations=JUDGED // 2, warmup=0),
        nodeid="x",
        probes=lambda census: [
            *make_probes(census),
            FakeProbe({"fake": itertools.count()}),
        ],
    )


def fails_afterwards(error: type[BaseException]) -> Callable[[], None]:
    calls = itertools.count(1)

    def body() -> None:
        if next(calls) > JUDGED:
            raise error("late")

    return body


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_a_body_that_fails_in_the_diagnosis_has_leaked(
    error: type[BaseException],
) -> None:
    verdict = leaking(fails_afterwards(error)).run()

    assert verdict.status is Status.LEAK
    assert [finding.signal for finding in verdict.failing] == ["fake"]
    assert any(f"{error.__name__}" in note for note in verdict.notes)


def test_an_interrupt_in_the_diagnosis_keeps_what_was_found() -> None:
    measurement = leaking(fails_afterwards(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        measurement.run()

    assert measurement.verdict is not None
    assert measurement.verdict.status is Status.LEAK
    assert measurement.verdict.failing
    assert any("interrupted" in note for note in measurement.verdict.notes)


def test_an_error_in_the_diagnosis_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RecursionError("too deep")

    monkeypatch.setattr("pytest_tfleak.check.tell", fail)
    verdict = leaking(lambda: None).run()

    assert verdict.status is Status.LEAK and verdict.failing
    assert any("RecursionError: too deep" in note for note in verdict.notes)
