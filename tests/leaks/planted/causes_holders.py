"""Objects between the root and what leaks: each cause, with mended code."""

import asyncio
import atexit
import contextlib
import functools
import itertools
import linecache
import logging.handlers
import weakref

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


class Client:
    def __init__(self):
        self.x = tf.ones([64])  # planted

    def close(self):
        self.x = None


def test_atexit_keeps_callback():
    client = Client()
    atexit.register(client.close)  # planted


def test_atexit_keeps_callback_mended():
    client = Client()
    atexit.register(client.close)
    atexit.unregister(client.close)


LOOP = asyncio.new_event_loop()
TASKS = set()


async def wait(x):
    await asyncio.Event().wait()
    return x


async def start_waiting():
    TASKS.add(asyncio.create_task(wait(tf.ones([64]))))  # planted
    await asyncio.sleep(0)


def test_task_never_ended():
    LOOP.run_until_complete(start_waiting())


async def start_and_end():
    task = asyncio.create_task(wait(tf.ones([64])))
    TASKS.add(task)
    await asyncio.sleep(0)
    task.add_done_callback(TASKS.discard)
    task.cancel()


def test_task_never_ended_mended():
    LOOP.run_until_complete(start_and_end())


def fail():
    x = tf.ones([64])  # planted
    raise ValueError(f"bad {x.shape}")


def test_exception_keeps_frame():
    try:
        fail()
    except ValueError as error:
        KEPT.append(error)


def test_exception_keeps_frame_mended():
    try:
        fail()
    except ValueError as error:
        KEPT.append(repr(error))


NOT_FOUND = KeyError("not found")


def look_up():
    x = tf.ones([64])  # planted
    if x.shape.rank == 1:
        raise NOT_FOUND
    return x


def test_exception_keeps_frame__raised_again():
    with contextlib.suppress(KeyError):
        look_up()


def look_up_again():
    x = tf.ones([64])
    if x.shape.rank == 1:
        raise NOT_FOUND.with_traceback(None)
    return x


def test_exception_keeps_frame__raised_again_mended():
    with contextlib.suppress(KeyError):
        look_up_again()


class Records(logging.Handler):
    def emit(self, record):
        KEPT.append(record)


class Texts(logging.Handler):
    def emit(self, record):
        KEPT.append(record.getMessage())


def logger_with(handler):
    log = logging.Logger("planted")
    log.addHandler(handler)
    return log


LOG = logger_with(Records())
LOG_MENDED = logger_with(Texts())


def note_in(log):
    log.propagate = False
    log.addHandler(logging.handlers.MemoryHandler(100))
    log.warning("loss %s", tf.ones([64]))  # planted


def test_logger_made_in_loop():
    log = logging.getLogger(f"planted.{next(STEPS)}")  # planted
    note_in(log)


def test_logger_made_in_loop_mended():
    log = logging.Logger(f"planted.{next(STEPS)}")
    note_in(log)


def test_log_record_keeps_arguments():
    LOG.info("loss %s", tf.ones([64]))  # planted


def test_log_record_keeps_arguments_mended():
    LOG_MENDED.info("loss %s", tf.ones([64]))


class Layer:
    def __init__(self):
        self.w = tf.Variable(1.0, name="w")  # planted

    @functools.cache  # noqa: B019 - the leak
    def doubled(self):
        return self.w * 2.0


def test_lru_cache_keeps_arguments():
    Layer().doubled()


def test_lru_cache_keeps_arguments_mended():
    Layer().doubled()
    Layer.doubled.cache_clear()


class Key:
    pass


OWNERS = weakref.WeakKeyDictionary()


class Payload:
    def __init__(self, key):
        self.key = key
        self.x = tf.ones([64])  # planted


def test_weak_dict_value_keeps_key():
    key = Key()
    OWNERS[key] = Payload(key)


def test_weak_dict_value_keeps_key_mended():
    key = Key()
    OWNERS[key] = Payload(weakref.ref(key))


def batches():
    while True:
        x = tf.ones([64])  # planted
        yield x


def test_generator_suspended():
    source = batches()
    next(source)
    KEPT.append(source)


def test_generator_suspended_mended():
    source = batches()
    next(source)
    KEPT.append(source)
    source.close()
    del KEPT[:-10]


@weighed
def test_gradient_registered_in_loop():
    x = np.ones([2000])
    name = f"PlantedGrad{next(STEPS)}"
    tf.RegisterGradient(name)(lambda op, grad: grad * x)  # planted


@tf.RegisterGradient("planted_once")
def planted_once(op, grad):
    return grad


@weighed
def test_gradient_registered_in_loop_mended():
    graph, gradients = tf.Graph(), {"Square": planted_once.__name__}
    with graph.as_default(), graph.gradient_override_map(gradients):
        tf.square(tf.constant(2.0))


def to_tensor(*_, **__):
    return tf.ones([])


@weighed
def test_registered_in_loop():
    class Wrapped:  # planted
        pass

    tf.register_tensor_conversion_function(Wrapped, to_tensor)  # planted


