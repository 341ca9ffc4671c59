"""Descriptions of objects of TensorFlow, Keras and NumPy."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import NoReturn

import pytest

from pytest_tfleak.diagnosis.what.descriptors import find_new
from pytest_tfleak.diagnosis.what.descriptors import rates_of_new
from pytest_tfleak.diagnosis.what.descriptors import threads_now
from pytest_tfleak.diagnosis.what.retraces import plain_function_name
from tests.builders import describe_group
from tests.builders import describe_object

tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")
np: Any = pytest.importorskip("numpy")

v1 = tf.compat.v1


class TouchedError(BaseException):
    """Code of an object ran."""


def touch(*_: object, **__: object) -> NoReturn:
    raise TouchedError


class OwnModel(keras.Model):  # type: ignore[misc]
    """A user's model whose own attributes must not be read."""

    def __repr__(self) -> str:
        raise TouchedError

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def call(self, inputs: Any) -> Any:
        return inputs


class OwnGraph(tf.Graph):  # type: ignore[misc]
    get_operations = num_operations = touch


class OwnSession(tf.compat.v1.Session):  # type: ignore[misc]
    graph = property(touch)


@tf.function
def train_step(x: Any, scale: float = 1.0) -> Any:
    return x * scale


def make_graph() -> Any:
    graph = tf.Graph()
    with graph.as_default():
        tf.constant(1.0) + tf.constant(2.0)
        v1.placeholder(tf.float32)
        v1.no_op()
    return graph


def make_tensor_of_a_graph() -> Any:
    with tf.Graph().as_default():
        return tf.constant(1.0, name="half") + tf.ones([2])


def make_reference_variable() -> Any:
    with tf.Graph().as_default():
        return v1.get_variable("v", [2], use_resource=False)


def make_session(*, close: bool) -> Any:
    session = v1.Session(graph=tf.Graph())
    if close:
        session.close()
    return session


def make_model() -> Any:
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="out")], name="mine"
    )


def make_dataset() -> Any:
    data = {"x": np.zeros((4, 3), "f4"), "y": np.zeros(4, "i4")}
    return tf.data.Dataset.from_tensor_slices(data).batch(2)


def make_writer(*, close: bool) -> Any:
    writer = tf.summary.create_file_writer("logs")
    if close:
        writer.close()
    return writer


def concrete() -> Any:
    return train_step.get_concrete_function(tf.TensorSpec([None], tf.float32))


def concrete_of_a_dataset() -> Any:
    return gc_find(
        "ConcreteFunction", tf.data.Dataset.range(3).map(lambda element: element)
    )


def gc_find(name: str, root: Any) -> Any:
    """Return the object of a type that a tf.data pipeline holds."""
    return next(
        o
        for holder in vars(root).values()
        if hasattr(holder, "__dict__")
        for o in vars(holder).values()
        if type(o).__name__ == name
    )


OBJECTS: dict[str, Callable[[], Any]] = {
    "EagerTensor float32[128,128] (64 KiB)": lambda: tf.ones([128, 128]),
    "EagerTensor int32[] (4 B)": lambda: tf.constant(1),
    "EagerTensor string[2]": lambda: tf.constant(["a", "b"]),
    "ResourceVariable 'dense/kernel:0' float32[10,4] (160 B)": lambda: tf.Variable(
        tf.ones([10, 4]), name="dense/kernel"
    ),
    "RefVariable 'v:0' float32[2] (8 B)": make_reference_variable,
    "SymbolicTensor 'add:0' float32[2]": make_tensor_of_a_graph,
    "Operation 'add' (AddV2)": lambda: make_tensor_of_a_graph().op,
    "RaggedTensor int32[2,None]": lambda: tf.ragged.constant([[1], [2, 3]]),
    "Keras Variable 'mine/out/kernel' float32[3,2] (24 B)": lambda: (
        make_model().weights[0]
    ),
    "KerasTensor float32[None,3]": lambda: make_model().inputs[0],
    "Sequential 'mine'": make_model,
    "Dense 'out'": lambda: make_model().layers[0],
    "OwnModel 'of_the_user'": lambda: OwnModel(name="of_the_user"),
    "Adam 'adam'": keras.optimizers.Adam,
    "keras.History": keras.callbacks.History,
    "Function 'train_step' (tf.function)": lambda: train_step,
    "ConcreteFunction 'train_step(x: float32[None], scale=1.0)'": concrete,
    "FuncGraph 'train_step'": lambda: concrete().graph,
    "ConcreteFunction 'Dataset.map(lambda)'": concrete_of_a_dataset,
    "Session (open)": lambda: make_session(close=False),
    "Session (closed)": lambda: make_session(close=True),
    "OwnSession (open)": OwnSession,
    "Graph of 5 operations: 2 Const, 1 AddV2, 1 NoOp, …": make_graph,
    "OwnGraph of 0 operations": OwnGraph,
    "BatchDataset of (float32[None,3], int32[None])": make_dataset,
    "OwnedIterator of (float32[None,3], int32[None])": lambda: iter(make_dataset()),
    "GradientTape (persistent)": lambda: tf.GradientTape(persistent=True),
    "GradientTape (recording)": lambda: tf.GradientTape().__enter__(),
    "ResourceSummaryWriter (open)": lambda: make_writer(close=False),
    "tensorflow.Generator": lambda: tf.random.Generator.from_seed(1),
    "PyCapsule 'dltensor'": lambda: tf.experimental.dlpack.to_dlpack(tf.ones([2])),
    "ndarray float32[10,3] (120 B)": lambda: np.zeros((10, 3), "f4"),
    "ndarray float64[2] (16 B) (a view of 8 KiB)": lambda: np.zeros(1024)[:2],
}


