"""Kept models, data, tensors and buffers: each cause, with mended code."""

import ctypes
import itertools
import json
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

v1 = tf.compat.v1
#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    iterations=12, warmup=3, host_per_iteration="1 GiB", blocks=1_000_000
)
weighed = pytest.mark.tfleak(iterations=20, host_per_iteration="1 KiB", blocks=24)
KEPT = []
STEPS = itertools.count()


def make_model():
    keras.utils.clear_session()
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])  # planted


@pytest.mark.tfleak(tensors=100, variables=100)  # only layers are judged
def test_model_kept():
    KEPT.append(make_model())


def test_model_kept_mended():
    KEPT.append(make_model())
    del KEPT[:-10]


def test_optimizer_kept():
    keras.utils.clear_session()
    optimizer = keras.optimizers.SGD()  # planted
    KEPT.append(optimizer)


def test_optimizer_kept_mended():
    keras.utils.clear_session()
    optimizer = keras.optimizers.SGD()
    KEPT.append(optimizer)
    del KEPT[:-10]


GRAPH = tf.Graph()
with GRAPH.as_default():
    Y = v1.placeholder(tf.float32, [4])
    FEED = {Y: [1.0] * 4}
    for _ in range(40):
        Y = tf.sin(Y)
TRACED = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)


@pytest.fixture
def session():
    """Open a session."""
    with v1.Session(graph=GRAPH) as session:
        yield session


@weighed
def test_run_metadata_kept(session):
    metadata = v1.RunMetadata()
    session.run(Y, FEED, options=TRACED, run_metadata=metadata)  # planted
    KEPT.append(metadata)


@weighed
def test_run_metadata_kept_mended(session):
    metadata = v1.RunMetadata()
    session.run(Y, FEED, options=TRACED, run_metadata=metadata)
    KEPT.append(metadata)
    del KEPT[:-10]


OPTIONS = tf.data.Options()
OPTIONS.autotune.enabled = False  # or hundreds of threads take long to end
OPTIONS.threading.private_threadpool_size = 1
DATASET = tf.data.Dataset.range(4).with_options(OPTIONS)


def test_iterator_kept():
    iterator = iter(DATASET)  # planted
    next(iterator)
    KEPT.append(iterator)


def test_iterator_kept_mended():
    iterator = iter(DATASET)
    next(iterator)
    KEPT.append(iterator)
    del KEPT[:-10]


def test_dataset_kept():
    KEPT.append(tf.data.Dataset.range(4).batch(2))  # planted


def test_dataset_kept_mended():
    KEPT.append(tf.data.Dataset.range(4).batch(2))
    del KEPT[:-10]


def test_variable_kept():
    KEPT.append(tf.Variable(1.0, name="v"))  # planted


def test_variable_kept_mended():
    KEPT.append(tf.Variable(1.0, name="v"))
    del KEPT[:-10]


@weighed
def test_array_view_kept():
    KEPT.append(np.zeros([5000])[:10])  # planted


@weighed
def test_array_view_kept_mended():
    KEPT.append(np.zeros([5000])[:10].copy())


@weighed
def test_array_view_kept__memoryview():
    KEPT.append(memoryview(tf.ones([5000])))  # planted


@weighed
def test_array_view_kept__memoryview_mended():
    KEPT.append(memoryview(tf.ones([5000])))
    del KEPT[:-10]


@weighed
def test_dlpack_capsule_kept():
    KEPT.append(tf.experimental.dlpack.to_dlpack(tf.ones([5000])))  # planted


@weighed
def test_dlpack_capsule_kept_mended():
    KEPT.append(tf.experimental.dlpack.to_dlpack(tf.ones([5000])))
    del KEPT[:-10]


def test_loss_kept():
    KEPT.append(tf.reduce_mean(tf.ones([64])))  # planted


def test_loss_kept_mended():
    KEPT.append(float(tf.reduce_mean(tf.ones([64]))))


def test_closure_keeps_variables():
    x = tf.ones([64])  # planted
    KEPT.append(lambda: x)


def test_closure_keeps_variables_mended():
    x = tf.ones([64])
    KEPT.append(lambda: x)
    del KEPT[:-10]


def test_tensor_kept():
    KEPT.append(tf.ones([64]))  # planted


def test_tensor_kept_mended():
    KEPT.append(tf.ones([64]))
    del KEPT[:-10]


@weighed
def test_array_kept():
    KEPT.append(np.ones([5000]))  # planted


@weighed
def test_array_kept_mended():
    KEPT.append(np.ones([5000]))
    del KEPT[:-10]


class Step:
    made = []  # noqa: RUF012 - the leak

    def __init__(self):
        self.values = [str(n) for n in range(100)]  # planted
        Step.made.append(self)


@weighed
def test_class_attribute_grows():
    Step()  # planted


@weighed
def test_class_attribute_grows_mended():
    Step()
    del Step.made[:-10]


@weighed
def test_kept_by_library():
    name = f"planted_{next(STEPS)}"
    values = [str(n) for n in range(200)]  # planted
    json.decoder.BACKSLASH[name] = values


@weighed
def test_kept_by_library_mended():
    name = f"planted_{next(STEPS)}"
    values = [str(n) for n in range(200)]
    try:
        json.decoder.BACKSLASH[name] = values
    finally:
        json.decoder.BACKSLASH.pop(name)


def test_kept_by_native_code():
    x = tf.ones([64])  # planted
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))


def test_kept_by_native_code_mended():
    x = ctypes.py_object(tf.ones([64]))
    ctypes.pythonapi.Py_IncRef(x)
    ctypes.pythonapi.Py_DecRef(x)


class Net(tf.Module):
    def __init__(self, is_built):
        self.body = tf.Variable(1.0, name="body")
        if is_built:
            self.head = tf.Variable(1.0, name="head")


WRITTEN = tf.train.Checkpoint(net=Net(is_built=True)).write(
    f"{tempfile.mkdtemp()}/planted"
)
UNBUILT, BUILT = (tf.train.Checkpoint(net=Net(each)) for each in (False, True))


def test_restore_deferred():
    UNBUILT.read(WRITTEN).expect_partial()  # planted


def test_restore_deferred_mended():
    BUILT.read(WRITTEN).expect_partial()


class Report:
    def __init__(self):
        self.lines = [str(n) for n in range(100)]  # planted


@weighed
def test_object_kept():
    KEPT.append(Report())  # planted


@weighed
def test_object_kept_mended():
    KEPT.append(Report())
    del KEPT[:-10]
