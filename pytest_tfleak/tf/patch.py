"""Replace an attribute of TensorFlow or Keras, and undo it if it is still ours.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

_ABSENT: Any = object()
#: A function that returns the replacement for an attribute, given the original.
Make = Callable[[Any], Any]


class Patch:
    """One attribute of a module or class, replaced by what ``make`` returns.

    Nothing happens before ``set``. An inherited attribute is set on the class itself
    and deleted again, so that the base class never changes.
    """

    def __init__(self, owner: Any, name: str, make: Make) -> None:
        self._owner = owner
        self._name = name
        self._make = make
        self._original: Any = _ABSENT
        self._replacement: Any = _ABSENT

    def set(self) -> None:
        """Replace the attribute. Raises AttributeError if there is none."""
        self._original = vars(self._owner).get(self._name, _ABSENT)
        found = _look_up(self._owner, self._name)
        self._replacement = self._make(found)
        setattr(self._owner, self._name, self._replacement)

    def undo(self) -> None:
        """Restore the attribute, unless other code has replaced it since.

        If that code wrapped ours, it may put ours back later: then call this again.
        """
        if self._replacement is _ABSENT:
            return
        if vars(self._owner).get(self._name, _ABSENT) is not self._replacement:
            return
        if self._original is _ABSENT:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._original)


class Patches:
    """Patches that are undone together, in reverse order."""

    def __init__(self) -> None:
        self._undo = ExitStack()

    def set(self, owner: Any, name: str, make: Make) -> None:
        """Replace an attribute."""
        self.add(Patch(owner, name, make))

    def add(self, patch: Patch) -> None:
        """Set a patch; even if that fails halfway, ``undo`` will undo it."""
        self._undo.callback(patch.undo)
        patch.set()

    def call_back(self, undo: Callable[[], object]) -> None:
        """Register a function to call when the patches are undone."""
        self._undo.callback(undo)

    def undo(self) -> None:
        """Undo all patches, even if one of them fails."""
        self._undo.close()


def _look_up(owner: Any, name: str) -> Any:
    """Return an attribute without binding it, such as a staticmethod object."""
    for holder in getattr(owner, "__mro__", (owner,)):
        if name in vars(holder):
            return vars(holder)[name]
    raise AttributeError(f"{owner!r} has no attribute {name!r}")
