"""A channel waits for replies, and forgets the requests only that were answered.

inmanta/inmanta-core#10075: each request had a future in a dict; a reply took it out, a
timeout did not. In each call here, two requests are answered, and a third is not.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTime
from itertools import count
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="inmanta/inmanta-core#10075",
    kind="Pending",
    also="EagerTensor, Future",
    holder="state.replies",
    cause="object-kept or tensor-kept",
    made_at="made here",
    stored_at="stored here",
    fix="take it out after a timeout, too: self.replies.pop(number, None).",
)


class Pending:
    """A request without a reply yet."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames
        self.reply: Future[Any] = Future()


class Channel:
    """Sends requests to an agent that may be gone."""

    def __init__(self) -> None:
        self.numbers = count()
        self.replies: dict[int, Pending] = {}

    def send(self, frames: Any) -> int:
        """Send a request, which is answered at once."""
        number = next(self.numbers)
        self.replies[number] = Pending(frames)
        self.answer(number, tf.reduce_mean(frames))
        return number

    def send_to_nobody(self, frames: Any, *, forget: bool) -> None:
        """Send a request, and wait for the reply in vain."""
        number = next(self.numbers)
        pending = Pending(tf.cast(frames, tf.float32))  # made here
        self.replies[number] = pending  # stored here
        try:
            pending.reply.result(timeout=0)
        except OutOfTime:
            pending.reply.cancel()
            if forget:
                self.replies.pop(number, None)

    def answer(self, number: int, reply: Any) -> None:
        """Receive a reply."""
        self.replies.pop(number).reply.set_result(reply)


def setup() -> Channel:
    """Open the channel."""
    return Channel()


def exchange(channel: Channel, *, forget: bool) -> None:
    """Send three requests, the last one to nobody."""
    for _ in range(2):
        channel.send(tf.ones([32, 32]))
    channel.send_to_nobody(tf.ones([64, 64], tf.int32), forget=forget)


def leaky(channel: Channel) -> None:
    """Remember what was not answered."""
    exchange(channel, forget=False)


def clean(channel: Channel) -> None:
    """Forget it."""
    exchange(channel, forget=True)
