"""A client without a logger of its own adds a handler to one that all clients share.

PaddleHQ/paddle-python-sdk#144: each client called ``addHandler`` on the logger of the
same name, so that handlers piled up there. That a handler also has something large, the
client's last answer, is our own.
"""

from __future__ import annotations

import logging
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="PaddleHQ/paddle-python-sdk#144",
    kind="LastAnswer",
    also="EagerTensor, RLock",
    holder="LOG.handlers, the handlers of the logger 'scoring.client'",
    cause="registered in each call: a handler that is never removed",
    made_at="made here",
    stored_at="stored here",
    fix="LOG.removeHandler(handler) when the client is done; or add one at import.",
)
LOG = logging.getLogger("scoring.client")
LOG.propagate = False


class LastAnswer(logging.Handler):
    """Remembers the last answer that was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it."""
        if self.answer is None and record.args:
            (self.answer,) = record.args


class Client:
    """Asks a model for scores."""

    def __init__(self) -> None:
        self.handler = LastAnswer()  # made here
        LOG.addHandler(self.handler)  # stored here

    def score(self, rows: Any) -> Any:
        """Return the scores of some rows."""
        scores = tf.nn.softmax(rows)  # made here
        LOG.warning("scores: %s", scores)
        return scores

    def close(self) -> None:
        """Be done."""
        LOG.removeHandler(self.handler)


def leaky(state: None) -> None:
    """Use a client."""
    Client().score(tf.ones([64, 64]))


def clean(state: None) -> None:
    """Use a client, and close it."""
    client = Client()
    client.score(tf.ones([64, 64]))
    client.close()


def teardown(state: None) -> None:
    """Remove what is there."""
    LOG.handlers.clear()
