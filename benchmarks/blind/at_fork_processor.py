"""A processor registers its method for forks, and nothing can take that back.

open-telemetry/opentelemetry-python#4449: ``os.register_at_fork`` was given a bound
method of each processor, so a processor that was shut down and dropped stayed.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="open-telemetry/opentelemetry-python#4449",
    kind="BatchProcessor",
    also="EagerTensor, deque, method",
    holder="the interpreter's list of calls after a fork, which no module names",
    cause="callback-registered-in-loop, or one about forks",
    made_at="made here",
    stored_at="stored here",
    fix="register one function for all of them, which has a weakref.WeakSet.",
)


class BatchProcessor:
    """Exports spans in batches."""

    def __init__(self) -> None:
        self.spans: deque[Any] = deque(maxlen=512)
        os.register_at_fork(after_in_child=self.restart)  # stored here

    def restart(self) -> None:
        """Begin again in a child."""
        self.spans.clear()


class KnownProcessor(BatchProcessor):
    """The same, known by a weak set, for which one function was registered."""

    def __init__(self) -> None:
        self.spans = deque(maxlen=512)
        PROCESSORS.add(self)


PROCESSORS: weakref.WeakSet[BatchProcessor] = weakref.WeakSet()


def restart_all() -> None:
    """Begin again in a child, with all processors that are there."""
    for processor in PROCESSORS:
        processor.restart()


os.register_at_fork(after_in_child=restart_all)


def trace(processor: BatchProcessor) -> None:
    """Add a span."""
    processor.spans.append(tf.ones([64, 64]))  # made here


def leaky(state: None) -> None:
    """Register the method."""
    trace(BatchProcessor())  # made here


def clean(state: None) -> None:
    """Be in the weak set."""
    trace(KnownProcessor())
