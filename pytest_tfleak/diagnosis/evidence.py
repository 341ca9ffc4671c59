"""What is known about one leak when its cause is looked up.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from pytest_tfleak.diagnosis.holders import NOBODY

#: In the clues where a tf.function keeps something beside its traces.
FUNCTION_CACHE = (
    "old_tensorflow.core.function.polymorphism.function_cache.FunctionCache"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The findings that belong together, and what was found out about them."""

    #: The signals of these findings, without what stands in brackets.
    signals: frozenset[str] = frozenset()
    #: All signals that fail the test.
    failing: frozenset[str] = frozenset()
    #: The entry in known.py that explains the growth, by its name.
    known: str = ""
    #: What grows, in words.
    what: str = ""
    #: What the path from the root to the object goes through, as words (holders.py):
    #: ``old_x`` for what was there before, ``x`` for what each iteration adds.
    clues: frozenset[str] = frozenset()
    #: That path without indexes and sizes.
    path: str = ""
    #: The path to what the first finding counts, with them.
    holder: tuple[str, ...] = ()
    #: Full name of the type that is held directly, "" where none was found.
    held: str = ""
    #: Objects per iteration that hang together there, by full name of the type.
    members: Mapping[str, float] = field(default_factory=dict)
    #: Full names of the types that are kept anywhere in the test.
    beside: frozenset[str] = frozenset()
    #: The user's line that made it, as text.
    line: str = ""
    #: What the code around that line does, as words (source.py).
    around: frozenset[str] = frozenset()
    #: Why a function is traced anew: python_scalar, shape, dtype, object, structure.
    retrace: str = ""
    #: A function is made anew in each call.
    is_made_in_loop: bool = False
    #: C++ functions that allocate what grows, the innermost first.
    native: tuple[str, ...] = ()
    #: keras.utils.clear_session() after each iteration makes the growth go.
    is_released: bool = False
    #: All that can hold an object was looked at.
    is_searched: bool = False
    #: Python's small objects are enough to explain the memory.
    is_of_blocks: bool = False
    #: The error that ended the test, as text.
    error: str = ""

    @property
    def is_native(self) -> bool:
        """Say whether C or C++ code holds it, and no object of Python's is known."""
        return "native" in self.clues and self.holder[:1] in ((), (NOBODY,))

    def has(self, *signals: str) -> bool:
        """Say whether one of these signals is among those of the findings."""
        return not self.signals.isdisjoint(signals)

    def grows(self, container: str) -> bool:
        """Say whether what gets longer is such a container, a pattern."""
        sized = re.compile(rf"{container} of \d+\)$")
        return any(sized.search(edge) for edge in self.holder)

    def holds(self, *types: str) -> bool:
        """Say whether something of these types is kept, given by the name's end."""
        return any(name.endswith(types) for name in (self.held, *self.members))
