"""A signal holds methods weakly, functions strongly; a lambda around a method is one.

matplotlib/matplotlib#16221: ``connect(object.method)`` does not keep the object, but
``connect(lambda event: object.method(event))`` does, as registries of callbacks go.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="matplotlib/matplotlib#16221",
    kind="Preview",
    also="EagerTensor, function, cell",
    holder="the slots of the module's CHANGED, by the closure of each lambda",
    cause="callback-kept or callback-registered-in-loop or closure-keeps-variables",
    made_at="made here",
    stored_at="stored here",
    fix="connect the method itself, or disconnect at the end.",
)


class Signal:
    """Calls those who are connected."""

    def __init__(self) -> None:
        self.slots: set[Callable[..., Any]] = set()
        self.weak: list[weakref.WeakMethod[Any]] = []

    def connect(self, slot: Callable[..., Any]) -> None:
        """Call a function from now on; a method for as long as its object lives."""
        if isinstance(slot, MethodType):
            self.weak = [ref for ref in self.weak if ref() is not None]
            self.weak.append(weakref.WeakMethod(slot))
        else:
            self.slots.add(slot)  # stored here


CHANGED = Signal()


class Preview:
    """Shows an image that changes."""

    def __init__(self, image: Any) -> None:
        self.image = image

    def show(self, scale: float) -> None:
        """Show it, scaled."""
        self.image = self.image * scale


def leaky(state: None) -> None:
    """Connect a lambda."""
    preview = Preview(tf.ones([64, 64]))  # made here
    CHANGED.connect(lambda scale: preview.show(scale / 2))  # made here # stored here


def clean(state: None) -> None:
    """Connect the method."""
    preview = Preview(tf.ones([64, 64]))
    CHANGED.connect(preview.show)


def teardown(state: None) -> None:
    """Disconnect all."""
    CHANGED.slots.clear()
