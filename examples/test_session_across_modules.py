"""Two modules share a session. Who closes it?

Here ``open_model`` stands for one module and ``Monitor`` for another. Each assumes that
the other one closes the session, and three things pile up:

- sessions that were passed on and kept "in case we need them again";
- sessions that were made the default, so that the other module finds them, and that
  should be removed from TensorFlow's stack of default sessions "at the end";
- ``InteractiveSession``, which makes itself and its graph the default when it is
  created. It leaks even if nothing holds it, and all later code runs in graph mode.

Fix: one owner. The code that opens the session closes it, with ``with``; the other
module receives the session for the time of a call and does not keep it.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import tensorflow as tf


def open_model() -> tuple[tf.compat.v1.Session, tf.Tensor]:
    graph = tf.Graph()
    with graph.as_default():
        output = tf.reduce_sum(tf.ones([16, 16]), name="output")
    return tf.compat.v1.Session(graph=graph), output


class Monitor:
    """Read a model's output; a single instance lives as long as the program."""

    def __init__(self) -> None:
        self.seen: list[tf.compat.v1.Session] = []

    def read(self, session: tf.compat.v1.Session, output: tf.Tensor) -> float:
        return float(session.run(output))

    def read_and_keep(self, session: tf.compat.v1.Session, output: tf.Tensor) -> float:
        self.seen.append(session)
        return self.read(session, output)

    def read_default(self) -> float:
        session = tf.compat.v1.get_default_session()
        return float(session.run("output:0"))


monitor = Monitor()
at_the_end = ExitStack()


@pytest.mark.tfleak
def test_leaks_a_session_that_two_modules_own() -> None:
    session, output = open_model()
    assert monitor.read_and_keep(session, output) == 256


@pytest.mark.tfleak
def test_leaks_a_session_on_the_default_stack() -> None:
    session, _ = open_model()
    at_the_end.enter_context(session.as_default())
    assert monitor.read_default() == 256


@pytest.mark.tfleak
@pytest.mark.filterwarnings("ignore:An interactive session is already active")
def test_leaks_an_interactive_session() -> None:
    session = tf.compat.v1.InteractiveSession(graph=tf.Graph())
    assert session.run(tf.constant(1)) == 1


@pytest.mark.tfleak
def test_fixed_has_one_owner() -> None:
    session, output = open_model()
    with session:
        assert monitor.read(session, output) == 256


@pytest.mark.tfleak
def test_fixed_is_the_default_for_the_length_of_a_block() -> None:
    session, _ = open_model()
    with session:  # unlike as_default(), this also closes it
        assert monitor.read_default() == 256
