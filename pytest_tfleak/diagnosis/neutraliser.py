"""What takes one cause of growth away, for as long as an experiment runs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any


class Neutraliser:
    """A context manager; ``after`` runs after each iteration.

    With ``acts=False`` it changes nothing and only counts in ``seen`` how often the
    body did what can cause the growth.
    """

    name = ""
    words = ""  # completes "growth per iteration ..."

    def __init__(self, acts: bool = True) -> None:
        self.acts = acts
        self.seen = 0
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Neutraliser:
        """Change what must be changed.

        Raises AttributeError where TensorFlow is built differently.
        """
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

    def after(self) -> None:
        """Do what must be done after each iteration."""

    def _replace(self, owner: Any, name: str, new: Callable[..., Any]) -> None:
        original = owner.__dict__[name]
        setattr(owner, name, new)
        self._undo.append(partial(setattr, owner, name, original))


def module_of_tensorflow(name: str) -> Any:
    """Return a module of TensorFlow's. Raises AttributeError where it has none."""
    try:
        return sys.modules[f"tensorflow.python.{name}"]
    except KeyError:
        raise AttributeError(name) from None
