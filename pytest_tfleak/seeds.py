"""Put back the global seed that a test's own fixtures set.

With a global seed, each random operation gets a seed of its own, and TensorFlow keeps a
kernel for each: a seed that one test's fixture left would look like a leak of the next
test. Seeds of fixtures with a wider scope stay: other tests of theirs still run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Generator
from typing import Any

import pytest


class SeedKeeper:
    """Remembers the seed before a test's function-scoped fixtures, and after them."""

    def __init__(self, is_measured: Callable[[pytest.Item], bool]) -> None:
        self._is_measured = is_measured
        self._before: Any = None
        self._after_setup: Any = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Note the seed before and after the setup."""
        self._before = _global_seed()
        try:
            return (yield)
        finally:
            self._after_setup = _global_seed()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        """Take the seed that a fixture with a wider scope sets for the one before."""
        result = yield
        if fixturedef.scope != "function":
            self._before = _global_seed()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item
    ) -> Generator[None, object, object]:
        """Put the seed back, unless the teardown has changed it."""
        try:
            return (yield)
        finally:
            seed = _global_seed()
            is_own = seed is self._after_setup and seed is not self._before
            if is_own and self._is_measured(item):
                _set_global_seed(self._before)


def _context() -> Any:
    module = sys.modules.get("tensorflow.python.eager.context")
    return getattr(module, "_context", None)


def _global_seed() -> Any:
    return getattr(_context(), "_seed", None)


def _set_global_seed(seed: Any) -> None:
    context = _context()
    if context is not None:
        # as an attribute: tf.random.set_seed() would clear the eager kernel cache
        context._seed = seed
