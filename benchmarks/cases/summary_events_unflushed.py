"""A summary writer with a very long queue keeps its events in memory.

HorizonRobotics/alf#120: to make summaries cheaper, set large ``summary_max_queue`` and
``summaries_flush_secs``. Until the queue is full, C++ holds each event.
"""

from __future__ import annotations

import tempfile
from typing import Any
from typing import NamedTuple

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="HorizonRobotics/alf#120",
    kind="native",
    holder="native",
    made_at="made here",
    stored_at="stored here",
    fix="keep the default queue, or flush: writer.flush(), with writer.as_default().",
)


class Log(NamedTuple):
    """A writer and its folder."""

    folder: tempfile.TemporaryDirectory[str]
    writer: Any
    step: Any
    gradient: Any


def setup() -> Log:
    """Open the writer."""
    folder = tempfile.TemporaryDirectory()
    writer = tf.summary.create_file_writer(
        folder.name, max_queue=10**6, flush_millis=10**9
    )
    step = tf.Variable(0, dtype=tf.int64)
    return Log(folder, writer, step, tf.ones([64, 64]))


def write(log: Log) -> None:
    """Write a summary with the default writer."""
    log.step.assign_add(1)
    tf.summary.write("gradient", log.gradient, step=log.step)  # made here # stored here


def leaky(log: Log) -> None:
    """Set the writer for good: nothing flushes it."""
    log.writer.set_as_default()
    write(log)


def clean(log: Log) -> None:
    """Set the writer for a block, which flushes it at its end."""
    with log.writer.as_default():
        write(log)


def teardown(log: Log) -> None:
    """Close the writer."""
    tf.summary.create_noop_writer().set_as_default()
    log.writer.close()
    log.folder.cleanup()
