"""Each run makes a writer of event files, flushes it, and leaves it to its thread.

tensorflow/tensorflow#4820, hill-a/stable-baselines#855: a ``FileWriter`` of graph mode
has a thread that waits for events; without close() the thread and its file stay.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="tensorflow/tensorflow#4820",
    kind="_EventLoggerThread",
    also="Thread, FileWriter, EventFileWriter, BufferedWriter, EventsWriter",
    holder="threading's table of running threads",
    cause="summary-writer-not-closed",
    made_at="made here",
    stored_at="made here",
    fix="writer.close(), or the writer as a context manager.",
)


class Service:
    """Scores, in a graph that is built once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.score = tf.reduce_sum(tf.ones([8, 8]))
            self.summary = tf.compat.v1.summary.scalar("score", self.score)
        self.session = tf.compat.v1.Session(graph=self.graph)

    def run(self) -> Any:
        """Score once; return the writer that has noted it."""
        with self.graph.as_default():
            writer = tf.compat.v1.summary.FileWriter(str(self.folder))  # made here
        writer.add_summary(self.session.run(self.summary))
        writer.flush()
        return writer


def setup() -> Service:
    """Start the service."""
    return Service(Path(tempfile.mkdtemp(prefix="events")))


def leaky(service: Service) -> None:
    """Flush is enough."""
    service.run()


def clean(service: Service) -> None:
    """Close it, too."""
    service.run().close()


def teardown(service: Service) -> None:
    """Stop the service."""
    service.session.close()
