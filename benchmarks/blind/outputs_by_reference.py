"""A network caches what it computed under the identity of its input, for ever.

tensorflow/tensorflow#34827: ``Network._output_shape_cache`` had keys made of the ids of
objects, which never come again. That they are references of tensors here is our own.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tensorflow/tensorflow#34827",
    kind="EagerTensor",
    also="Reference, Cached",
    holder="the class attribute Network.cache",
    cause="class-attribute-grows or tensor-kept",
    made_at="made here",
    stored_at="stored here",
    fix="a key made of the shape, which comes again.",
)


class Network:
    """A layer that does not compute the same twice."""

    cache: dict[Any, Any] = {}  # noqa: RUF012 - the leak

    def __init__(self) -> None:
        self.kernel = tf.ones([32, 32])

    def features(self, images: Any, key: Any) -> Any:
        """Return the features of images."""
        found = self.cache.get(key)
        if found is None:
            found = tf.linalg.matmul(images, self.kernel)  # made here
            self.cache[key] = found  # stored here
        return found


def setup() -> Network:
    """Make a network."""
    return Network()


def leaky(network: Network) -> None:
    """Use the tensor's identity as the key."""
    images = tf.ones([64, 32])  # made here
    network.features(images, images.ref())


def clean(network: Network) -> None:
    """Use its shape."""
    images = tf.ones([64, 32])
    network.features(images, tuple(images.shape))


def teardown(network: Network) -> None:
    """Empty the cache."""
    Network.cache.clear()
