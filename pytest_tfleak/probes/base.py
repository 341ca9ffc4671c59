"""What a probe is.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

from pytest_tfleak.trace import Signal


class Probe(Protocol):
    """Reads some signals after each iteration.

    A probe must not move the needle it reads: nothing that ``read`` makes may survive
    the call. Subclass this to get the defaults of the later methods.
    """

    #: Shown in pytest's header: ``host``, ``tensorflow``.
    name: str
    #: Whether it may be read between iterations, too, and a confirmed leak be held
    #: against what a full collection and a moment of rest let go of.
    is_readable_anytime: bool = False

    def signals(self) -> Sequence[Signal]:
        """Return what this probe reads.

        Called before the warm-up, and again after it: by then there may be more.
        """
        ...

    def has_more_signals(self) -> bool:
        """Say, after an iteration, whether ``signals`` would now return more."""
        return False

    def settle(self) -> None:
        """Wait until what the iteration let go of has left the figures.

        Called after the collector ran, for all probes before the first one reads.
        """
        return

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the reading of each signal, in order, from ``buffer[start]`` on.

        A place that is not written keeps ``MISSING``. Signals that take long to read
        are read only where ``deep`` is true: in one iteration of each part of the run.
        """
        ...

    def why_off(self) -> str | None:
        """Say why this probe can read nothing at present, in a short clause."""
        return None

    def reasons(self) -> Mapping[str, str]:
        """Say of each signal that could not be read why, in a short clause."""
        return {}

    def codes(self) -> Mapping[str, str]:
        """Return those reasons as words that programs can rely on."""
        return {}

    def untrusted(self) -> Collection[str]:
        """Return the signals whose readings are there and cannot be trusted."""
        return ()

    def still_there(self) -> Mapping[str, list[Any]]:
        """Return, by signal, what the run made and left alive. Called after the run."""
        return {}

    def notes(self) -> Sequence[str]:
        """Return what a reader should know that is no leak, a sentence each."""
        return ()

    def close(self) -> None:
        """Let go of whatever the readings needed."""
        return
