"""Sessions are closed by an ExitStack, which is closed only when the program ends.

pymanopt/pymanopt#59: the backend opens a session for each problem and never closes it;
solving some thousand problems ran out of memory. The ExitStack is our own.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from typing import NamedTuple

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="pymanopt/pymanopt#59",
    kind="Session",
    holder="state.cleanup._exit_callbacks",
    made_at="made here",
    stored_at="stored here",
    fix="close the session where it is used: `with tf.compat.v1.Session() as session`.",
)


class Problem(NamedTuple):
    """A cost, and what must be closed at the end."""

    graph: Any
    cost: Any
    cleanup: ExitStack


def setup() -> Problem:
    """Build the graph."""
    graph = tf.Graph()
    with graph.as_default():
        cost = tf.reduce_sum(tf.ones([64, 64]))
    return Problem(graph, cost, ExitStack())


def leaky(problem: Problem) -> None:
    """Close the session at the end of the program."""
    session = tf.compat.v1.Session(graph=problem.graph)  # made here
    problem.cleanup.callback(session.close)  # stored here
    session.run(problem.cost)


def clean(problem: Problem) -> None:
    """Close it at once."""
    with tf.compat.v1.Session(graph=problem.graph) as session:
        session.run(problem.cost)


def teardown(problem: Problem) -> None:
    """End the program."""
    problem.cleanup.close()