@pytest.mark.parametrize("words", OBJECTS)
def test_an_object_says_what_it_is(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    o = OBJECTS[words]()
    assert describe_object(o) == words
    if type(o).__name__ == "GradientTape" and o._recording:
        o.__exit__(None, None, None)


def test_a_writer_says_that_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert describe_object(make_writer(close=True)).endswith("Writer (closed)")


def test_a_file_of_tensorflows_says_that_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("text")
    file = tf.io.gfile.GFile("x.txt")
    file.read(1)
    assert describe_object(file) == "GFile 'x.txt' (open)"
    file.close()
    assert describe_object(file) == "GFile 'x.txt' (closed)"


def test_a_tensor_on_a_gpu_says_so() -> None:
    # without a GPU, a fake takes the place of TensorFlow's class
    body = {
        "__module__": "tensorflow.python.framework.ops",
        "_datatype_enum": lambda _: 1,
        "_shape_tuple": lambda _: (2,),
        "device": property(lambda _: "/job:localhost/replica:0/task:0/device:GPU:0"),
    }
    tensor = type("EagerTensor", (), body)()
    assert describe_object(tensor) == "EagerTensor float32[2] (8 B) on GPU:0"


def test_the_steps_of_a_keras_model_are_named_as_such() -> None:
    model = make_model()
    model.compile("sgd", "mse")
    before = {id(o) for o in gc.get_objects()}
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    model.predict(np.zeros((4, 3)), verbose=0)
    found = {
        describe_object(o)
        for o in gc.get_objects()
        if id(o) not in before and type(o).__name__ in ("Function", "ConcreteFunction")
    }
    fit, predict = "the train or test step", "the predict step"
    assert {word for word in found if fit in word}
    assert {word for word in found if predict in word}
    assert all("step of a Keras model)" in word for word in found), found


def test_names_are_what_the_user_wrote() -> None:
    assert plain_function_name(b"__inference_train_step_12") == "train_step"
    assert plain_function_name("__backward_f_3_17") == "f"
    assert plain_function_name("__inference_Dataset_map_parse_5") == (
        "Dataset.map(parse)"
    )
    assert plain_function_name("my_function") == "my_function"
    assert plain_function_name(None) == ""


def test_groups_say_how_many_an_iteration_leaves() -> None:
    tensors = [tf.ones([128, 128]) for _ in range(5)]
    words = "EagerTensor float32[128,128] (64 KiB"
    assert describe_group(tensors, 1) == f"1 {words}) per iteration"
    assert describe_group(tensors, 2) == f"2 {words} each) per iteration"
    growing = [tf.ones([n]) for n in range(64, 69)]
    assert describe_group(growing, 1) == (
        "1 EagerTensor per iteration (264 B): float32[64], float32[65], float32[66], …"
    )
    variables = [tf.Variable(1.0, name=f"k{n}") for n in range(3)]
    assert describe_group(variables, 1) == (
        "1 ResourceVariable 'k*:0' float32[] (4 B) per iteration"
    )
    left = [make_session(close=False), make_session(close=True)]
    assert describe_group(left[:1], None) == "1 Session (open)"
    assert describe_group(left, 1) == "1 Session per iteration: (open), (closed)"


def test_describing_keeps_nothing_alive() -> None:
    graph, session = make_graph(), make_session(close=False)
    tensor, function = tf.ones([2]), tf.function(lambda x: x)
    function(tensor)
    for o in (graph, session, tensor, function):
        describe_object(o)
    references = [weakref.ref(o) for o in (graph, session, tensor, function)]
    del graph, session, tensor, function, o
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_threads_that_tensorflow_makes_are_counted() -> None:
    before = threads_now()
    iterators = []
    for _ in range(3):
        options = tf.data.Options()
        options.threading.private_threadpool_size = 3
        dataset = tf.data.Dataset.range(10).map(lambda x: x).with_options(options)
        iterators.append(iter(dataset))
        next(iterators[-1])
    rates = rates_of_new(before, threads_now(), 3)
    assert any("native thread" in name for name in rates)
    assert any(thread.is_native for thread in find_new(before, threads_now()))
    assert len(threads_now()) > threading.active_count()
