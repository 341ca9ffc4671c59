"""Sessions, graphs and traced functions: each cause, with mended code."""

import collections
import contextlib

import numpy
import pytest
import tensorflow as tf

v1 = tf.compat.v1
#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    iterations=12, warmup=3, host_per_iteration="1 GiB", blocks=1_000_000
)
KEPT = []
LAST = collections.deque(maxlen=1)
GRAPH = tf.Graph()
with GRAPH.as_default():
    W = v1.get_variable("w", [], use_resource=True)
    operation = W.assign(2.0)


def build():
    graph = tf.Graph()
    with graph.as_default():
        y = tf.constant(1.0) * 2.0
    return graph, y


def test_interactive_session_left():
    graph, y = build()
    v1.InteractiveSession(graph=graph).run(y)  # planted


def test_interactive_session_left_mended():
    graph, y = build()
    with v1.Session(graph=graph) as session:
        session.run(y)


def test_session_scope_never_left(scopes):
    graph, _ = build()
    session = v1.Session(graph=graph)  # planted
    scope = session.as_default()
    scope.__enter__()
    scopes.append(scope)


def test_session_scope_never_left_mended():
    graph, y = build()
    session = v1.Session(graph=graph)
    with session.as_default():
        y.eval()


def test_graph_scope_never_left(scopes):
    scope = tf.Graph().as_default()  # planted
    scope.__enter__()
    scopes.append(scope)


def test_graph_scope_never_left_mended():
    graph = tf.Graph()
    with graph.as_default():
        tf.constant(1.0)


@pytest.fixture
def scopes():
    """Hold scopes that are open, so that they do not end by themselves."""
    return []


class Opened:
    def __enter__(self):
        graph, self.y = build()
        self.session = v1.Session(graph=graph)  # planted
        KEPT.append(self.session)
        return self

    def __exit__(self, *_):
        self.result.tolist()
        KEPT.remove(self.session)
        self.session.close()
        return True


def test_session_close_skipped():
    with contextlib.suppress(AttributeError), Opened():
        pass


class Closed(Opened):
    def __exit__(self, *_):
        try:
            self.result.tolist()
        finally:
            KEPT.remove(self.session)
            self.session.close()
        return True


def test_session_close_skipped_mended():
    with contextlib.suppress(AttributeError), Closed():
        pass


def run_and_close(value):
    graph, y = build()
    session = v1.Session(graph=graph)  # planted
    KEPT.append(session)
    session.run(y)
    if value > 0:
        raise ValueError("no such value")
    KEPT.remove(session)
    session.close()


def test_session_close_skipped__by_an_error():
    with contextlib.suppress(ValueError):
        run_and_close(1)


def run_and_close_finally(value):
    graph, y = build()
    session = v1.Session(graph=graph)
    KEPT.append(session)
    try:
        session.run(y)
        if value > 0:
            raise ValueError("no such value")
    finally:
        KEPT.remove(session)
        session.close()


def test_session_close_skipped__by_an_error_mended():
    with contextlib.suppress(ValueError):
        run_and_close_finally(1)


def test_session_never_closed():
    graph, y = build()
    session = v1.Session(graph=graph)  # planted
    session.run(y)
    KEPT.append(session)


def test_session_never_closed_mended():
    graph, y = build()
    with v1.Session(graph=graph) as session:
        session.run(y)


def test_closed_session_kept():
    graph, y = build()
    with v1.Session(graph=graph) as session:  # planted
        session.run(y)
    KEPT.append(session)


def test_closed_session_kept_mended():
    graph, y = build()
    with v1.Session(graph=graph) as session:
        session.run(y)
    KEPT.append(session)
    KEPT.remove(session)


def add_to_default():
    with tf.compat.v1.get_default_graph().as_default():
        return tf.constant(1.0) + 1.0  # planted


def test_default_graph_grows():
    add_to_default()


def test_default_graph_grows_mended():
    with tf.Graph().as_default():
        tf.constant(1.0)


def test_graph_grows():
    with GRAPH.as_default(), v1.Session() as session:
        session.run(W.assign(2.0))  # planted


def test_graph_grows_mended():
    with GRAPH.as_default(), v1.Session() as session:
        session.run(operation)


def test_graph_kept():
    with tf.Graph().as_default():  # planted
        KEPT.append(tf.constant(1.0))


def test_graph_kept_mended():
    graph, y = build()
    with v1.Session(graph=graph) as session:
        LAST.append(session.run(y))


@tf.function
def step(x, other=None):
    return x * 2


@pytest.fixture
def count():
    """Count the calls."""
    return iter(range(1, 10_000))


def test_retrace_python_value(count):
    step(next(count))  # planted


def test_retrace_python_value_mended(count):
    step(tf.constant(next(count)))


def test_retrace_shape(count):
    step(tf.ones([next(count)]))  # planted


@tf.function(reduce_retracing=True)
def open_step(x, other=None):
    return x * 2


def test_retrace_shape_mended(count):
    open_step(tf.ones([next(count)]))


def test_retrace_new_object():
    step(tf.ones([]), lambda x: x)  # planted


other = lambda x: x  # noqa: E731 - a name for the lambda, as printed


def test_retrace_new_object_mended():
    step(tf.ones([]), other)


class Net:
    def loss(self, x):
        return x


def test_retrace_new_object__bound_method():
    net = Net()
    compare(tf.ones([]), net.loss)  # planted


@tf.function
def compare(x, loss):
    return loss(x)


net = Net()
loss = net.loss


def test_retrace_new_object__bound_method_mended():
    compare(tf.ones([]), loss)


@tf.function
def total(values):
    return sum(values)


def test_retrace_structure(count):
    total([tf.ones([])] * next(count))  # planted


@tf.function(reduce_retracing=True)
def add_up(values):
    return tf.reduce_sum(values)


def test_retrace_structure_mended(count):
    add_up(numpy.stack([tf.ones([])] * next(count)))


def test_retrace_context():
    with tf.Graph().as_default():
        step(tf.ones([]))  # planted


def test_retrace_context_mended():
    step(tf.ones([]))


def test_function_made_in_loop():
    doubled = tf.function(lambda x: x * 2.0)  # planted
    doubled(tf.ones([]))  # planted
    KEPT.append(doubled)


doubled = tf.function(lambda x: x * 2.0)


def test_function_made_in_loop_mended():
    doubled(tf.ones([]))


def test_concrete_function_kept():
    made = v1.wrap_function(lambda x: x * 2.0, [tf.TensorSpec([])])  # planted
    KEPT.append(made)


made = v1.wrap_function(lambda x: x * 2.0, [tf.TensorSpec([])])


def test_concrete_function_kept_mended():
    made(tf.ones([]))


class Module(tf.Module):
    def __init__(self):
        self.w = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([])])
    def __call__(self, x):
        return self.w * x


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save a model, and return its folder."""
    folder = str(tmp_path_factory.mktemp("saved"))
    tf.saved_model.save(Module(), folder)
    return folder


@pytest.mark.tfleak(iterations=6, warmup=1)
def test_saved_model_kept(saved):
    KEPT.append(tf.saved_model.load(saved))  # planted


def test_saved_model_kept_mended(loaded):
    loaded(tf.ones([]))


@pytest.fixture
def loaded(saved):
    """Load the model once."""
    model = tf.saved_model.load(saved)
    model(tf.ones([]))
    return model
