"""Bodies that leak and bodies that do not, recorded by ``benchmarks/record.py``."""

from __future__ import annotations

import ctypes
from functools import cache
from functools import lru_cache
from itertools import count
from typing import Any

import keras
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
BATCH = np.ones([32, 8], "float32")
TARGET = np.ones([32, 1], "float32")
numbers = count()
KEPT: list[Any] = []
BUFFER: list[Any] = []
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]


@cache
def model() -> Any:
    layers = [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    made = keras.Sequential(layers)
    made.compile("adam", "mse")
    return made


def clean_fit_of_one_model() -> None:
    model().fit(BATCH, TARGET, batch_size=16, verbose=0)


def clean_predict_of_one_model() -> None:
    model().predict(BATCH, verbose=0)


@tf.function
def double(x: Any) -> Any:
    return x * 2


def clean_traced_function() -> None:
    double(tf.ones([3]))


def clean_session_closed() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        session.run(tf.constant(1) + 1)


@cache
def dataset() -> Any:
    return tf.data.Dataset.range(64).shuffle(64).batch(8).prefetch(2)


def clean_dataset_iteration() -> None:
    for _ in dataset():
        pass


@lru_cache(30)
def small_cache(key: int) -> Any:
    return np.full([5000], key)


def clean_cache_fills_in_the_first_look() -> None:
    small_cache(next(numbers))


@lru_cache(80)
def large_cache(key: int) -> Any:
    return np.full([5000], key)


def clean_cache_fills_in_the_confirmation() -> None:
    large_cache(next(numbers))


def clean_buffer_is_emptied_when_full() -> None:
    if len(BUFFER) == 40:
        BUFFER.clear()
    BUFFER.append(tf.ones([4]))


def leaky_tensor_kept() -> None:
    KEPT.append(tf.ones([4]))


def leaky_session_kept() -> None:
    KEPT.append(v1.Session(graph=tf.Graph()))


@tf.function
def plus_one(n: int) -> Any:
    return tf.constant(n) + 1


def leaky_retracing() -> None:
    plus_one(next(numbers))


def leaky_malloc() -> None:
    libc.malloc(16 * 1024)


def leaky_operations_in_default_graph() -> None:
    default = v1.get_default_graph()
    with v1.Session(graph=default) as session, default.as_default():
        session.run(tf.constant(1) + 2)


@cache
def queue() -> Any:
    return tf.queue.FIFOQueue(capacity=10**6, dtypes=[tf.float32])


def leaky_big_tensors_in_a_queue() -> None:
    # held by C++ alone, and in the pool: neither tf.tensors nor host.heap sees them
    queue().enqueue(tf.ones([100, 1000]))


def leaky_every_fifth_iteration() -> None:
    if next(numbers) % 5 == 0:
        KEPT.append(tf.ones([2]))
