"""Each request adds a callback to a future that is done only at the very end.

ros2/rclpy#1374: waiting for a future added one more callback to it on every turn of the
loop, and they stay until the future is done.
"""

from __future__ import annotations

from concurrent.futures import Future

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="ros2/rclpy#1374",
    kind="EagerTensor",
    also="function, cell",
    holder="state._done_callbacks, by the closure of each callback",
    made_at="made here",
    stored_at="stored here",
    fix="add the callback to a future of the request, not to that of the shutdown.",
)


def setup() -> Future[None]:
    """Make the future that is done when the server stops."""
    return Future()


def answer(ends: Future[None]) -> None:
    """Answer one request; note its size when ``ends`` is done."""
    reply = tf.ones([64, 64])  # made here
    sizes: list[int] = []

    def note(_: Future[None]) -> None:  # made here
        sizes.append(int(reply.shape[0]))

    ends.add_done_callback(note)  # stored here


def leaky(stop: Future[None]) -> None:
    """Wait for the server to stop."""
    answer(stop)


def clean(stop: Future[None]) -> None:
    """Wait for the request to end."""
    done: Future[None] = Future()
    answer(done)
    done.set_result(None)


def teardown(stop: Future[None]) -> None:
    """Stop the server."""
    stop.set_result(None)
