import functools
import os
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
import tensorflow as tf

tf1 = tf.compat.v1
measured = pytest.mark.tfleak(iterations=20, warmup=2)
HISTORY, OTHERS, ARRAYS, MODELS, ERRORS, CACHE = [], [], [], [], [], {}
FILES, VIEWS, OLD_GRAPH, SESSION, CALLS = [], [], tf.Graph(), None, 0


class Service:
    losses = []  # noqa: RUF012  # the leak

    def __init__(self):
        self.log = {"loss": []}

    def step(self):
        self.log["loss"].append(tf.reduce_sum(tf.ones([4])))  # made: fixture


SERVICE = Service()


def make_step():
    cache = []
    return lambda: cache.append(tf.ones([2]))  # made: closure


STEP = make_step()


@functools.cache
def load(number):
    return tf.ones([number])  # made: lru_cache


@tf.function
def double(number):
    return number * 2


def open_again(_):
    os.open(__file__, os.O_RDONLY)  # made: callback
    return np.float32(0)


@pytest.fixture(scope="module")
def service():
    return Service()


@measured
def test_global_list():
    HISTORY.append({"loss": tf.ones([8, 8])})  # made: global_list


@measured
def test_attribute():
    SERVICE.step()


@measured
def test_class_attribute():
    Service.losses.append(tf.zeros([2]))  # made: class_attribute


@measured
def test_closure():
    STEP()


@measured
def test_lru_cache():
    global CALLS
    CALLS += 1
    load(CALLS)


@measured
def test_fixture(service):
    service.step()


@measured
def test_two_leaks():
    HISTORY.append(tf.ones([3]))  # made: two_leaks
    OTHERS.append(tf.zeros([2]))  # made: two_leaks, the other


@measured
def test_array():
    ARRAYS.append(np.zeros(4096))  # made: array


@measured
def test_exception():
    def fail():
        batch = tf.ones([50])  # made: exception
        raise ValueError(batch.shape)

    try:
        fail()
    except ValueError as error:
        ERRORS.append(error)


@measured
def test_model():
    layers = [tf.keras.layers.Input([3]), tf.keras.layers.Dense(2)]
    MODELS.append(tf.keras.Sequential(layers))  # made: model


@measured
def test_global_session():
    global SESSION
    if SESSION is None:
        SESSION = tf1.Session(graph=OLD_GRAPH)  # made: global_session


@measured
def test_default_graph():
    with tf1.get_default_graph().as_default():
        tf1.placeholder(tf.float32, [1])  # made: default_graph


@measured
def test_old_graph():
    with OLD_GRAPH.as_default():
        tf.constant(1.0)  # made: old_graph


@measured
def test_retrace():
    global CALLS
    CALLS += 1
    double(CALLS)  # made: retrace


@measured
def test_thread():
    waiting = threading.Event()
    worker = threading.Thread(target=waiting.wait, daemon=True)  # made: thread
    worker.start()


@measured
def test_file():
    FILES.append(tf.io.gfile.GFile(__file__))  # made: file
    FILES[-1].read(1)


@measured
def test_view():
    VIEWS.append(np.asarray(memoryview(tf.ones([4096]))))  # made: view


def test_block(tfleak):
    kept = []
    keep = lambda: kept.append(tf.ones([2]))  # noqa: E731  # made: block
    tfleak.check(keep, iterations=20)


class Key:
    pass


WEAK = weakref.WeakKeyDictionary()


@measured
def test_weak_key():
    key = Key()
    WEAK[key] = (key, tf.ones([6]))  # made: weak_key


@pytest.mark.tfleak(iterations=20, warmup=2, py_functions=1)
def test_callback():
    numbers = tf.data.Dataset.range(1)
    for _ in numbers.map(lambda x: tf.py_function(open_again, [x], tf.float32)):
        pass


def test_nothing_is_left_switched_on():
    assert not tracemalloc.is_tracing()
