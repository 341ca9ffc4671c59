"""Count Python's small-object blocks, and the objects made since the freeze.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal

SIGNALS = (make_signal("python.blocks"), make_signal("python.objects"))


class PythonProbe(Probe):
    """Reads what the heap's figure leaves out: small objects live in mmapped arenas."""

    name = "python"
    is_readable_anytime = True

    def __init__(self, census: Census) -> None:
        self._census = census

    def signals(self) -> Sequence[Signal]:
        """Return the signals of the interpreter."""
        return SIGNALS

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the allocated blocks and the new tracked objects."""
        buffer[start] = sys.getallocatedblocks()
        buffer[start + 1] = self._census.new_objects
