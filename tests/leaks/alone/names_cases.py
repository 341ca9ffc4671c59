"""Each private name is where tf/names.py says, in the installed TensorFlow."""

from __future__ import annotations

import gc
import tempfile
from array import array
from contextlib import ExitStack
from typing import Any

import pytest

from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.diagnosis.experiments.tensorflow import AnonymousTables
from pytest_tfleak.diagnosis.experiments.tensorflow import EagerFunctions
from pytest_tfleak.diagnosis.experiments.tensorflow import WeakGradients
from pytest_tfleak.diagnosis.what.retraces import explain_retraces
from pytest_tfleak.diagnosis.what.sizes import explained_bytes
from pytest_tfleak.probes.allocator import AllocatorProbe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.tensorflow import TensorFlowProbe
from pytest_tfleak.run.environment import look_up
from pytest_tfleak.run.isolation import Surroundings
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import clear_keras_session
from pytest_tfleak.tf.names import Name
from pytest_tfleak.tf.names import Place
from pytest_tfleak.tf.names import version_of
from pytest_tfleak.trace import MISSING
from tests.builders import describe_object

tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")

v1 = tf.compat.v1
tf.constant(0)  # makes the eager context
NAMES, FIELDS = names.all_names(), names.all_fields()


def graph_of_py_function() -> Any:
    with tf.Graph().as_default() as graph:
        tf.numpy_function(lambda x: x, [tf.ones(1)], tf.float32)
    return graph


def wrapped_py_function() -> Any:
    def function(x: Any) -> Any:
        return x

    tf.py_function(function, [tf.ones(1)], tf.float32)
    return function


def interactive_session() -> Any:
    session = v1.InteractiveSession(graph=tf.Graph())
    session.close()
    return session


def monitored_session() -> Any:
    with tf.Graph().as_default():
        return v1.train.MonitoredSession()


def keras_variable() -> Any:
    if not names.KERAS_VARIABLE.find_all():
        pytest.skip("of Keras 3")
    return keras.Variable(1.0)


def tracing_context() -> Any:
    function = tf.function(lambda x: x)
    function(tf.ones(1))
    return next(iter(function._function_cache._primary))[0]


def traced_type(value: object) -> Any:
    function = tf.function(lambda x: 1)
    (concrete,) = [function.get_concrete_function(value)]
    return concrete.function_type.parameters["x"].type_constraint


def bound_function() -> Any:
    class Model:
        @tf.function
        def call(self) -> int:
            return 1

    return Model().call


def summary_writer() -> Any:
    return tf.summary.create_file_writer(tempfile.mkdtemp())


def recording_tape() -> Any:
    tape = tf.GradientTape()
    with tape:
        pass
    tape._recording = True
    return tape


def lookup_table() -> Any:
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [1]), -1)


def evaluate(example: str, it: Any) -> object:
    context = names.CONTEXT.get()
    return eval(example, {**globals(), "it": it, "context": context})


def has(place: Place) -> bool:
    """Return whether this version should have a place."""
    version = version_of(place.library)
    if version is None or version < place.since:
        return False
    return place.before is None or version < place.before


@pytest.mark.parametrize("key", NAMES)
def test_a_name_is_there(key: str) -> None:
    name = NAMES[key]
    places = [place for place in name.places if has(place)]
    if not places:
        pytest.skip("it has no place in what is installed")
    for place in places:
        assert place.look_up() is not names._ABSENT, place
    found = name.get()
    assert evaluate(name.example, found)
    if isinstance(found, type):
        assert (found.__module__, found.__qualname__) in name.types


@pytest.mark.parametrize("key", FIELDS)
def test_a_field_is_there(key: str) -> None:
    field = FIELDS[key]
    if key == "NAME_COUNTS" and not names.GLOBAL_STATE.find_all():
        pytest.skip("of Keras 3")
    if (version_of("tensorflow") or ()) < field.since:
        pytest.skip("of a newer TensorFlow")
    if key == "VARIABLE_PATH" and (3,) <= (version_of("keras") or ()) < (3, 7):
        pytest.skip("of a newer Keras")
    assert evaluate(field.example, field)


def test_nothing_is_missing_that_should_be_there() -> None:
    lacking = [name for name in names.missing() if isinstance(name, Name)]
    assert not [name for name in lacking if any(map(has, name.places))]


ABSENT = "_no_such_name"
PATCHED = (
    names.SESSION,
    names.GRAPH,
    names.MONITORED_SESSION,
    names.GRADIENT_TAPE,
    names.ACCUMULATOR,
    names.OWNED_ITERATOR,
    names.FUNCTION,
    names.STATIC_TABLE,
)


VARIABLES: list[Any] = []


@tf.custom_gradient
def scaled(x: Any) -> Any:
    return x * 2.0, lambda upstream: upstream


