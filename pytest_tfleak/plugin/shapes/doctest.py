"""Doctests in a module or a text file.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_tfleak.plugin.shapes import RunTest
from pytest_tfleak.plugin.shapes.function import FunctionShape
from pytest_tfleak.user_code import register_excerpt

if TYPE_CHECKING:
    from doctest import DocTest


def recognize(item: pytest.Item, runtest: RunTest, repeat: str) -> DoctestShape | None:
    """Return the shape of a doctest, None for any other item."""
    if not isinstance(item, pytest.DoctestItem):
        return None
    return DoctestShape(item, runtest, repeat)


class DoctestShape(FunctionShape):
    """Runs all examples of a doctest, each time with the names of the first run."""

    _item: pytest.DoctestItem

    def __init__(self, item: pytest.DoctestItem, runtest: RunTest, repeat: str) -> None:
        super().__init__(item, runtest, repeat)
        self._names = dict(item.dtest.globs)
        _register(item.dtest)

    def call(self) -> None:
        """Run the examples; doctest clears their names afterwards."""
        __tracebackhide__ = True
        self._item.dtest.globs.update(self._names)
        super().call()


def _register(test: DocTest) -> None:
    """Have messages name the lines of the examples in their file."""
    if test.filename is None or test.lineno is None:
        return
    for number, example in enumerate(test.examples):
        compiled_as = f"<doctest {test.name}[{number}]>"
        register_excerpt(compiled_as, test.filename, test.lineno + example.lineno + 1)
