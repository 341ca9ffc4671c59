"""Fill the caches in which TensorFlow keeps the types that ``tf.nest`` has seen.

Each type stays there forever, with all that it holds, until a cache has 1,024 types.
No type can be removed, but a full cache takes no more.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import weakref
from abc import ABCMeta
from collections.abc import Iterator
from typing import Any

from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.tf.access import public_nest

_MOST = 1_024  # types in a full cache
_FORGET_AFTER = 256  # new types


class FullTypeCaches(Intervention):
    """Fills the caches, if the body makes types that stay there.

    Unlike other interventions, it cannot be undone: the caches stay full, as they would
    be after more calls of the body. The types that fill them take 2 MB.
    """

    name = "full-type-caches"
    words = "with tf.nest's caches of types full"
    is_lasting = True

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self._has_room = False
        self._types = 0

    def _begin(self) -> None:
        nest = public_nest()
        self._has_room = _has_room(nest)
        if self.acts and self._has_room:
            _fill(nest)
        self._types = _count_new_types()

    def _after(self) -> None:
        """Count the types that the iteration has added."""
        if self.acts or not self._has_room:
            return
        before, self._types = self._types, _count_new_types()
        self.seen += max(0, self._types - before)


def _count_new_types() -> int:
    """Return how many living types were made since the last freeze."""
    gc.collect()
    return sum(issubclass(type(found), type) for found in gc.get_objects())


def _fill(nest: Any) -> None:
    for count in range(1, _MOST + 1):
        _show(nest, _new_type())
        if count % _FORGET_AFTER == 0:
            _forget_answers()


def _has_room(nest: Any) -> bool:
    """Return whether the caches keep one more type."""
    shown = _new_type()
    reference = weakref.ref(shown)
    _show(nest, shown)
    del shown
    gc.collect()
    return reference() is not None


def _new_type() -> Any:
    """Return a new type that looks like a named tuple, which all caches keep."""
    return type("Filler", (tuple,), {"__slots__": (), "_fields": (), "_asdict": None})


def _show(nest: Any, shown: Any) -> None:
    """Pass a type to all functions of ``tf.nest`` that have a cache."""
    empty = shown()
    for composites in (False, True):
        nest.assert_same_structure(empty, empty, expand_composites=composites)
        flat = nest.flatten(empty, expand_composites=composites)
        nest.pack_sequence_as(empty, flat, expand_composites=composites)


def _forget_answers() -> None:
    """Clear the caches of abstract classes for ``isinstance``.

    These take 10 KB for each new type, and Python refills them when needed.
    """
    forget = getattr(ABCMeta, "_abc_caches_clear", None)
    if forget is not None:
        for cls in filter(_is_abstract, _all_classes()):
            forget(cls)


def _is_abstract(cls: type) -> bool:
    return issubclass(type(cls), ABCMeta)


def _all_classes() -> Iterator[type]:
    seen: set[int] = set()
    pending: list[type] = [object]
    while pending:
        below: list[type] = type.__subclasses__(pending.pop())
        for cls in below:
            if id(cls) not in seen:
                seen.add(id(cls))
                pending.append(cls)
                yield cls
