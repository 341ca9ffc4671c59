"""Methods of ``unittest.TestCase``, asynchronous ones included.

One iteration is what ``unittest`` does for a method: ``setUp``, the method,
``tearDown`` and the cleanups, on a new instance. Class and module are set up once.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from _pytest.unittest import TestCaseFunction

from pytest_tfleak.plugin.seed import drop_graph_seed
from pytest_tfleak.plugin.seed import global_seed
from pytest_tfleak.plugin.seed import set_global_seed
from pytest_tfleak.plugin.shapes import RunTest
from pytest_tfleak.plugin.shapes.function import FunctionShape
from pytest_tfleak.run.leftovers import WeaklyHanded
from pytest_tfleak.tf import names
from pytest_tfleak.user_code import is_users


def recognize(item: pytest.Item, runtest: RunTest, repeat: str) -> TestCaseShape | None:
    """Return the shape of a method of a TestCase, None for any other item."""
    if not isinstance(item, TestCaseFunction):
        return None
    return TestCaseShape(item, runtest)


class TestCaseShape(FunctionShape):
    """Has ``unittest`` run the method; raises what it only notes down."""

    _item: TestCaseFunction

    def __init__(self, item: TestCaseFunction, runtest: RunTest) -> None:
        super().__init__(item, runtest, repeat="test")

    def call(self) -> None:
        """Have unittest run the method, as pytest would."""
        __tracebackhide__ = True
        seed = global_seed()
        super().call()
        if self._sets_seed():
            set_global_seed(seed)
            drop_graph_seed()  # the graph is new: the class has replaced it

    def handed(self) -> dict[str, object]:
        """Return the values of fixtures, and the instance of the first call, weakly.

        Each call has an instance of its own. Another plugin may keep the first, such as
        flaky, and with it what ``setUp`` put into its attributes.
        """
        handed = super().handed()
        if (first := vars(self._item).get("_instance")) is not None:
            handed["instance:self"] = WeaklyHanded(first)
        return handed

    def is_inherited(self) -> bool:
        """Return whether the method is a library's, such as ``test_session``."""
        function = inspect.unwrap(self._item.function)
        code: Any = getattr(function, "__code__", None)
        return code is not None and not is_users(code.co_filename)

    def forget(self) -> None:
        """Drop the errors that pytest would report for the last call."""
        vars(self._item).pop("_excinfo", None)

    def _sets_seed(self) -> bool:
        """Return whether the class sets the seed before each test, whatever it was."""
        base = names.TEST_CASE.find()
        return base is not None and issubclass(self._item.cls, base)

    def _run_body(self) -> None:
        """Raise the first error, skip or expected failure of the method.

        The item still has all of them: pytest reports each in a phase of its own, such
        as an error in ``tearDown`` after one in the method.
        """
        __tracebackhide__ = True
        self.forget()
        self._runtest()
        if errors := vars(self._item).get("_excinfo"):
            raise errors[0].value
