"""A property is computed once by functools.cache, which keeps each object asked for it.

alisaifee/coredis#376: ``@property`` over ``@functools.cache``: its key is ``self``, so
the cache belongs to the class, and grows with each instance.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="alisaifee/coredis#376",
    kind="Recording",
    also="EagerTensor",
    holder="the cache of Recording.spectrum.fget",
    cause="lru-cache-keeps-arguments",
    made_at="made here",
    stored_at="stored here",
    fix="@functools.cached_property, which keeps the value in the object.",
)


class Recording:
    """A sound."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    @property
    @functools.cache  # noqa: B019 - the leak
    def spectrum(self) -> Any:
        """Return its power at each frequency."""
        return tf.abs(tf.signal.rfft(self.samples))  # made here


class CheapRecording:
    """The same, that keeps its spectrum itself."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    @functools.cached_property
    def spectrum(self) -> Any:
        """Return its power at each frequency."""
        return tf.abs(tf.signal.rfft(self.samples))


def loudest(recording: Recording | CheapRecording) -> int:
    """Return the loudest frequency."""
    return int(tf.argmax(recording.spectrum)) + len(recording.spectrum)  # stored here


def leaky(state: None) -> None:
    """Ask a recording whose class has the cache."""
    loudest(Recording(tf.ones([4096])))  # made here


def clean(state: None) -> None:
    """Ask one that keeps its own."""
    loudest(CheapRecording(tf.ones([4096])))
