"""Tests that Hypothesis calls with many examples: all of them are one iteration.

Each iteration has the same examples, or new ones would look like growth. Hypothesis'
database is neither read nor written, as its contents would change them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from random import SystemRandom
from typing import Any

import pytest

from pytest_tfleak.plugin.shapes import RunTest
from pytest_tfleak.plugin.shapes import Shape
from pytest_tfleak.plugin.shapes.function import FunctionShape
from pytest_tfleak.plugin.shapes.testcase import recognize as recognize_testcase


def recognize(
    item: pytest.Item, runtest: RunTest, repeat: str
) -> HypothesisShape | None:
    """Return the shape of a Hypothesis test, None for any other item."""
    if not isinstance(item, pytest.Function):
        return None
    if not getattr(item.obj, "is_hypothesis_test", False):
        return None
    shape = recognize_testcase(item, runtest, repeat)
    return HypothesisShape(shape or FunctionShape(item, runtest, repeat), item)


class HypothesisShape:
    """Calls a function or a method of a TestCase with the same examples each time."""

    def __init__(self, shape: Shape, item: pytest.Function) -> None:
        self._shape = shape
        self._owners = (item.function, getattr(item.parent, "obj", None))
        self._seed = SystemRandom().getrandbits(128)
        self.repeat = shape.repeat
        self.handed = shape.handed
        self.teardown = shape.teardown
        self.renewed = shape.renewed
        self.is_inherited = shape.is_inherited
        self.forget = shape.forget
        self.surround = shape.surround

    def call(self) -> None:
        """Run the examples, as the first call did."""
        __tracebackhide__ = True
        with _repeatable(self._owners), _seeded(self._seed):
            self._shape.call()


@contextmanager
def _seeded(seed: int) -> Generator[None, None, None]:
    """Have Hypothesis draw the same examples, unless its user chose a seed."""
    core: Any = sys.modules["hypothesis.core"]
    before = core.global_force_seed
    core.global_force_seed = seed if before is None else before
    try:
        yield
    finally:
        core.global_force_seed = before


#: Where Hypothesis keeps the settings of a function, and of a state machine's class.
_SETTINGS = ("_hypothesis_internal_use_settings", "settings")


@contextmanager
def _repeatable(owners: tuple[object, ...]) -> Generator[None, None, None]:
    """Change the settings of a test: no database, and a new instance in each call."""
    hypothesis: Any = sys.modules["hypothesis"]
    found = {
        (owner, name): value
        for owner in owners
        for name in _SETTINGS
        if isinstance(value := getattr(owner, name, None), hypothesis.settings)
    }
    allowed = {hypothesis.HealthCheck.differing_executors}
    for (owner, name), settings in found.items():
        checks = {*settings.suppress_health_check, *allowed}
        changed = hypothesis.settings(
            settings, database=None, suppress_health_check=checks
        )
        setattr(owner, name, changed)
    try:
        yield
    finally:
        for (owner, name), settings in found.items():
            setattr(owner, name, settings)
