"""A logger is made for each session, under a name of its own, and never goes away.

tarasko/picows#72: ``logger.getChild(str(fd))`` for each connection; logging keeps every
logger that it has ever made by name. Here each has a handler that keeps its last lines.
"""

from __future__ import annotations

import logging
from itertools import count
from logging.handlers import MemoryHandler

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tarasko/picows#72",
    kind="Logger",
    also="MemoryHandler, LogRecord, EagerTensor",
    holder="logging.Logger.manager.loggerDict",
    made_at="made here",
    stored_at="stored here",
    fix="use one logger for all sessions, or make a logging.Logger directly.",
)

SERVING = logging.getLogger("serving")
SESSIONS = count()


def setup() -> None:
    """Keep the lines away from the other handlers."""
    SERVING.propagate = False


def serve(log: logging.Logger) -> None:
    """Serve one session."""
    handler = MemoryHandler(100)  # made here
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.info("input %s", tf.ones([48, 48]))  # made here


def leaky(state: None) -> None:
    """Get a logger by name."""
    log = SERVING.getChild(f"session-{next(SESSIONS)}")  # made here # stored here
    serve(log)


def clean(state: None) -> None:
    """Make a logger that logging does not know."""
    serve(logging.Logger("session"))


def teardown(state: None) -> None:
    """Forget the loggers."""
    names = logging.Logger.manager.loggerDict
    for name in [name for name in names if name.startswith("serving.session-")]:
        del names[name]
