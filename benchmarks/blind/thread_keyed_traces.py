"""A server notes what each of its threads does, under the thread, and threads end.

mixcloud/django-speedbar#2: a dict with threads as keys keeps each thread that ever ran,
with what was noted for it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="mixcloud/django-speedbar#2",
    kind="RequestTrace",
    also="EagerTensor, Thread, ndarray",
    holder="TRACES",
    cause="object-kept or tensor-kept",
    made_at="made here",
    stored_at="stored here",
    fix="a weakref.WeakKeyDictionary, or threading.local().",
)


@dataclass
class RequestTrace:
    """What happened in one request."""

    inputs: dict[str, Any] = field(default_factory=dict)


TRACES: dict[threading.Thread, RequestTrace] = {}
ALIVE: weakref.WeakKeyDictionary[threading.Thread, RequestTrace]
ALIVE = weakref.WeakKeyDictionary()


def handle(traces: MutableMapping[threading.Thread, RequestTrace]) -> None:
    """Answer a request; runs in a thread of its own."""
    trace = RequestTrace()  # made here
    traces[threading.current_thread()] = trace  # stored here
    trace.inputs["image"] = tf.ones([64, 64])  # made here
    tf.reduce_mean(trace.inputs["image"])


def serve(traces: Any) -> None:
    """Serve a request."""
    thread = threading.Thread(target=handle, args=(traces,))  # made here
    thread.start()
    thread.join()


def leaky(state: None) -> None:
    """Note it for good."""
    serve(TRACES)


def clean(state: None) -> None:
    """Note it for as long as the thread is there."""
    serve(ALIVE)


def teardown(state: None) -> None:
    """Forget them."""
    TRACES.clear()
