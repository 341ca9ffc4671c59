"""Undo the global seed that a test's own fixtures set.

With a global seed, each random operation gets a seed of its own, and TensorFlow keeps a
kernel for each seed. So a global seed that a fixture of one test leaves behind would
make the next test look like a leak. Seeds of fixtures with a wider scope stay, because
other tests still rely on them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Generator
from typing import Any

import pytest


class SeedKeeper:
    """Remembers the seed before and after a test's function-scoped fixtures run."""

    def __init__(self, is_measured: Callable[[pytest.Item], bool]) -> None:
        self._is_measured = is_measured
        self._before: Any = None
        self._after_setup: Any = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Remember the seed before and after the setup."""
        self._before = global_seed()
        try:
            return (yield)
        finally:
            self._after_setup = global_seed()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        """Treat the seed of a fixture with a wider scope as set before the test."""
        result = yield
        if fixturedef.scope != "function":
            self._before = global_seed()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item
    ) -> Generator[None, object, object]:
        """Put the seed back, unless the teardown has changed it."""
        try:
            return (yield)
        finally:
            seed = global_seed()
            is_own = seed is self._after_setup and seed is not self._before
            if is_own and self._is_measured(item):
                set_global_seed(self._before)


def global_seed() -> Any:
    """Return TensorFlow's global seed, None if there is none."""
    if "tensorflow" not in sys.modules:
        return None
    from pytest_tfleak.tf import names

    return getattr(names.CONTEXT.find(), names.SEED, None)


def set_global_seed(seed: Any) -> None:
    """Set TensorFlow's global seed and keep the generators that follow from it."""
    from pytest_tfleak.tf import names

    context = names.CONTEXT.find()
    if context is not None:
        # set the attribute: tf.random.set_seed() would also clear the kernel cache
        setattr(context, names.SEED, seed)


def drop_graph_seed() -> None:
    """Take the seed away that the global default graph has, if there is a graph."""
    from pytest_tfleak.tf import names

    graph = getattr(names.GRAPH_STACK.find(), names.DEFAULT_GRAPH, None)
    if graph is not None:
        setattr(graph, names.SEED, None)
