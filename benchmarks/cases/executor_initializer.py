"""A pool's thread holds the method that it started with, and so the pool's owner.

keras-team/keras#20779: the executor of CallbackList was never shut down, which kept a
thread, and what the thread held. That the thread's initializer is what holds it, is our
own: without it, a pool that is dropped ends its threads.
"""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="keras-team/keras#20779",
    kind="Thread",
    also="Evaluator, EagerTensor, ThreadPoolExecutor",
    holder="local `initializer` of _worker, the frame that the pool's thread runs",
    made_at="made here",
    stored_at="stored here",
    fix="shut the pool down, by `with ThreadPoolExecutor(...)` or pool.shutdown().",
)

POOLS: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()  # for teardown


class Evaluator:
    """Evaluates beside the training."""

    def __init__(self) -> None:
        self.batch = tf.ones([64, 64])  # made here
        self.ready = False
        self.pool = ThreadPoolExecutor(1, initializer=self.start)  # stored here
        POOLS.add(self.pool)

    def start(self) -> None:
        """Prepare the thread."""
        self.ready = True

    def evaluate(self) -> float:
        """Return a metric, computed in the thread."""
        array = self.batch.numpy()
        return float(self.pool.submit(array.mean).result())  # made here


def leaky(state: None) -> None:
    """Drop the evaluator."""
    evaluator = Evaluator()  # made here
    evaluator.evaluate()


def clean(state: None) -> None:
    """Shut its pool down first."""
    evaluator = Evaluator()
    evaluator.evaluate()
    evaluator.pool.shutdown()


def teardown(state: None) -> None:
    """End the threads."""
    for pool in list(POOLS):
        pool.shutdown()
