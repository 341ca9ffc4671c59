"""Hold a few descriptors and some memory, for when a body has used up the rest.

Reading memory figures and reporting a test both open files. A body that leaks must not
keep this plugin or pytest from doing so.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Generator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

_DESCRIPTORS = 8
_MEMORY = 8 << 20  # bytes of address space: never written to, they use no real memory
_NONE = -1


class Reserve:
    """Holds descriptors and memory until ``release``."""

    def __init__(self) -> None:
        # an array, since a list would get a new int object in each iteration
        self._descriptors = array("i", [_NONE]) * _DESCRIPTORS
        self._memory = bytearray()
        self._device = 0

    def hold(self) -> None:
        """Take the reserve, or as much of it as there is."""
        with suppress(OSError):
            self._device = Path(os.devnull).stat().st_rdev
        for place in range(_DESCRIPTORS):
            self._take(place)
        with suppress(MemoryError):
            self._memory = bytearray(_MEMORY)

    def release(self) -> None:
        """Give everything back."""
        for place in range(_DESCRIPTORS):
            self._give(place)
        self._memory = bytearray()

    @contextmanager
    def lent(self) -> Generator[None, None, None]:
        """Free one descriptor for the code in the block."""
        self._give(0)
        try:
            yield
        finally:
            self._take(0)

    def _take(self, place: int) -> None:
        if self._descriptors[place] == _NONE:
            with suppress(OSError):  # no descriptor is left
                self._descriptors[place] = os.open(os.devnull, os.O_RDONLY)

    def _give(self, place: int) -> None:
        descriptor = self._descriptors[place]
        if descriptor != _NONE:
            self._descriptors[place] = _NONE
            with suppress(OSError):  # the body may have closed it,
                if os.fstat(descriptor).st_rdev == self._device:  # or reused its number
                    os.close(descriptor)
