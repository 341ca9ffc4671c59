"""One leak of each family beside its mended twin, as any TensorFlow 2 can run them."""

import ctypes
import itertools
import tempfile
import threading

import numpy as np
import pytest
import tensorflow as tf

v1 = tf.compat.v1
keras = tf.keras

KEPT = []
LEFT = []
X = np.ones([8, 4], "f")
Y = np.ones([8, 1], "f")
KEYS = tf.range(1000)
numbers = itertools.count()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
released = threading.Event()


@pytest.fixture(scope="module", autouse=True)
def _end_threads():
    yield
    released.set()


def test_session_leaks():
    KEPT.append(v1.Session(graph=tf.Graph()))


def test_session_clean():
    with tf.Graph().as_default(), v1.Session() as session:
        assert session.run(tf.constant(1) + 1) == 2


def test_closed_session_leaks():
    session = v1.Session(graph=tf.Graph())
    session.close()
    KEPT.append(session)


def test_closed_session_clean():
    session = v1.Session(graph=tf.Graph())
    session.close()


def test_session_stack_leaks():
    v1.InteractiveSession(graph=tf.Graph())


def test_session_stack_clean():
    v1.InteractiveSession(graph=tf.Graph()).close()


def test_graph_leaks():
    KEPT.append(tf.Graph())


def test_graph_clean():
    tf.Graph()


def test_graph_stack_leaks():
    LEFT.append(tf.Graph().as_default())
    LEFT[-1].__enter__()


def test_graph_stack_clean():
    with tf.Graph().as_default():
        pass


def test_default_graph_leaks():
    default = v1.get_default_graph()
    with default.as_default(), v1.Session(graph=default) as session:
        session.run(tf.constant(1) + 2)


def test_default_graph_clean():
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        session.run(tf.constant(1) + 2)


def test_tape_scope_leaks():
    tf.GradientTape(persistent=True).__enter__()


def test_tape_scope_clean():
    x = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        y = x * x
    assert tape.gradient(y, x).numpy() == 4.0


def test_tape_leaks():
    x = tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        x * x
    KEPT.append(tape)


def test_tape_clean():
    x = tf.Variable(2.0)
    with tf.GradientTape(persistent=True):
        x * x


def test_function_leaks():
    function = tf.function(lambda x: x + 1.0)
    function(tf.ones([2]))
    KEPT.append(function)


def test_function_clean():
    function = tf.function(lambda x: x + 1.0)
    function(tf.ones([2]))


@tf.function
def add(n):
    return tf.constant(1) + n


def test_retracing_leaks():
    add(next(numbers))


def test_retracing_clean():
    add(tf.constant(1))


def test_variable_leaks():
    KEPT.append(tf.Variable([1.0, 2.0]))


def test_variable_clean():
    tf.Variable([1.0, 2.0]).assign_add([1.0, 1.0])


def test_tensor_leaks():
    KEPT.append(tf.ones([4]))


def test_tensor_clean():
    tf.ones([4])


def test_big_tensor_leaks():
    KEPT.append(tf.ones([100, 1000]))


def test_big_tensor_clean():
    tf.ones([100, 1000])


def test_dataset_leaks():
    KEPT.append(tf.data.Dataset.range(4).batch(2))


def test_dataset_clean():
    assert len(list(tf.data.Dataset.range(4).batch(2))) == 2


DATASET = tf.data.Dataset.range(4).batch(2)


def test_iterator_leaks():
    KEPT.append(iter(DATASET))


def test_iterator_clean():
    next(iter(DATASET))


def test_thread_leaks():
    threading.Thread(target=released.wait, daemon=True).start()


def test_thread_clean():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def test_file_leaks():
    KEPT.append(tempfile.TemporaryFile())  # noqa: SIM115 (left open)


def test_file_clean():
    with tempfile.TemporaryFile() as file:
        file.write(b"text")


def test_blocks_leaks():
    KEPT.append([object() for _ in range(200)])


def test_blocks_clean():
    assert len([object() for _ in range(200)]) == 200


def test_heap_leaks():
    libc.malloc(64 * 1024)


def test_heap_clean():
    libc.free(libc.malloc(64 * 1024))


def make_model():
    return keras.Sequential([keras.layers.Dense(1, input_shape=(4,))])


def test_model_leaks():
    KEPT.append(make_model())


def test_model_fitted_each_time_clean():
    model = make_model()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)


def test_model_called_each_time_clean():
    make_model()(X)


@pytest.fixture(scope="module")
def model():
    model = make_model()
    model.compile("sgd", "mse")
    return model


def test_fit_and_predict_of_one_model_clean(model):
    model.fit(X, Y, verbose=0)
    model.predict(X, verbose=0)


def test_lookup_table_leaks():
    initializer = tf.lookup.KeyValueTensorInitializer(KEYS, KEYS)
    tf.lookup.StaticHashTable(initializer, -1).lookup(KEYS)


def test_lookup_table_clean():
    initializer = tf.lookup.KeyValueTensorInitializer(KEYS, KEYS)
    table = tf.lookup.StaticHashTable(initializer, -1, experimental_is_anonymous=True)
    table.lookup(KEYS)


def test_kernel_leaks():
    tf.Variable(1.0, name=f"name{next(numbers)}")


def test_kernel_clean():
    tf.Variable(1.0, name="name")


def test_python_function_leaks():
    array = np.ones([8192], "f")
    rows = tf.data.Dataset.from_tensor_slices(X)
    list(rows.map(lambda x: tf.numpy_function(lambda x: x * array[0], [x], tf.float32)))


def double(x):
    return x * 2


ROWS = tf.data.Dataset.from_tensor_slices(X).map(
    lambda x: tf.numpy_function(double, [x], tf.float32)
)


def test_python_function_clean():
    assert len(list(ROWS)) == 8


def test_scalars_clean():  # TensorFlow keeps them: known growth
    for _ in range(50):
        tf.constant(next(numbers) + 0.5)
