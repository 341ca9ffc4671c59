"""Bodies whose TensorFlow calls are made to fail."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak(faults=True, iterations=10, warmup=2)

open_sessions: list[tf.compat.v1.Session] = []


class Scorer:
    """Close the session, but only where the block succeeds."""

    def __enter__(self) -> Scorer:
        graph = tf.Graph()
        with graph.as_default():
            self.sum = tf.add(tf.constant(1.0), 2.0)
        self.session = tf.compat.v1.Session(graph=graph)
        open_sessions.append(self.session)
        return self

    def score(self) -> float:
        return float(self.session.run(self.sum))  # the run

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.session.close()
            open_sessions.remove(self.session)


def test_leaks_a_session() -> None:
    with Scorer() as scorer:
        assert scorer.score() == 3
        assert scorer.score() == 3


def test_leaks_a_tape() -> None:
    tape = tf.GradientTape()
    tape.__enter__()
    tf.reduce_sum([1.0, 2.0])
    tape.__exit__(None, None, None)


def test_swallows() -> None:
    try:  # noqa: SIM105 - it is what is tested
        tf.reduce_sum([1.0, 2.0])
    except Exception:  # swallows
        pass


def test_asserts_on_the_error() -> None:
    with pytest.raises(tf.errors.OpError):  # noqa: PT012 - either of them
        tf.linalg.inv([[1.0]])
        raise tf.errors.AbortedError(None, None, "not the one")


def test_fails_afterwards() -> None:
    found = None
    try:  # noqa: SIM105 - as above
        found = tf.reduce_sum([1.0, 2.0])
    except tf.errors.OpError:
        pass
    assert found is not None  # fails afterwards


@pytest.mark.tfleak(fault_error="UnavailableError")
def test_handles_another_error() -> None:
    try:
        tf.reduce_sum([1.0, 2.0])
    except tf.errors.UnavailableError:
        return


def test_many_calls() -> None:
    one = tf.ones([])
    for _ in range(30):
        one = one + 1


def test_a_destructor(tmp_path: Path) -> None:
    writer = tf.summary.create_file_writer(str(tmp_path))
    writer.close()


def test_no_calls() -> None:
    sum(range(10))


@pytest.mark.tfleak(faults=False)
def test_without() -> None:
    tf.reduce_sum([1.0, 2.0])


@pytest.fixture
def kept() -> Iterator[list[tf.compat.v1.Session]]:
    sessions: list[tf.compat.v1.Session] = []
    yield sessions
    for session in sessions:
        session.close()


def test_a_fixture_cleans(kept: list[tf.compat.v1.Session]) -> None:
    with tf.Graph().as_default():
        y = tf.constant(1.0)
        session = tf.compat.v1.Session()
    kept.append(session)
    session.run(y)
    session.close()
    kept.remove(session)


class TestIt(unittest.TestCase):
    def setUp(self) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.y = tf.constant(1.0)
        self.session = tf.compat.v1.Session(graph=self.graph)
        open_sessions.append(self.session)

    def tearDown(self) -> None:
        self.session.close()
        open_sessions.remove(self.session)

    def test_tear_down_cleans(self) -> None:
        assert self.session.run(self.y) == 1


class TestSecond(unittest.TestCase):
    """Its locals live on in the error that pytest records of each call."""

    def test_leaks_at_its_second_call(self) -> None:
        graph = tf.Graph()
        with graph.as_default():
            y = tf.constant(1.0)
        session = tf.compat.v1.Session(graph=graph)
        try:
            session.run(y)
            try:
                session.run(y)  # the second run
            except tf.errors.OpError:
                open_sessions.append(session)
                raise
        finally:
            session.close()


built: list[tf.Tensor] = []


def test_state_that_a_fault_damages() -> None:
    if len(built) % 2:
        raise ValueError("half built")
    built.append(tf.ones([]))
    built.append(tf.ones([]))
    built.clear()
