"""Known growth of TensorFlow, and scopes that stay open, each with mended code."""

import itertools
from collections import namedtuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

pytestmark = pytest.mark.tfleak(iterations=20, warmup=3, known="fail")
STEPS = itertools.count()
MODES = []
BATCH = np.ones([2, 2], "f4"), np.ones([2, 1], "f4")


def make_model(**options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse", **options)
    return model


def test_custom_gradient_registry():
    keras.utils.clear_session()
    make_model().fit(*BATCH, verbose=0)


@pytest.fixture(scope="module")
def model():
    """Make a model once; return it with its weights."""
    model = make_model(run_eagerly=False)
    start = model.get_weights()
    return model, start


@pytest.mark.tfleak(iterations=40, warmup=10)
def test_custom_gradient_registry_mended(model):
    model, start = model
    model.set_weights(start)
    model.train_on_batch(*BATCH)


WORDS = [str(n) for n in range(500)]


def test_keras_lookup_tables():
    keras.layers.StringLookup(vocabulary=WORDS)(tf.constant(["1"]))
    keras.utils.clear_session()


LOOKUP = keras.layers.StringLookup(vocabulary=WORDS)


def test_keras_lookup_tables_mended():
    LOOKUP(tf.constant(["1"]))


ROWS = tf.data.Dataset.range(4).batch(2)


def test_tf_data_iterators():
    for _ in range(30):
        for _ in ROWS:
            pass


def test_nest_types():
    pair = namedtuple("pair", "x y")
    for _ in range(10):
        tf.nest.flatten(pair(1, 2))


Pair = namedtuple("Pair", "x y")


def test_nest_types_mended():
    tf.nest.flatten(Pair(1, 2))


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "doubling.keras"
    double = keras.layers.Lambda(lambda x: x * 2.0, name="double")
    keras.Sequential([keras.Input([3]), double], name="doubling").save(path)
    return path


def test_traceback_code(doubling):
    for _ in range(2):
        keras.saving.load_model(doubling, safe_mode=False)


@pytest.fixture(scope="module")
def loaded(doubling):
    return keras.saving.load_model(doubling, safe_mode=False)


def test_traceback_code_mended(loaded):
    loaded(tf.ones([1, 3]))


def sum_up(rows):
    for _ in rows.scan(np.int64(0), lambda total, row: (total, total)):
        pass


def test_tf_data_functions():
    sum_up(tf.data.Dataset.range(4))


def test_tf_data_functions_mended():
    keras.utils.clear_session()
    sum_up(tf.data.Dataset.range(4))


def double(x):
    return x * 2


def make_rows():
    rows = tf.data.Dataset.range(2)
    return rows.map(lambda x: tf.numpy_function(double, [x], tf.int64))


def test_py_function_wrappers():
    for _ in make_rows():
        pass


DOUBLED = make_rows()


def test_py_function_wrappers_mended():
    for _ in DOUBLED:
        pass


dataset = ROWS
STREAM = iter(dataset.repeat())


def test_tf_data_iterators_mended():
    for _ in range(50):
        next(STREAM)


def test_xla_executables():
    tf.function(lambda x: x * 2.0 + 1.0, jit_compile=True)(tf.ones([4]))


compiled = tf.function(lambda x: x * 2.0 + 1.0, jit_compile=True)


def test_xla_executables_mended():
    compiled(tf.ones([4]))


def make_dense():
    layer = keras.layers.Dense(4)
    layer.build([None, 4])


def test_keras_automatic_names():
    make_dense()


def test_keras_automatic_names_mended():
    keras.utils.clear_session()
    make_dense()


variable = tf.Variable(0.0, name="v")


def test_scalar_cache():
    for _ in range(20):
        variable.assign(next(STEPS) + 0.5)


def test_scalar_cache_mended():
    for _ in range(20):
        value = next(STEPS) + 0.5
        variable.assign(np.float32(value))


def test_py_function_closures():
    table = np.ones([5000])
    tf.py_function(table.sum, [], tf.float64)


def test_py_function_closures_mended():
    test_py_function_closures()
    keras.utils.clear_session()


def make_table(**options):
    values = tf.range(500, dtype=tf.int64)
    pairs = tf.lookup.KeyValueTensorInitializer(values, values)
    return tf.lookup.StaticHashTable(pairs, -1, **options)


def test_lookup_tables():
    make_table()


def test_lookup_tables_mended():
    make_table(experimental_is_anonymous=True)


def test_eager_kernel_cache():
    tf.Variable(1.0, name=f"v{next(STEPS)}")


def test_eager_kernel_cache_mended():
    tf.Variable(1.0, name=f"v{next(STEPS)}")
    keras.utils.clear_session()


def make_kernels():
    for number in range(400):
        tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=[], container="", shared_name=f"name{number}"
        )


def test_kernels_made_again():
    tf.random.set_seed(0)
    make_kernels()


def test_kernels_made_again_mended():
    make_kernels()


def test_tape_never_left():
    tf.GradientTape().__enter__()


def test_tape_never_left_mended():
    with tf.GradientTape() as tape:
        tape.watch(variable * 2.0)


def test_scope_never_left():
    tf.name_scope("planted").__enter__()


def test_scope_never_left_mended():
    name = "planted"
    with tf.name_scope(name):
        tf.ones([])


def test_summary_writer_left(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    writer.as_default().__enter__()  # planted
    tf.summary.write("loss", 0.5, step=0)


def test_summary_writer_left_mended(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        tf.summary.write("loss", 0.5, step=0)
    writer.close()


@pytest.mark.tfleak(warmup=0, iterations=10)
def test_eager_mode_switched():
    # not disable_eager_execution(), which is a setting that would be restored
    mode = context.graph_mode()
    mode.__enter__()
    MODES.append(mode)


def test_eager_mode_switched_mended():
    with tf.Graph().as_default():
        tf.ones([])