class WrappedOnce:
    pass


tf.register_tensor_conversion_function(WrappedOnce, to_tensor)


@weighed
def test_registered_in_loop_mended():
    tf.convert_to_tensor(WrappedOnce())


@weighed
def test_keras_custom_object():
    class Planted(keras.layers.Layer):  # planted
        pass

    keras.saving.register_keras_serializable(name=f"Planted{next(STEPS)}")(Planted)


@keras.saving.register_keras_serializable()
class PlantedOnce(keras.layers.Layer):
    pass


@weighed
def test_keras_custom_object_mended():
    name = keras.saving.get_registered_name(PlantedOnce)
    assert keras.saving.get_registered_object(name) is PlantedOnce


TEXT = "def step(x):\n    return x * 2\n"
linecache.cache["<planted>"] = (len(TEXT), None, TEXT.splitlines(True), "<planted>")


def compile_step():
    names = {}
    exec(compile(TEXT, "<planted>", "exec"), names)
    return names["step"]


@weighed
def test_code_compiled_in_loop():
    tf.function(compile_step())(tf.ones([]))  # planted


STEP = tf.function(compile_step())


@weighed
def test_code_compiled_in_loop_mended():
    STEP(tf.ones([]))


def double(x):
    return x * 2.0


@weighed
def test_py_function_tape():
    x = tf.Variable(1.0, name="x")
    with tf.GradientTape():
        tf.py_function(double, [x], tf.float32)  # planted


@weighed
def test_py_function_tape_mended():
    x = tf.Variable(1.0, name="x")
    with tf.GradientTape():
        double(x)


def make_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])  # planted
    model.compile(loss="mse", run_eagerly=True)
    return model


BATCH = np.ones([2, 2], "f4"), np.ones([2, 1], "f4")


def fit(model, **options):
    return model.fit(*BATCH, verbose=0, **options)


@pytest.mark.tfleak(tensors=100, variables=100)  # only layers are judged
def test_history_kept():
    KEPT.append(fit(make_model()))


def test_history_kept_mended():
    KEPT.append(fit(make_model()).history)


class Watcher(keras.callbacks.Callback):
    pass


@pytest.mark.tfleak(tensors=100, variables=100)  # only layers are judged
def test_callback_kept():
    watcher = Watcher()
    fit(make_model(), callbacks=[watcher])
    KEPT.append(watcher)


def test_callback_kept_mended():
    watcher = Watcher()
    fit(make_model(), callbacks=[watcher])
    KEPT.append(watcher)
    del KEPT[:-10]


DENSE = keras.layers.Dense(1)
DENSE.build([None, 1])


def test_losses_pile_up():
    DENSE.add_loss(tf.ones([64]))  # planted


class Lossy(keras.layers.Layer):
    def call(self, x):
        self.add_loss(tf.reduce_sum(x))
        return x


LOSSY = Lossy()


def test_losses_pile_up_mended():
    LOSSY(tf.ones([2]))


class Head(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.head = self.new_head()

    def new_head(self):
        head = keras.layers.Dense(1)  # planted
        head.build([None, 4])
        return head


HEAD = Head()
start = HEAD.head.get_weights()


@pytest.mark.tfleak(tensors=100, variables=100)  # only layers are judged
def test_layer_replaced():
    HEAD.head = HEAD.new_head()
    keras.utils.clear_session(free_memory=False)


def test_layer_replaced_mended():
    HEAD.head.set_weights(start)


X = tf.Variable(tf.ones([2000]), name="x")


@weighed
def test_tape_kept():
    with tf.GradientTape(persistent=True) as tape:
        y = tf.reduce_sum(X * X * X)  # planted
    KEPT.append([tape, y])  # planted


@weighed
def test_tape_kept_mended():
    with tf.GradientTape(persistent=True) as tape:
        y = tf.reduce_sum(X * X * X)
    tape.gradient(y, X)
    del tape


def test_keras_global_state():
    keras.src.backend.common.global_state.set_global_attribute(
        f"planted{next(STEPS)}",
        [tf.ones([64])],  # planted
    )


def test_keras_global_state_mended():
    test_keras_global_state()
    keras.utils.clear_session()


def collect(x, seen=[]):  # noqa: B006 - the leak
    seen.append(x)
    return seen


def test_default_argument_grows():
    collect(tf.ones([64]))  # planted


def collect_anew(x, seen=None):
    seen = [] if seen is None else seen
    seen.append(x)
    return seen


def test_default_argument_grows_mended():
    collect_anew(tf.ones([64]))


@pytest.mark.parametrize("kept", [pytest.param([], id=pytest.HIDDEN_PARAM)])
def test_parameter_grows(kept):
    kept.append(tf.ones([64]))  # planted


@pytest.mark.parametrize("kept", [pytest.param([], id=pytest.HIDDEN_PARAM)])
def test_parameter_grows_mended(kept):
    kept = kept.copy()
    kept.append(tf.ones([64]))
