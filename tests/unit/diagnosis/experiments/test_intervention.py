from __future__ import annotations

from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest

from pytest_tfleak.diagnosis.experiments import search
from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.known import KNOWN


class Brittle(Intervention):
    """Replaces a function, and fails at a chosen point."""

    def __init__(self, module: Any, fails_in: str) -> None:
        super().__init__()
        self._module, self._fails_in = module, fails_in

    def _begin(self) -> None:
        self._patch(self._module, "call", lambda original: lambda: "ours")
        self.seen = 1
        self._fail("begin")

    def _after(self) -> None:
        self._fail("after")

    def _end(self) -> None:
        self._fail("end")

    def _fail(self, place: str) -> None:
        if place == self._fails_in:
            raise KeyError(place)


@pytest.fixture
def module() -> Any:
    made: Any = ModuleType("made")
    made.call = lambda: "theirs"
    return made


def test_changes_are_undone(module: Any) -> None:
    with Brittle(module, "") as brittle:
        assert module.call() == "ours"
        brittle.after()
    assert (brittle.failed, module.call()) == (None, "theirs")


@pytest.mark.parametrize("place", ["begin", "after"])
def test_an_intervention_that_fails_undoes_all_and_counts_nothing(
    module: Any, place: str
) -> None:
    with Brittle(module, place) as brittle:
        brittle.after()
        assert module.call() == "theirs"
        assert brittle.failed == f"KeyError: {place!r}"
        assert not brittle.seen
    assert module.call() == "theirs"


def test_an_intervention_that_fails_at_its_end_undoes_its_changes(module: Any) -> None:
    with Brittle(module, "end") as brittle:
        assert module.call() == "ours"
    assert brittle.failed == "KeyError: 'end'"
    assert module.call() == "theirs"


def test_an_intervention_that_fails_does_not_stop_the_others(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        KNOWN[0].experiment: lambda: Brittle(module, "begin"),
        KNOWN[1].experiment: lambda: Brittle(module, ""),
    }
    monkeypatch.setattr(search, "INTERVENTIONS", made)
    with ExitStack() as stack:
        (working,) = search.enter_all(stack, KNOWN[:2])
        assert working.failed is None
        assert module.call() == "ours"
    assert module.call() == "theirs"
