"""Why does every job of my service take more GPU memory?

``run_job`` opens a session and keeps it for the next job of that name. The names never
repeat, so no session is used twice, and none is closed: their weights stay in memory.
With a GPU, that is GPU memory; without one, it is host memory, where this file shows
the leak just as well.

By default, TensorFlow reserves nearly all GPU memory at the start, so ``nvidia-smi``
shows the same figure with and without the leak. This plugin reads what piles up inside
of that reservation.

Fix: close what you open. To reuse a session, use a key that does repeat, and let an
owner close it: here a fixture, which opens it before the test and closes it afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import tensorflow as tf

job_names = (f"job-{number}" for number in itertools.count())
sessions: dict[str, tf.compat.v1.Session] = {}


def open_session() -> tf.compat.v1.Session:
    graph = tf.Graph()
    with graph.as_default():
        weights = tf.compat.v1.get_variable(
            "weights", [64, 64], initializer=tf.compat.v1.ones_initializer()
        )
        tf.matmul(weights, weights, name="product")
        initialize = tf.compat.v1.global_variables_initializer()
    session = tf.compat.v1.Session(graph=graph)
    session.run(initialize)
    return session


def run_job(name: str) -> float:
    if name not in sessions:
        sessions[name] = open_session()
    return float(sessions[name].run("product:0")[0, 0])


def run_job_and_close() -> float:
    with open_session() as session:
        return float(session.run("product:0")[0, 0])


@pytest.mark.tfleak
def test_leaks_a_session_per_job() -> None:
    assert run_job(next(job_names)) == 64


@pytest.mark.tfleak
def test_fixed_closes_the_session_of_each_job() -> None:
    assert run_job_and_close() == 64


@pytest.fixture
def nightly() -> Iterator[str]:
    with open_session() as sessions["nightly"]:
        yield "nightly"
    del sessions["nightly"]


@pytest.mark.tfleak
def test_fixed_reuses_the_session_of_a_name(nightly: str) -> None:
    assert run_job(nightly) == 64


# What the tool says of the tests that leak; numbers vary:
#
# test_leaks_a_session_per_job
#   LEAK: tf.sessions +1 per iteration (Session) at test_session_on_gpu.py:43
#   what         1 Session (open) per iteration
#   held by      test_session_on_gpu.sessions (dict of 105) → Session (open)
#   stored at    test_session_on_gpu.py:43 in run_job
#                sessions[name] = open_session()
#   made at      test_session_on_gpu.py:36 in open_session
#                session = tf.compat.v1.Session(graph=graph)
#   cause        Each call opens a session that is never closed. It keeps its
#                graph, its variables and its threads.
#   what to do   Use a with statement: `with open_session() as session: ...`;
#                leave out `sessions[name] = open_session()`; or open one session
#                outside the loop and close it at the end.
