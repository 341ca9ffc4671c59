"""Decide which tests can be repeated, and how: one file for each shape of test.

``shape_of`` asks each file in turn whether an item has its shape. A file returns a
``Shape``, or ``Unsupported`` with the reason, or None for an item of another shape. To
support a shape, add a file with a ``recognize``, or let its file return a ``Shape``.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from inspect import isasyncgenfunction
from inspect import isgeneratorfunction
from pkgutil import iter_modules
from typing import Protocol

import pytest

from pytest_tfleak.run.teardown import Teardown

#: The files, in the order in which they are asked: by name, but ``function`` last, as
#: most other shapes are functions to pytest, too. Hypothesis tests may be methods of a
#: TestCase, and come first.
SHAPES: tuple[str, ...] = tuple(
    sorted(
        (file.name for file in iter_modules(__path__)),
        key=lambda name: (name == "function", name),
    )
)
RunTest = Callable[[], object]


class Shape(Protocol):
    """A test whose body can be called again and again."""

    @property
    def repeat(self) -> str:
        """Return what an iteration is: the ``body``, or the ``test`` with its setup."""

    def call(self) -> None:
        """Run the body once, as pytest would. Raises what the body raises."""

    def handed(self) -> dict[str, object]:
        """Return the objects that the body receives, by name."""

    def teardown(self) -> Teardown | None:
        """Return its fixtures, if they are set up once and some clean up."""

    def renewed(self) -> frozenset[str]:
        """Return the fixtures, and ``self``, that another test would have anew."""

    def is_inherited(self) -> bool:
        """Return whether a library's base class has the body, not the user's code."""

    def surround(self, around: AbstractContextManager[None] | None) -> None:
        """Enter a context around the body itself, without its fixtures, in each call.

        None ends that. The body may then raise, and be called again.
        """

    def forget(self) -> None:
        """Drop what pytest would report for the last call besides its error."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A test whose body cannot be repeated."""

    why: str  # completes "the tfleak marker ..."


def shape_of(item: pytest.Item, runtest: RunTest, repeat: str) -> Shape | Unsupported:
    """Return how to repeat a test, or why that is not possible.

    ``runtest`` is the item's own method; ``repeat`` is the option of that name.
    """
    function = getattr(item, "obj", None)
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        return Unsupported("does not support tests that yield: pytest never runs them")
    for name in SHAPES:
        shape: Shape | Unsupported | None
        shape = import_module(f"{__name__}.{name}").recognize(item, runtest, repeat)
        if shape is not None:
            return shape
    return Unsupported(f"does not support tests of type {type(item).__name__}")
