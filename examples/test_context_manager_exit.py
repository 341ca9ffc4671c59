"""I open my sessions in a ``with`` block. Why are some of them never closed?

``Scorer`` closes its session in ``__exit__`` and removes itself from the list of
scorers in use. But before that it writes a report, which needs a score. If the block
failed, there is none: ``write_report()`` raises, ``__exit__`` ends there, and the
session stays open and on the list forever. No test notices as long as no block fails.
So either write a test in which it does, or let ``faults=True`` make it fail: then each
call of TensorFlow fails once, and the message says after which of them what is left.

Fix: close the session in a ``finally``, whatever else ``__exit__`` does.
``contextlib.ExitStack`` does the same for several resources. And what ``__enter__``
opens, it must close if it fails itself: then nobody calls ``__exit__``.
"""

from __future__ import annotations

import pytest
import tensorflow as tf

scorers_in_use: list[Scorer] = []


class Scorer:
    """Score a row of three numbers; open between ``__enter__`` and ``__exit__``."""

    def __enter__(self) -> Scorer:
        graph = tf.Graph()
        with graph.as_default():
            self.row = tf.compat.v1.placeholder(tf.float32, [3])
            self.result = tf.reduce_sum(self.row)
        self.session = tf.compat.v1.Session(graph=graph)
        self.scores: list[float] = []
        scorers_in_use.append(self)
        return self

    def score(self, row: list[float]) -> None:
        self.scores.append(float(self.session.run(self.result, {self.row: row})))

    def write_report(self) -> str:
        return f"last score: {self.scores[-1]}"

    def __exit__(self, *error: object) -> None:
        self.write_report()
        self.release()

    def release(self) -> None:
        self.session.close()
        scorers_in_use.remove(self)


class CarefulScorer(Scorer):
    """Close the session even if the report cannot be written."""

    def __exit__(self, *error: object) -> None:
        try:
            self.write_report()
        finally:
            self.release()


@pytest.mark.tfleak
def test_leaks_the_session_when_the_block_fails() -> None:
    with pytest.raises(IndexError), Scorer() as scorer:
        scorer.score([1.0, 2.0])  # one number short


@pytest.mark.tfleak
def test_fixed_closes_the_session_in_finally() -> None:
    with pytest.raises(IndexError), CarefulScorer() as scorer:
        scorer.score([1.0, 2.0])


@pytest.mark.tfleak(faults=True)
def test_leaks_the_session_when_a_call_fails() -> None:
    with Scorer() as scorer:
        scorer.score([1.0, 2.0, 3.0])


@pytest.mark.tfleak(faults=True)
def test_fixed_closes_the_session_when_a_call_fails() -> None:
    with CarefulScorer() as scorer:
        scorer.score([1.0, 2.0, 3.0])


class WarmScorer(CarefulScorer):
    """Score a first row in ``__enter__``, so that the next ones are fast."""

    def __enter__(self) -> WarmScorer:
        super().__enter__()
        self.score([0.0, 0.0, 0.0])
        return self


class CarefulWarmScorer(CarefulScorer):
    """Close the session even if the first row cannot be scored."""

    def __enter__(self) -> CarefulWarmScorer:
        super().__enter__()
        try:
            self.score([0.0, 0.0, 0.0])
        except BaseException:
            self.release()
            raise
        return self


@pytest.mark.tfleak(faults=True)
def test_leaks_the_session_when_enter_fails() -> None:
    with WarmScorer() as scorer:
        scorer.score([1.0, 2.0, 3.0])


@pytest.mark.tfleak(faults=True)
def test_fixed_closes_the_session_when_enter_fails() -> None:
    with CarefulWarmScorer() as scorer:
        scorer.score([1.0, 2.0, 3.0])


# What the tool says of the tests that leak; numbers vary:
#
# test_leaks_the_session_when_the_block_fails
#   LEAK: tf.sessions +1 per iteration (Session) at test_context_manager_exit.py:33
#   what         1 test_context_manager_exit.Scorer with 1 Session (open) per
#                iteration
#   held by      test_context_manager_exit.scorers_in_use (list of 105) →
#                Scorer.session → Session (open)
#   stored at    test_context_manager_exit.py:33 in Scorer.__enter__
#                scorers_in_use.append(self)
#   made at      test_context_manager_exit.py:31 in Scorer.__enter__
#                self.session = tf.compat.v1.Session(graph=graph)
#   cause        The code closes this session, but does not get there: because of
#                an error, an early return, or an __exit__ that fails before it.
#                The session stays open with its graph and its variables.
#   what to do   Close it in a `finally`: `try: ... finally:
#                self.session.close()`; take it out of
#                test_context_manager_exit.scorers_in_use there, too:
#                `scorers_in_use.remove(self)`; in an `__exit__`, close it first,
#                and do not return True: that hides the error.
#
# test_leaks_the_session_when_a_call_fails
#   LEAK: tf.sessions +1 per failed call at test_context_manager_exit.py:33
#   only when    the only call fails: Session.run at
#                test_context_manager_exit.py:37 in Scorer.score
#   what         1 test_context_manager_exit.Scorer with 1 Session (open) per
#                failed call
#   held by      test_context_manager_exit.scorers_in_use (list of 238) →
#                Scorer.session → Session (open)
#   stored at    test_context_manager_exit.py:33 in Scorer.__enter__
#                scorers_in_use.append(self)
#   made at      test_context_manager_exit.py:31 in Scorer.__enter__
#                self.session = tf.compat.v1.Session(graph=graph)
#   cause        An error is raised in __exit__ before it has cleaned up, and the
#                rest of it never runs.
#   what to do   Clean up in a `finally`, whatever else is done there: `try: ...
#                finally: ...`.
#
# test_leaks_the_session_when_enter_fails
#   LEAK: tf.sessions +1 per failed call at test_context_manager_exit.py:33
#   only when    call 1 of the 2 TensorFlow calls fails: Session.run at
#                test_context_manager_exit.py:37 in Scorer.score
#   what         1 test_context_manager_exit.WarmScorer with 1 Session (open) per
#                failed call
#   held by      test_context_manager_exit.scorers_in_use (list of 359) →
#                WarmScorer.session → Session (open)
#   stored at    test_context_manager_exit.py:33 in Scorer.__enter__
#                scorers_in_use.append(self)
#   made at      test_context_manager_exit.py:31 in Scorer.__enter__
#                self.session = tf.compat.v1.Session(graph=graph)
#   cause        A call in __enter__ fails after it has opened something. Python
#                calls __exit__ only if __enter__ has returned, so nobody cleans
#                up.
#   what to do   Let `__enter__` clean up itself: `except BaseException:`, the
#                clean-up, `raise`; or do what may fail before anything is opened.
