"""Why "RuntimeError: Attempted to use a closed Session", and what does my fix cost?

A tensor of a graph has no value of its own: ``total.eval()`` needs its session, which
is closed after the ``with`` block. If a measured test fails with this error, its report
says below the traceback, under "tfleak", which line closed the session: the end of a
block as here, or a ``close()`` in another module.

Two common workarounds leak:

- The handler opens another session, which is never closed.
- The closed session is kept with the tensor. ``close()`` frees the resources of the
  session, but the session object and its graph live as long as something holds them.

Fix: fetch the values inside the block, and use only values outside of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import tensorflow as tf

sessions_by_request: dict[int, tf.compat.v1.Session] = {}
results: list[Result] = []


@dataclass
class Result:
    """The answer to one request, kept for later."""

    session: tf.compat.v1.Session
    total: tf.Tensor


def build() -> tuple[tf.Graph, tf.Tensor]:
    graph = tf.Graph()
    with graph.as_default():
        total = tf.reduce_sum(tf.ones([64]))
    return graph, total


@pytest.mark.tfleak
def test_leaks_the_session_of_the_second_try() -> None:
    graph, total = build()
    with tf.compat.v1.Session(graph=graph) as session:
        pass
    try:
        value = total.eval(session=session)
    except RuntimeError:  # Attempted to use a closed Session.
        session = tf.compat.v1.Session(graph=graph)
        sessions_by_request[len(sessions_by_request)] = session
        value = total.eval(session=session)
    assert value == 64


@pytest.mark.tfleak
def test_leaks_closed_sessions_that_are_kept() -> None:
    graph, total = build()
    with tf.compat.v1.Session(graph=graph) as session:
        assert session.run(total) == 64
    results.append(Result(session, total))


@pytest.mark.tfleak
def test_fixed_fetches_the_value_inside_the_block() -> None:
    graph, total = build()
    with tf.compat.v1.Session(graph=graph) as session:
        value = session.run(total)
    assert value == 64


# What the tool says of the tests that leak; numbers vary:
#
# test_leaks_the_session_of_the_second_try
#   LEAK: tf.sessions +1 per iteration at test_session_closed_before_use.py:52
#   what         1 Session (open) per iteration
#   held by      test_session_closed_before_use.sessions_by_request (dict of 105)
#                → Session (open)
#   stored at    test_session_closed_before_use.py:52 in
#                test_leaks_the_session_of_the_second_try
#                sessions_by_request[len(sessions_by_request)] = session
#   made at      test_session_closed_before_use.py:51 in
#                test_leaks_the_session_of_the_second_try
#                session = tf.compat.v1.Session(graph=graph)
#   cause        Each call opens a session that is never closed. It keeps its
#                graph, its variables and its threads.
#   what to do   Use a with statement: `with tf.compat.v1.Session(graph=graph) as
#                session: ...`; leave out
#                `sessions_by_request[len(sessions_by_request)] = session`; or
#                open one session outside the loop and close it at the end.
#
# test_leaks_closed_sessions_that_are_kept
#   LEAK: tf.sessions.closed +1/iteration at test_session_closed_before_use.py:62
#   what         1 test_session_closed_before_use.Result with 1 Session (closed)
#                per iteration
#   held by      test_session_closed_before_use.results (list of 105) →
#                Result.session → Session (closed)
#   stored at    test_session_closed_before_use.py:62 in
#                test_leaks_closed_sessions_that_are_kept
#                results.append(Result(session, total))
#   made at      test_session_closed_before_use.py:60 in
#                test_leaks_closed_sessions_that_are_kept
#                with tf.compat.v1.Session(graph=graph) as session:
#   cause        The session is closed, but something still refers to it.
#                TensorFlow frees its memory only when the Python object is freed.
#   what to do   Keep the results, not the session, in
#                test_session_closed_before_use.results.
