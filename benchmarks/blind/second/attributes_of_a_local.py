"""Each connection has attributes of its own in one ``threading.local``, for good.

web2py/pydal#427: an adapter stored its connection and its cursors in a thread-local
object, under names with the number of the adapter, and ``close()`` left them there.
"""

from __future__ import annotations

import threading
from itertools import count

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="web2py/pydal#427",
    kind="Connection",
    also="EagerTensor, list",
    holder="LOCAL, under another name in each call",
    cause="object-kept or tensor-kept",
    made_at="made here",
    stored_at="stored here",
    fix="delattr(LOCAL, name) in close().",
)
LOCAL = threading.local()
NUMBERS = count()


class Connection:
    """A connection to a store of embeddings."""

    def __init__(self) -> None:
        self.page = tf.random.normal([64, 64])  # made here


class Adapter:
    """Opens a connection for the thread in which it is used."""

    def __init__(self) -> None:
        self.name = f"connection_{next(NUMBERS)}"

    def connect(self) -> Connection:
        """Return the connection of this thread."""
        if not hasattr(LOCAL, self.name):
            connection = Connection()  # made here
            setattr(LOCAL, self.name, connection)  # stored here
        found: Connection = getattr(LOCAL, self.name)
        return found

    def close(self, *, forget: bool) -> None:
        """Be done with it."""
        if forget:
            delattr(LOCAL, self.name)


def use(*, forget: bool) -> None:
    """Read from the store."""
    adapter = Adapter()
    tf.reduce_sum(adapter.connect().page)
    adapter.close(forget=forget)


def leaky(state: None) -> None:
    """Leave the connection there."""
    use(forget=False)


def clean(state: None) -> None:
    """Take it out."""
    use(forget=True)


def teardown(state: None) -> None:
    """Forget all."""
    vars(LOCAL).clear()
