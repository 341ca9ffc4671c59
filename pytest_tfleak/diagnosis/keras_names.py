"""Have Keras give the layers of each iteration the names of the one before.

Keras numbers the names that it makes up, and TensorFlow keeps a kernel for each name of
a variable: a body that builds a model grows though nobody keeps anything.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pytest_tfleak.diagnosis.neutraliser import Neutraliser

_STORE = "object_name_uids"


class RepeatedNames(Neutraliser):
    """Count names from where the experiment began, after each iteration."""

    name = "repeated-names"
    words = "with Keras' automatic names repeated"

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self._counts: dict[str, int] = {}
        self._highest: dict[str, int] = {}

    def __enter__(self) -> Neutraliser:
        naming: Any = sys.modules.get("keras.src.utils.naming")
        self._counts = dict(_counts() or {})
        if naming is not None:
            self._replace(naming, "uniquify", self._counting(naming.uniquify))
        return self

    def __exit__(self, *_: object) -> None:
        if self._undo and self.acts:
            counts = _counts()
            if counts is not None:  # no name that was given may be given again
                for name, count in self._highest.items():
                    counts[name] = max(count, counts.get(name, 0))
        super().__exit__()

    def after(self) -> None:
        """Count from the beginning again."""
        counts = _counts()
        if not self.acts or counts is None:
            return
        for name, count in counts.items():
            self._highest[name] = max(count, self._highest.get(name, 0))
        counts.clear()
        counts.update(self._counts)

    def _counting(self, original: Callable[[str], str]) -> Callable[[str], str]:
        def uniquify(name: str) -> str:
            self.seen += 1
            return original(name)

        return uniquify


def _counts() -> dict[str, int] | None:
    state: Any = sys.modules.get("keras.src.backend.common.global_state")
    if state is None:
        return None
    counts: dict[str, int] | None = state.get_global_attribute(_STORE)
    return counts
