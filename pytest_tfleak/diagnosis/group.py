"""Survivors that belong together: what they are, who holds them, which line made them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field

from pytest_tfleak.verdict import Origin

WHOLE = ""  # the part of a group that is all of it
#: Clues: one object takes up more and more; each object refers to the one before it.
LONGER_VALUE, CHAIN = "longer_value", "chain"
_EVERY = 0.9  # objects per iteration
_ONCE = 1.5  # objects in all
_MANY = 16  # objects per iteration: so many small ones are a leak, too
_CONTENT = ("builtins.tuple", "builtins.frozenset", "builtins.list", "builtins.dict")
#: What can keep no memory but its own.
_SMALL = (
    *("builtins.int", "builtins.float", "builtins.bool", "builtins.str"),
    *("weakref.ReferenceType", "weakref.KeyedRef"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """Those members of a group that one signal counts."""

    kind: str  # full name of the type
    what: str
    per_iteration: float
    edges: tuple[str, ...]
    origin: Origin | None
    stack: tuple[Origin, ...]


@dataclass(slots=True)
class Group:
    """Survivors that are held in one place."""

    erased: str  # the path without indexes
    clues: frozenset[str]
    objects: float  # per iteration
    bytes: float  # per iteration, of the heap
    members: dict[str, float]  # objects per iteration, by full name of the type
    runs: int = 10  # of the body
    parts: dict[str, Part] = field(default_factory=dict)  # by signal

    @property
    def whole(self) -> Part:
        """Return the group as a whole, told by what is held directly."""
        return self.parts[WHOLE]

    @property
    def is_regular(self) -> bool:
        """Say whether each iteration adds to it."""
        return self.is_steady and self.objects >= _EVERY

    @property
    def is_steady(self) -> bool:
        """Say whether it gets more in several iterations, a chain of objects too."""
        kind = self.whole.kind
        if LONGER_VALUE in self.clues:
            return True
        rate = max(self.whole.per_iteration, self.members.get(kind, 0.0))
        if kind in _CONTENT and "native" in self.clues:
            return rate >= _EVERY
        if kind in _CONTENT:  # it may be made anew each time, with one thing more
            return self.objects >= _EVERY
        if kind in _SMALL:
            return rate >= _MANY
        return rate * self.runs > _ONCE