def body() -> None:
    """Use all that the interventions, the session log and the isolation patch."""
    function = tf.function(lambda x: scaled(x) + 1.0)
    with tf.GradientTape() as tape:
        x = tf.constant([1.0])
        tape.watch(x)
        y = function(x)
    tape.gradient(y, x)
    for _ in tf.data.Dataset.range(2).batch(1):
        pass
    tf.numpy_function(lambda x: x, [x], tf.float32)
    lookup_table()
    VARIABLES.append(tf.Variable([1.0], shape=[None]))
    keras.layers.Dense(1).build((None, 1))
    with tf.Graph().as_default(), v1.Session() as session:
        session.run(tf.constant(1.0) + 1.0)


def leave() -> list[Any]:
    """Leave scopes behind, as a careless test does."""
    tape = tf.GradientTape()
    tape.__enter__()
    scope = tf.name_scope("left")
    scope.__enter__()
    tf.random.set_seed(1)
    session = v1.InteractiveSession(graph=tf.Graph())
    return [tape, scope, session]


def what_is_lost() -> tuple[set[str], set[str]]:
    """Use everything that knows private names; return lost signals and experiments."""
    census = Census()
    probes = TensorFlowProbe(census), AllocatorProbe()
    lost = set()
    log = SessionLog()
    surroundings = Surroundings()
    log.watch()
    with ExitStack() as stack:
        interventions = [
            stack.enter_context(make())
            for make in (*INTERVENTIONS.values(), EagerFunctions)
        ]
        body()
        for intervention in interventions:
            intervention.after()
    for probe in probes:
        signals = probe.signals()
        buffer = array("q", [MISSING]) * len(signals)
        census.take()
        probe.settle()
        probe.read(buffer, 0, True)
        census.release()
        reasons = probe.reasons()
        lost |= {s.name for s in signals if "not in this" in reasons.get(s.name, "")}
        probe.still_there()
        probe.close()
    left = leave()
    log.stop()
    for leftover in surroundings.restore():
        assert leftover.text
    for held in (*left, tf.Variable(1.0), tf.ones(1), tf.Graph(), tf.function(abs)):
        describe_object(held)
    explain_retraces(tf.function(abs))
    explained_bytes([tf.ones(1), tf.Variable(1.0)], 1)
    clear_keras_session()
    look_up()
    return lost, {i.name for i in interventions if i.failed is not None}


def put_back_by_hand() -> None:
    """Restore what the package cannot restore without the missing name."""
    Surroundings.restore(CLEAN)
    CLEAN._is_open = True


CLEAN = Surroundings()
put_back_by_hand()  # removes the hooks from the tapes
gc.collect()
gc.freeze()  # so that a census does not scan TensorFlow


@pytest.mark.parametrize("key", [*NAMES, *FIELDS])
def test_a_missing_name_costs_what_its_row_says(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = NAMES.get(key) or FIELDS[key]
    before = [dict(vars(name.get())) for name in PATCHED]
    if isinstance(row, Name):
        look_up_place = Place.look_up
        gone = set(row.places)
        monkeypatch.setattr(
            Place,
            "look_up",
            lambda self: names._ABSENT if self in gone else look_up_place(self),
        )
    else:
        monkeypatch.setattr(names, key, names.Field(ABSENT, row.use, row.example))
    lost, failed = what_is_lost()
    monkeypatch.undo()
    put_back_by_hand()
    assert [dict(vars(name.get())) for name in PATCHED] == before
    assert all(signal in row.use for signal in lost), lost
    assert not failed or "experiment" in row.use, failed


def test_nothing_is_lost_if_every_name_exists() -> None:
    assert what_is_lost() == (set(), set())


def test_graphs_keep_nothing_of_an_intervention() -> None:
    with WeakGradients() as weak:
        function = tf.function(lambda x: scaled(x) + 1.0)
        concrete = function.get_concrete_function(tf.ones(1))
        weak.after()
        assert hasattr(concrete.graph, "_tfleak_gradients")
    assert weak.failed is None
    assert not hasattr(concrete.graph, "_tfleak_gradients")
    with tf.GradientTape() as tape:
        x = tf.ones(1)
        tape.watch(x)
        y = function(x)
    assert tape.gradient(y, x).numpy().tolist() == [1.0]


def test_a_method_that_moved_to_a_base_class_is_patched_and_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = names.STATIC_TABLE.get()
    method = vars(table)["_create_resource"]
    (base,) = table.__bases__
    monkeypatch.delattr(table, "_create_resource")
    monkeypatch.setattr(base, "_create_resource", method)
    with AnonymousTables() as anonymous:
        assert lookup_table()._is_anonymous
    assert (anonymous.failed, anonymous.seen) == (None, 1)
    assert "_create_resource" not in vars(table)
    assert not lookup_table()._is_anonymous


def test_how_other_code_ends_sessions_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    session = names.SESSION.get()
    monkeypatch.setattr(session, "__del__", vars(session)["__del__"])
    probe = TensorFlowProbe(Census())
    probe.read(array("q", [MISSING] * len(probe.signals())), 0, deep=False)
    ours = vars(session)["__del__"]
    assert "pytest_tfleak" in ours.__code__.co_filename

    def theirs(session: Any) -> None:
        ours(session)

    session.__del__ = theirs
    probe.close()
    assert vars(session)["__del__"] is theirs
