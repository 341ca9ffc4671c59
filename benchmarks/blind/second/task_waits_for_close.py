"""A call waits for its answer or for the end of the channel, whichever is first.

permitio/fastapi_websocket_rpc#15: in each call, a task was left that waits for an event
of the channel, which is set only when the channel is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="permitio/fastapi_websocket_rpc#15",
    kind="Task",
    also="EagerTensor, coroutine, Future, Context",
    holder="state.closed._waiters, by the future for which each task waits",
    cause="a task that never ends; or tensor-kept",
    made_at="made here",
    stored_at="no line stores it",
    fix="cancel the tasks that asyncio.wait() returns as pending.",
)


@dataclass
class Channel:
    """A channel, open as long as the process runs."""

    loop: asyncio.AbstractEventLoop
    closed: asyncio.Event

    async def wait_closed(self, request: Any) -> Any:
        """Wait for the end of the channel; a request without an answer goes back."""
        await self.closed.wait()
        return request

    async def answer(self, request: Any) -> Any:
        """Answer a request."""
        await asyncio.sleep(0)
        return tf.reduce_mean(request)

    async def call(self, *, cancel: bool) -> None:
        """Send a request, and wait."""
        request = tf.ones([64, 64])  # made here
        steps: list[Coroutine[Any, Any, Any]] = [
            self.answer(request),
            self.wait_closed(request),
        ]
        tasks = [asyncio.ensure_future(step) for step in steps]  # made here
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if cancel:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)


def setup() -> Channel:
    """Open the channel."""
    return Channel(asyncio.new_event_loop(), asyncio.Event())


def leaky(channel: Channel) -> None:
    """Leave what is pending."""
    channel.loop.run_until_complete(channel.call(cancel=False))


def clean(channel: Channel) -> None:
    """Cancel it."""
    channel.loop.run_until_complete(channel.call(cancel=True))


def teardown(channel: Channel) -> None:
    """Close the channel."""
    pending = asyncio.all_tasks(channel.loop)
    for task in pending:
        task.cancel()
    if pending:
        channel.loop.run_until_complete(asyncio.wait(pending))
    channel.loop.close()
