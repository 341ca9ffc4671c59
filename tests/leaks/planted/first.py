"""Leaks that a new user would try first, and clean code."""

import ctypes
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

v1 = tf.compat.v1
pytestmark = pytest.mark.tfleak

KEPT = []
SESSIONS = []
BIG = []
FIFTH = []
CLOSED = []
GRAPHS = []
ENTERED = []
calls = itertools.count(1)
steps = itertools.count()
keys = itertools.count()
imports = itertools.count(1)
graph_calls = itertools.count()
graph_keys = itertools.count()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
the_session = None


def test_interactive_session_per_call_leaks():
    v1.InteractiveSession(graph=tf.Graph())


def test_eager_tensor_per_call_leaks():
    KEPT.append(tf.ones([4]))


def test_session_per_call_leaks():
    SESSIONS.append(v1.Session(graph=tf.Graph()))


def test_closed_session_kept_leaks():
    session = v1.Session(graph=tf.Graph())
    session.close()
    CLOSED.append(session)


def test_graph_per_call_leaks():
    GRAPHS.append(tf.Graph())


def test_operations_in_default_graph_leak():
    default = v1.get_default_graph()
    with v1.Session(graph=default) as session, default.as_default():
        session.run(tf.constant(1) + 2)


@tf.function
def add(n):
    return tf.constant(n) + 1


def test_retracing_leaks():
    add(next(steps))


def test_malloc_without_free_leaks():
    libc.malloc(64 * 1024)


def test_big_tensors_leak():
    BIG.append(tf.ones([100, 1000]))


def test_one_global_session_is_still_there():
    global the_session
    if the_session is None:
        the_session = v1.Session(graph=tf.Graph())


def test_tensor_of_every_fifth_call_leaks():
    if next(calls) % 5 == 0:
        FIFTH.append(tf.ones([2]))


def test_graph_entered_and_never_left_leaks():
    ENTERED.append(tf.Graph().as_default())
    ENTERED[-1].__enter__()


def test_tape_entered_and_never_left_leaks():
    tf.GradientTape(persistent=True).__enter__()


def test_empty_body_is_clean():
    pass


def test_session_in_with_is_clean():
    with tf.Graph().as_default(), v1.Session() as session:
        session.run(tf.constant(1) + 1)


def test_dropped_session_is_clean():
    v1.Session(graph=tf.Graph())


@tf.function
def double(x):
    return x * 2


def test_traced_function_is_clean():
    double(tf.ones([3]))


@pytest.fixture(scope="module")
def model():
    model = tf.keras.Sequential([tf.keras.layers.Dense(4), tf.keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


BATCH = np.ones([16, 4], "f")
TARGET = np.ones([16, 1], "f")


def test_fit_of_one_model_is_clean(model):
    model.fit(BATCH, TARGET, verbose=0)


def test_predict_of_one_model_is_clean(model):
    model.predict(BATCH, verbose=0)


@functools.lru_cache(24)
def array(key):
    return np.full([5000], key)


def test_cache_that_fills_is_clean():
    array(next(keys))


def test_late_import_is_clean():
    if next(imports) == 12:  # iteration 7 of the judged ones
        import sqlite3
        import wave
        import xmlrpc.server

        assert sqlite3
        assert wave
        assert xmlrpc.server


def test_eager_gradient_is_clean():
    x = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        y = x * x
    assert tape.gradient(y, x).numpy() == 4.0


@pytest.fixture
def seed():
    tf.random.set_seed(7)


def test_stateless_random_with_a_seed_is_clean(seed):
    tf.random.stateless_uniform([4], seed=[1, 2])


def test_random_after_a_seeded_test_is_clean():
    tf.random.uniform([4])


@functools.lru_cache(8)
def graph(key):
    with tf.Graph().as_default() as made:
        tf.ones([4])
    return made


@pytest.mark.tfleak(graphs=8)
def test_full_cache_of_graphs_is_clean():
    for _ in range(8 if next(graph_calls) == 0 else 1):
        graph(next(graph_keys))


class OneSession:
    current = None


def test_session_that_replaces_the_last_one_is_clean():
    if OneSession.current is not None:
        OneSession.current.close()
    OneSession.current = v1.Session(graph=tf.Graph())


@pytest.fixture
def open_session():
    session = v1.Session(graph=tf.Graph())
    yield session
    session.close()


def test_session_of_a_fixture_set_up_again_leaks(open_session):
    with open_session.graph.as_default():
        open_session.run(v1.constant(1.0))


@pytest.fixture
def pool():
    return []


def test_pool_of_a_fixture_is_clean(pool):
    if len(pool) < 3:
        pool.append(v1.Session(graph=tf.Graph()))
