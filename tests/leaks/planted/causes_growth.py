"""Ways to grow: chains, longer values, classes, callbacks; each with mended code."""

import ctypes
import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    iterations=12, warmup=3, host_per_iteration="1 GiB", blocks=1_000_000
)
weighed = pytest.mark.tfleak(iterations=20, host_per_iteration="1 KiB", blocks=24)
KEPT = []
STEPS = itertools.count()


class State:
    def __init__(self, previous):
        self.x = tf.ones([64])  # planted
        self.previous = previous


class Decoder:
    def __init__(self):
        self.state = None


DECODER = Decoder()


def test_chain_grows():
    DECODER.state = State(DECODER.state)


def test_chain_grows_mended():
    DECODER.state = State(DECODER.state)
    DECODER.state.previous = None


class Hooks:
    current = print


def install():
    x, previous = tf.ones([64]), Hooks.current  # planted

    def hook(*arguments):
        previous(x.shape, *arguments)

    Hooks.current = hook


def test_chain_grows__hook():
    install()


def test_chain_grows__hook_mended():
    previous = Hooks.current
    try:
        install()
    finally:
        Hooks.current = previous


class Series:
    values = np.zeros([0])


@weighed
def test_value_grows():
    Series.values = np.append(Series.values, np.ones([2000]))  # planted


@weighed
def test_value_grows_mended():
    Series.values = np.append(Series.values, np.ones([2000]))
    Series.values = Series.values[-100:]


class Base:
    registry = []  # noqa: RUF012 - the leak

    def __init_subclass__(cls):
        cls.registry.append(cls)


def test_class_made_in_loop():
    class Scaled(Base):
        prior = tf.ones([64])  # planted


class ScaledOnce(Base):
    def __init__(self, prior):
        self.prior = prior


def test_class_made_in_loop_mended():
    ScaledOnce(tf.ones([64]))


@functools.singledispatch
def dump(value):
    return repr(value)


@weighed
def test_class_made_in_loop__singledispatch():
    class Row:  # planted
        columns = tuple(str(n) for n in range(50))

    dump.register(Row, lambda row: "row")


class RowOnce:
    def __init__(self):
        self.columns = tuple(str(n) for n in range(50))


dump.register(RowOnce, lambda row: "row")


@weighed
def test_class_made_in_loop__singledispatch_mended():
    dump(RowOnce())


class Bus:
    def __init__(self):
        self.subscribers = {"end": []}


BUS = Bus()


class Trainer:
    def __init__(self):
        self.w = tf.Variable(tf.ones([64]), name="w")  # planted
        BUS.subscribers["end"].append(self.on_end)

    def on_end(self):
        self.w.assign_add(tf.ones([64]))

    def close(self):
        BUS.subscribers["end"].remove(self.on_end)


def test_callback_registered_in_loop():
    Trainer()


def test_callback_registered_in_loop_mended():
    trainer = Trainer()
    try:
        trainer.on_end()
    finally:
        trainer.close()


def test_callback_registered_in_loop__closure():
    x = tf.ones([64])  # planted
    BUS.subscribers["end"].append(lambda: x)


def test_callback_registered_in_loop__closure_mended():
    x = tf.ones([64])
    callback = lambda: x  # noqa: E731 - a name for the lambda, as printed
    try:
        BUS.subscribers["end"].append(callback)
    finally:
        BUS.subscribers["end"].remove(callback)


class BadBatchError(ValueError):
    pass


def test_exception_keeps_arguments():
    KEPT.append(BadBatchError("nan in batch", tf.ones([64])))  # planted


def test_exception_keeps_arguments_mended():
    KEPT.append(repr(BadBatchError("nan in batch", tf.ones([64]))))


INPUT = keras.Input((4,))
BACKBONE = keras.Model(INPUT, keras.layers.Dense(4)(INPUT))


@pytest.mark.tfleak(tensors=100, variables=100)  # only layers are judged
def test_layer_added_to_shared_model():
    head = keras.layers.Dense(1, name="head")  # planted
    head(BACKBONE.output)
    keras.utils.clear_session(free_memory=False)


def test_layer_added_to_shared_model_mended():
    head, x = keras.layers.Dense(1, name="head"), tf.ones([1, 4])
    head(BACKBONE(x))
    keras.utils.clear_session(free_memory=False)


WORDS = {}


@weighed
def test_values_pile_up():
    for _ in range(50):
        WORDS[f"word {next(STEPS)}"] = next(STEPS) * 1e6  # planted


@weighed
def test_values_pile_up_mended():
    for _ in range(50):
        WORDS[f"word {next(STEPS)}"] = next(STEPS) * 1e6
        while len(WORDS) > 10:
            WORDS.pop(next(iter(WORDS)))


@weighed
def test_small_objects_pile_up():
    for _ in range(50):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(f"word {next(STEPS)}"))


@weighed
def test_small_objects_pile_up_mended():
    for _ in range(50):
        word = ctypes.py_object(f"word {next(STEPS)}")
        ctypes.pythonapi.Py_IncRef(word)
        ctypes.pythonapi.Py_DecRef(word)
