"""One exception, made once, is raised again and again, and collects tracebacks.

patx/pickledb#70: ``key_string_error = TypeError(...)`` in the class and ``raise
self.key_string_error`` in its methods; each raise adds to the traceback of before.
"""

from __future__ import annotations

import contextlib

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="patx/pickledb#70",
    kind="EagerTensor",
    also="traceback, frame",
    holder="Features.missing.__traceback__, then tb_next of each, by tb_frame",
    made_at="made here",
    stored_at="stored here",
    fix="raise a new exception each time.",
)


class Features:
    """Features by name."""

    missing = KeyError("no such feature")

    def get(self, name: str, again: bool) -> None:
        """Look a feature up, which is not there."""
        query = tf.ones([64, 64])  # made here
        if float(query[0, 0]) > 0 and again:
            raise self.missing  # stored here
        raise KeyError(name)


def setup() -> Features:
    """Make the store that all calls ask."""
    return Features()


def leaky(features: Features) -> None:
    """Get the exception of the class."""
    with contextlib.suppress(KeyError):
        features.get("age", again=True)


def clean(features: Features) -> None:
    """Get a new one."""
    with contextlib.suppress(KeyError):
        features.get("age", again=False)


def teardown(features: Features) -> None:
    """Drop the tracebacks."""
    Features.missing.__traceback__ = None
