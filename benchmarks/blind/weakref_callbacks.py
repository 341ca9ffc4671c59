"""Callbacks are kept as weak references, and those that are dead are never removed.

vispy/vispy#1593: each connect() added ``(weakref.ref(object), name)`` to the list of
an emitter; the objects went, their references stayed.
"""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="vispy/vispy#1593",
    kind="tuple",
    also="weakref, ReferenceType",
    holder="state.callbacks",
    cause="object-kept, or one about dead weak references, or callback-kept",
    made_at="made here",
    stored_at="stored here",
    fix="drop what is dead when something is added.",
)


class Line:
    """One line of a plot."""

    def __init__(self, points: Any) -> None:
        self.points = points

    def update(self) -> None:
        """Draw it again."""


class Emitter:
    """Tells lines that the axes have changed."""

    def __init__(self) -> None:
        self.callbacks: list[tuple[weakref.ref[Line], str]] = []

    def connect(self, line: Line) -> None:
        """Tell a line from now on."""
        reference = weakref.ref(line), "update"  # made here
        self.callbacks.append(reference)  # stored here

    def sweep(self) -> None:
        """Drop the lines that are gone."""
        self.callbacks = [pair for pair in self.callbacks if pair[0]() is not None]


def setup() -> Emitter:
    """Make the emitter of the axes."""
    return Emitter()


def plot(axes: Emitter) -> None:
    """Plot a hundred lines, and let them go."""
    points = tf.ones([8])
    lines = [Line(points) for _ in range(100)]
    for line in lines:
        axes.connect(line)


def leaky(axes: Emitter) -> None:
    """Plot."""
    plot(axes)


def clean(axes: Emitter) -> None:
    """Plot, and sweep up."""
    plot(axes)
    axes.sweep()
