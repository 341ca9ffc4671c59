"""The base class of interventions, which change one thing during an experiment.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from pytest_tfleak.tf.patch import Make
from pytest_tfleak.tf.patch import Patches


class Intervention:
    """A context manager that takes one cause of growth away.

    ``after`` is called after each iteration. With ``acts=False``, it changes nothing,
    but counts in ``seen`` how often the body did what can cause the growth. If an
    intervention fails, for example because TensorFlow differs, it undoes its changes
    and stops, without affecting the body or other interventions.
    """

    name = ""
    words = ""  # completes "growth per iteration ..."
    is_lasting = False  # whether its change cannot be undone

    def __init__(self, acts: bool = True) -> None:
        self.acts = acts
        self.seen = 0
        #: The error that stopped it, None while it works.
        self.failed: str | None = None
        self._patches = Patches()

    def __enter__(self) -> Intervention:
        with self._guarded():
            self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        with self._guarded():
            self._end()
        with self._guarded():
            self._patches.undo()

    @property
    def most(self) -> float:
        """Return how many bytes of growth per iteration it may explain at most."""
        return inf

    def after(self) -> None:
        """Do what is needed after each iteration."""
        if self.failed is None:
            with self._guarded():
                self._after()

    def _begin(self) -> None:
        """Make the changes."""

    def _after(self) -> None:
        """Do what is needed after each iteration."""

    def _end(self) -> None:
        """Undo changes that are not patches."""

    def _patch(self, owner: Any, name: str, make: Make) -> None:
        self._patches.set(owner, name, make)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Stop the intervention if its own code fails."""
        try:
            yield
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"
            self.seen = 0
            self._patches.undo()
