"""Datasets give the same elements while the intervention on datasets is active."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pytest_tfleak.diagnosis.experiments.datasets import QuietIterators

Data = tf.data.Dataset
TEN = Data.range(10)
WEIGHTS = tf.constant([1, 2, 3], tf.int64)
FACTOR = tf.Variable(3, dtype=tf.int64)
RAGGED = tf.ragged.constant([[1], [2, 3]])
SPARSE = tf.sparse.from_dense([[0, 1], [2, 0]])


def added(number: int) -> Any:
    return TEN.map(lambda v: v + number)


def defaulted(number: int) -> Any:
    def add(value: Any, *, more: int = number) -> Any:
        return value + more

    return TEN.map(add)


def generated() -> Any:
    numbers = itertools.count()

    def generate() -> Any:
        yield from (next(numbers) for _ in range(3))

    return Data.from_generator(generate, output_signature=tf.TensorSpec([], tf.int64))


@tf.function
def summed_in_a_graph() -> Any:
    return TEN.map(lambda v: v * 2).reduce(tf.constant(0, tf.int64), lambda a, b: a + b)


PIPELINES: dict[str, Callable[[], Any]] = {
    "map": lambda: TEN.map(lambda v: v + 1),
    "parallel map": lambda: TEN.map(lambda v: v + 1, num_parallel_calls=2),
    "closures": lambda: added(1).concatenate(added(2)).concatenate(added(1)),
    "defaults": lambda: defaulted(1).concatenate(defaulted(2)),
    "captured tensor": lambda: TEN.map(lambda v: v * WEIGHTS),
    "captured variable": lambda: TEN.map(lambda v: v * FACTOR),
    "batches": lambda: TEN.batch(3).unbatch().padded_batch(4),
    "shuffled": lambda: TEN.shuffle(5, seed=1, reshuffle_each_iteration=False),
    "slices": lambda: Data.from_tensor_slices({"a": [1, 2], "b": ["x", "y"]}),
    "other slices": lambda: Data.from_tensor_slices(
        {"a": [3, 4, 5], "b": ["", "", ""]}
    ),
    "tensors": lambda: Data.from_tensors((np.ones([2]), 1)).repeat(2),
    "zip": lambda: Data.zip((TEN, TEN.skip(1).take(4))),
    "flat_map": lambda: TEN.flat_map(lambda v: Data.range(v + 1)),
    "interleave": lambda: TEN.interleave(lambda v: Data.range(v + 1)),
    "filter": lambda: TEN.filter(lambda v: v % 2 == 0),
    "window": lambda: TEN.window(3).flat_map(lambda w: w.batch(3)),
    "scan": lambda: TEN.scan(tf.constant(0, tf.int64), lambda s, v: (s + v, s)),
    "cache": lambda: TEN.cache().prefetch(2),
    "sampled": lambda: Data.sample_from_datasets([TEN, TEN], [0.5, 0.5], seed=1),
    "grouped": lambda: TEN.group_by_window(
        lambda v: v % 2, lambda _, group: group.batch(5), window_size=5
    ),
    "ragged": lambda: Data.from_tensor_slices(RAGGED).map(lambda r: r * 2),
    "sparse": lambda: Data.from_tensor_slices(SPARSE).map(tf.sparse.to_dense),
    "generator": generated,
    "graph": lambda: [summed_in_a_graph()],
}


def elements(make: Callable[[], Any]) -> list[str]:
    return [repr(tf.nest.map_structure(np.asarray, element)) for element in make()]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_dataset_gives_the_same_elements(name: str) -> None:
    make = PIPELINES[name]
    expected = elements(make)
    with QuietIterators() as quiet:
        assert [elements(make), elements(make)] == [expected, expected]
    assert elements(make) == expected
    assert quiet.seen or name == "graph"


def test_a_model_predicts_and_learns_the_same() -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6.0)

    def run() -> list[Any]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        history = model.fit(
            x, y, batch_size=4, validation_data=(x[:3], y[:3]), verbose=0
        )
        return [history.history, model.predict(x, verbose=0), model.evaluate(x, y)]

    expected = repr(run())
    with QuietIterators():
        assert [repr(run()), repr(run())] == [expected, expected]


def test_an_error_in_a_function_is_the_caller_s() -> None:
    def fail(value: object) -> object:
        raise ValueError("bad")

    with QuietIterators(), pytest.raises(ValueError, match="bad"):
        TEN.map(fail)
