"""Keep TensorFlow's eager kernels where a body empties their cache.

``tf.random.set_seed()`` and Keras' ``clear_session()`` empty it. Each kernel that is
made again after that leaves some bytes: in TensorFlow 2.21, 32 of its 36 to 68 KB.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from pytest_tfleak.diagnosis.experiments.keras_names import RepeatedNames
from pytest_tfleak.probes.heap import find_heap_reader
from pytest_tfleak.tf import names

#: The most that kernels may leave, as a share of what emptying their cache frees. It is
#: five times what was measured.
_SHARE = 0.005


class KeptKernels(RepeatedNames):
    """Does not empty the cache, and repeats Keras' names: each has its own kernels.

    Operations with a state, such as ``tf.random.normal``, go on where they would begin
    anew, so the body gets other random numbers.
    """

    name = "kept-kernels"
    words = "without emptying the cache of eager kernels"

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self._cleared = 0
        self._freed = 0
        self._calls = 0
        self._heap = None if acts else find_heap_reader()

    @property
    def most(self) -> float:
        """Return how many bytes per iteration it may explain at most."""
        if self._heap is None:
            return inf
        return _SHARE * self._freed / max(1, self._calls)

    def _begin(self) -> None:
        super()._begin()
        owner, name = names.CLEAR_CACHES.owner(), names.CLEAR_CACHES.attribute
        self._patch(owner, name, self._noting_clear)

    def _after(self) -> None:
        super()._after()
        self.seen = self._cleared  # names alone are another cause
        self._calls += 1

    def _noting_clear(self, original: Callable[[Any], object]) -> Callable[[Any], None]:
        def clear(context: Any) -> None:
            self._cleared += 1
            if self.acts:
                return
            before = self._read()
            original(context)
            self._freed += max(0, before - self._read())

        return clear

    def _read(self) -> int:
        return 0 if self._heap is None else self._heap.read() or 0
