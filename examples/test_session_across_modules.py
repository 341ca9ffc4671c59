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


# What the tool says of the tests that leak; numbers vary:
#
# test_leaks_a_session_that_two_modules_own
#   LEAK: tf.sessions +1 per iteration at test_session_across_modules.py:41
#   what         1 Session (open) per iteration
#   held by      test_session_across_modules.monitor.seen (list of 105) → Session
#                (open)
#   stored at    test_session_across_modules.py:41 in Monitor.read_and_keep
#                self.seen.append(session)
#   made at      test_session_across_modules.py:28 in open_model
#                return tf.compat.v1.Session(graph=graph), output
#   cause        Each call opens a session that is never closed. It keeps its
#                graph, its variables and its threads.
#   what to do   Use a with statement: `with tf.compat.v1.Session(graph=graph) as
#                session: ...`; leave out `self.seen.append(session)`; or open one
#                session outside the loop and close it at the end.
#
# test_leaks_a_session_on_the_default_stack
#   LEAK: tf.sessions +1 per iteration at test_session_across_modules.py:62
#   what         1 tuple of 2 with 1 Session (open) per iteration
#   held by      test_session_across_modules.at_the_end._exit_callbacks (deque of
#                105) → tuple[1].__self__.gen → local variable default of the
#                suspended get_controller() → Session (open)
#   stored at    test_session_across_modules.py:62 in
#                test_leaks_a_session_on_the_default_stack
#                at_the_end.enter_context(session.as_default())
#   made at      test_session_across_modules.py:28 in open_model
#                return tf.compat.v1.Session(graph=graph), output
#   cause        A session was made the default, and this was never undone. The
#                stack of default sessions keeps it.
#   what to do   Use a with statement: `with session.as_default(): ...`.
#
# test_leaks_an_interactive_session
#   LEAK: tf.sessions +1 per iteration at test_session_across_modules.py:69
#   what         1 InteractiveSession (open) per iteration
#   held by      TensorFlow's stack of default sessions (list of 105) →
#                InteractiveSession (open)
#   made at      test_session_across_modules.py:69 in
#                test_leaks_an_interactive_session
#                session = tf.compat.v1.InteractiveSession(graph=tf.Graph())
#   cause        An InteractiveSession puts itself on the stack of default
#                sessions, and its graph on the stack of default graphs. Without
#                close() both stay there, and code that runs later adds to that
#                graph.
#   what to do   Use a with statement: `with
#                tf.compat.v1.Session(graph=tf.Graph()) as session: ...`; or call
#                `session.close()` in a `finally`.
#   leak 2       graphs on the stack of default graphs (tf.graph_stack)
#   what         1 Graph of 1 operation: 1 Const per iteration
#   held by      TensorFlow's stack of default graphs (list of 105) → Graph of 1
#                operation: 1 Const
#   made at      test_session_across_modules.py:69 in
#                test_leaks_an_interactive_session
#                session = tf.compat.v1.InteractiveSession(graph=tf.Graph())
#   cause        An InteractiveSession puts itself on the stack of default
#                sessions, and its graph on the stack of default graphs. Without
#                close() both stay there, and code that runs later adds to that
#                graph.
#   what to do   Use a with statement: `with
#                tf.compat.v1.Session(graph=tf.Graph()) as session: ...`; or call
#                `session.close()` in a `finally`.
