"""Known growth in code for each Keras: Keras 3, tf_keras, and TensorFlow's own."""

import collections
import importlib
import itertools
import os

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak(iterations=15, warmup=3)

keras = importlib.import_module(os.environ["KERAS"])
clear_session = keras.backend.clear_session

X = np.ones([8, 4], "f")
Y = np.ones([8, 1], "f")
WORDS = [f"word{number}" for number in range(1000)]
KEYS = tf.range(1000)
numbers = itertools.count()


def make_model(**options):
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(4,))])
    model.compile("sgd", "mse", **options)
    return model


MODEL = make_model()
OPTIMIZER = keras.optimizers.SGD()


def custom_gradient_registry():
    clear_session()
    make_model().train_on_batch(X, Y)


def keras_lookup_tables():
    clear_session()
    keras.layers.StringLookup(vocabulary=WORDS)(tf.constant(["word1"]))


def xla_executables():
    clear_session()
    make_model(jit_compile=True).predict_on_batch(X)


def keras_automatic_names():
    assert keras.layers.Dense(4)(X).shape == (8, 4)


def tf_data_iterators():
    for _ in range(10):
        MODEL.predict(X, verbose=0)


def tf_data_functions():
    for _ in tf.data.Dataset.range(3).scan(0, lambda state, _: (state, state)):
        pass


def double(x):
    return x * 2


def py_function_wrappers():
    rows = tf.data.Dataset.from_tensor_slices(X)
    list(rows.map(lambda x: tf.numpy_function(double, [x], tf.float32)))


def nest_types():
    pair = collections.namedtuple("pair", "x y")
    tf.nest.flatten(pair(1, 2))


def scalar_cache():
    for _ in range(30):
        OPTIMIZER.learning_rate = next(numbers) + 0.5


def py_function_closures():
    table = np.ones([8192])
    batches = ((X * table[0], Y) for _ in range(2))
    MODEL.fit(batches, verbose=0)


def lookup_tables():
    initializer = tf.lookup.KeyValueTensorInitializer(KEYS, KEYS)
    tf.lookup.StaticHashTable(initializer, -1).lookup(KEYS)


def eager_kernel_cache():
    keras.layers.Dense(1, name=f"mine{next(numbers)}")(X)


def kernels_made_again():
    tf.random.set_seed(0)  # empties TensorFlow's cache of eager kernels
    for number in range(400):
        tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=[], container="", shared_name=f"name{number}"
        )


def traceback_code():
    lines = "    x = x + 1.0\n" * 20
    exec(f"def add(x):\n{lines}", namespace := {})
    with tf.Graph().as_default():
        namespace["add"](tf.zeros([2]))


BODIES = [
    custom_gradient_registry,
    keras_lookup_tables,
    xla_executables,
    keras_automatic_names,
    tf_data_iterators,
    tf_data_functions,
    py_function_wrappers,
    nest_types,
    scalar_cache,
    py_function_closures,
    lookup_tables,
    eager_kernel_cache,
    kernels_made_again,
    traceback_code,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_growth(body):
    body()
