"""A timer that was set in a request holds the request's context variables.

run-llama/llama-agents#485: asyncio's call_later() copies the current context into its
handle, so what a request put into a ContextVar lives as long as the timer.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="run-llama/llama-agents#485",
    kind="EagerTensor",
    also="TimerHandle, Context",
    holder="state._scheduled, by TimerHandle._context",
    made_at="made here",
    stored_at="stored here",
    fix="set the timer once, outside of a request, or pass it context=Context().",
)

IMAGE: ContextVar[Any] = ContextVar("IMAGE")


def setup() -> asyncio.AbstractEventLoop:
    """Make the loop that serves all requests."""
    return asyncio.new_event_loop()


async def serve(timer: bool) -> float:
    """Answer one request."""
    IMAGE.set(tf.ones([64, 64]))  # made here
    if timer:
        asyncio.get_running_loop().call_later(3600, print, "still here")  # stored here
    await asyncio.sleep(0)
    return float(tf.reduce_mean(IMAGE.get()))


def leaky(loop: asyncio.AbstractEventLoop) -> None:
    """Set a timer in each request."""
    loop.run_until_complete(serve(timer=True))


def clean(loop: asyncio.AbstractEventLoop) -> None:
    """Serve without a timer."""
    loop.run_until_complete(serve(timer=False))


def teardown(loop: asyncio.AbstractEventLoop) -> None:
    """Drop the timers."""
    loop.close()
