"""Known growth of TensorFlow, alone and beside leaks in user code."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

pytestmark = pytest.mark.tfleak(iterations=25, warmup=3)

X = np.ones([8, 4], "f")
Y = np.ones([8, 1], "f")
VOCABULARY = [f"word{number}" for number in range(1000)]
KEYS = tf.range(1000)
KEPT: dict[str, list[object]] = {}
numbers = itertools.count()


@tf.custom_gradient
def scaled(x):
    return x * 2.0, lambda upstream: upstream * 0.1


def custom_gradient_registry():
    @tf.function
    def function(x):
        return scaled(x)

    function(tf.ones([4]))


def scalar_cache():
    for _ in range(50):
        tf.constant(next(numbers) + 0.5)


def keras_lookup_tables():
    keras.layers.StringLookup(vocabulary=VOCABULARY)(tf.constant(["word1"]))
    keras.utils.clear_session()


def keras_automatic_names():
    keras.layers.Dense(3).build([None, 4])


def xla_executables():
    @tf.function(jit_compile=True)
    def function(x):
        return tf.nn.relu(x @ x)

    function(tf.ones([4, 4]))


def py_function_closures():
    array = np.ones([8192], "f")

    @tf.function
    def function(x):
        return tf.numpy_function(lambda x: x * array[0], [x], tf.float32)

    function(tf.ones([4]))


def lookup_tables():
    initializer = tf.lookup.KeyValueTensorInitializer(KEYS, KEYS)
    tf.lookup.StaticHashTable(initializer, -1).lookup(KEYS)


def eager_kernel_cache():
    tf.Variable(1.0, name=f"name{next(numbers)}")


def tf_data_functions():
    for _ in DATASET.scan(0, lambda state, _: (state, state)):
        pass


DATASET = tf.data.Dataset.range(4).batch(2)


def tf_data_iterators():
    for _ in range(15):
        for _ in DATASET:
            pass


def kernels_made_again():
    tf.random.set_seed(0)  # empties TensorFlow's cache of eager kernels
    for number in range(400):
        tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=[], container="", shared_name=f"name{number}"
        )


SOURCE = "def add(x):\n" + "    x = x + 1.0\n" * 20


def traceback_code():
    exec(SOURCE, namespace := {})
    with tf.Graph().as_default():
        namespace["add"](tf.zeros([2]))


BODIES = [
    custom_gradient_registry,
    scalar_cache,
    tf_data_iterators,
    tf_data_functions,
    keras_lookup_tables,
    keras_automatic_names,
    xla_executables,
    py_function_closures,
    lookup_tables,
    eager_kernel_cache,
    kernels_made_again,
    traceback_code,
]


@pytest.mark.parametrize("own", ["none", "fifth"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_growth(body, own):
    body()
    kept = KEPT.setdefault(body.__name__ + own, [])
    calls = KEPT.setdefault("calls" + body.__name__, [0])
    calls[0] = (calls[0] + 1) % 5
    if own == "fifth" and calls[0] == 0:
        kept.append(tf.ones([2]))


def fit_a_fresh_model():
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)


@pytest.mark.tfleak(iterations=12, warmup=2)
def test_fresh_model_after_clear_session():
    keras.utils.clear_session()
    fit_a_fresh_model()


@pytest.mark.tfleak(iterations=12, warmup=2, diagnose_time=60)
def test_fresh_model():
    fit_a_fresh_model()


MODEL = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


@pytest.mark.tfleak(iterations=20)
def test_predict():
    for _ in range(10):
        MODEL.predict(X, verbose=0)


@pytest.mark.tfleak(known="fail")
def test_known_growth_fails_where_that_is_asked():
    custom_gradient_registry()


@pytest.mark.tfleak(diagnose=False)
def test_nothing_is_known_without_experiments():
    custom_gradient_registry()


MODELS: list[object] = []


@tf.function
def with_gradient(x):
    return scaled(x)


def test_gradients_of_a_function_that_is_kept_are_found():
    """A function that was traced in one experiment has its gradient in the next."""

    @tf.function
    def function(x):
        return scaled(x)

    function(tf.ones([4]))
    MODELS.append(function)
    with tf.GradientTape() as tape:
        x = tf.ones([4])
        tape.watch(x)
        y = MODELS[-2 if len(MODELS) > 1 else -1](x)
    assert tape.gradient(y, x) is not None
    del MODELS[:-3]


class Scale(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def run(self, x):
        return scaled(x)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save a function with a custom gradient."""
    folder = str(tmp_path_factory.mktemp("model"))
    tf.saved_model.save(Scale(), folder)
    return folder


def gradient_of(loaded):
    with tf.GradientTape() as tape:
        x = tf.constant(1.0)
        tape.watch(x)
        y = loaded.run(x)
    return tape.gradient(y, x)


LOADED: list[object] = []


@pytest.mark.tfleak(iterations=10, warmup=2, graphs=2)
def test_loading_custom_gradients(saved):
    """A loaded function has its gradient as long as it is kept, and no longer."""
    LOADED.append(tf.saved_model.load(saved))
    for loaded in LOADED:
        assert gradient_of(loaded).numpy() == pytest.approx(0.1)
    del LOADED[:-2]


KEPT_MODELS: list[object] = []


@pytest.mark.tfleak(iterations=10, warmup=2)
def test_keeping_loaded_gradients_leaks(saved):
    KEPT_MODELS.append(tf.saved_model.load(saved))


@pytest.mark.tfleak(diagnose_time=0.001)
def test_no_time_for_experiments():
    custom_gradient_registry()


SEEN: list[int] = []


def test_body_that_fails_in_an_experiment():
    """It fails where the registry keeps nothing, amid the run and after it."""
    registered = len(ops.gradient_registry._registry)
    has_grown = not SEEN or registered > SEEN[-1]
    SEEN[:] = [registered] if has_grown else []
    custom_gradient_registry()
    assert has_grown


def test_gradient_registered_by_the_user_leaks():
    tf.RegisterGradient(f"Mine{next(numbers)}")(lambda op, grad: grad)


def test_retracing_with_a_custom_gradient_leaks():
    with_gradient(next(numbers) + 0.5)
