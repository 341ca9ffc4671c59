"""An object registers its own method with atexit, so it lives until the process ends.

datalab-to/marker#419: each provider of pages calls ``atexit.register(self.cleanup)``; a
server makes one for each request.
"""

from __future__ import annotations

import atexit

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="datalab-to/marker#419",
    kind="PageProvider",
    also="ResourceVariable, EagerTensor",
    holder="the callbacks of the atexit module, a C array that no Python object shows",
    made_at="made here",
    stored_at="stored here",
    fix="close the provider in the request, or give atexit a weakref.WeakMethod.",
)


class PageProvider:
    """Pages of one document, to be released by close()."""

    def __init__(self, at_exit: bool) -> None:
        self.pages = tf.Variable(tf.ones([96, 96]), name="pages")  # made here
        if at_exit:
            atexit.register(self.close)  # stored here

    def close(self) -> None:
        """Release the pages."""
        self.pages = None


def leaky(state: None) -> None:
    """Leave the closing to atexit."""
    provider = PageProvider(at_exit=True)  # made here
    tf.reduce_mean(provider.pages)


def clean(state: None) -> None:
    """Close the provider when it is done."""
    provider = PageProvider(at_exit=False)
    tf.reduce_mean(provider.pages)
    provider.close()
