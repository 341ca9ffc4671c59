"""The argument that forces a tf.function to be retraced is found."""

from __future__ import annotations

import collections
import enum
import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.diagnosis.what.retraces import count_traces
from pytest_tfleak.diagnosis.what.retraces import explain_retraces
from pytest_tfleak.diagnosis.what.retraces import made_in_loop
from pytest_tfleak.object_facts import Retrace
from pytest_tfleak.reports.retraced import why_retraced
from pytest_tfleak.reports.retraced import words_of_remade

tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")

Point = collections.namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


class Net:
    def step(self, x: Any) -> Any:
        return x

    @tf.function
    def call(self, x: Any) -> Any:
        return x


def first(x: Any, *_: Any, **__: Any) -> Any:
    return tf.reduce_sum(tf.cast(x, tf.float32))


def trace(parameters: str, calls: Any) -> Any:
    """Return a tf.function with these parameters after calls with these values."""
    code = f"lambda {parameters}: tf.constant(1.0)"
    function = tf.function(eval(code, {"tf": tf}), autograph=False)
    for call in calls:
        if isinstance(call, dict):
            function(**call)
        else:
            function(*call)
    return function


KEPT: list[Any] = []


def keep(o: Any) -> Any:
    KEPT.append(o)
    return o


ones = tf.ones
CASES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a Python int": (
        lambda: trace("x, n", [(ones([3]), n) for n in range(1, 6)]),
        "python_scalar",
        "n: 1 → 2 → 3 → …, a Python int",
    ),
    "a Python float": (
        lambda: trace("w", [(n / 4,) for n in range(3)]),
        "python_scalar",
        "w: 0.0 → 0.25 → 0.5, a Python float",
    ),
    "a Python bool": (
        lambda: trace(
            "x, training=False", [{"x": 1, "training": t} for t in (False, True)]
        ),
        "python_scalar",
        "training: False → True, a Python bool",
    ),
    "a Python str": (
        lambda: trace("mode", [(f"m{n}",) for n in range(3)]),
        "python_scalar",
        "mode: 'm0' → 'm1' → 'm2', a Python str",
    ),
    "a shape": (
        lambda: trace("x", [(ones([n]),) for n in range(1, 6)]),
        "shape",
        "x: float32[1] → float32[2] → float32[3] → …, a new shape",
    ),
    "a dtype": (
        lambda: trace("x", [(ones([], t),) for t in (tf.float32, tf.float64)]),
        "dtype",
        "x: float32[] → float64[], another dtype",
    ),
    "a variable's shape": (
        lambda: trace("v", [(tf.Variable(ones([n])),) for n in (1, 2)]),
        "shape",
        "v: Variable float32[1] → Variable float32[2], a new shape",
    ),
    "a new lambda that is gone": (
        lambda: trace("x, f", [(ones([]), lambda x: x) for _ in range(4)]),
        "object",
        "f: a new object each call, such as a lambda or a bound method",
    ),
    "a new function that is kept": (
        lambda: trace("f", [(keep(lambda x: x),) for _ in range(4)]),
        "object",
        "f: a new function object each call",
    ),
    "a new instance": (
        lambda: trace("self, x", [(keep(Net()), 1) for _ in range(4)]),
        "object",
        f"self: a new {__name__}.Net object each call",
    ),
    "a new class": (
        lambda: trace("k", [(keep(type(f"K{n}", (), {})),) for n in range(3)]),
        "object",
        "k: a new class each call",
    ),
    "a member of an enumeration": (
        lambda: trace("c", [(color,) for color in Color]),
        "object",
        f"c: a new {__name__}.Color object each call",
    ),
    "a part of a nested argument": (
        lambda: trace("batch", [({"ids": ones([n]), "mask": [1, 2]},) for n in (1, 2)]),
        "shape",
        "batch['ids']: float32[1] → float32[2], a new shape",
    ),
    "a field of a named tuple": (
        lambda: trace("p", [(Point(n, 1),) for n in range(3)]),
        "python_scalar",
        "p.x: 0 → 1 → 2, a Python int",
    ),
    "the length of a list": (
        lambda: trace("xs", [([ones([])] * n,) for n in (1, 2, 3)]),
        "structure",
        "xs: list of 1 → list of 2 → list of 3, another structure",
    ),
    "other keys of a dictionary": (
        lambda: trace("xs", [({key: ones([])},) for key in "ab"]),
        "structure",
        "xs: a dict with ['a'] → a dict with ['b'], another structure",
    ),
    "tensors and Python numbers in turn": (
        lambda: trace("x", [(ones([]),), (2,), (ones([2]),), (3,)]),
        "structure",
        "x: float32[] → 2 → float32[2] → …, another kind of argument",
    ),
    "an iterator over another shape": (
        lambda: trace(
            "it",
            [(iter(tf.data.Dataset.from_tensors(ones([n]))),) for n in (1, 2)],
        ),
        "shape",
        "it[0]: float32[1] → float32[2], a new shape",
    ),
    "two arguments at once": (
        lambda: trace("x, y", [(n, ones([n])) for n in range(1, 4)]),
        "python_scalar",
        "x: 1 → 2 → 3, a Python int; also y",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_argument_that_forces_a_retrace_is_named(name: str) -> None:
    make, sort, words = CASES[name]
    retrace = explain_retraces(make())
    assert retrace is not None
    assert why_retraced(retrace) == words
    assert retrace.sort == sort
    KEPT.clear()


def test_a_retrace_says_where_the_function_is_written() -> None:
    @tf.function
    def step(x: Any, n: int) -> Any:
        return x * float(n)

    line = step.python_function.__code__.co_firstlineno
    for n in range(4):
        step(ones([2]), n)
    assert explain_retraces(step) == Retrace(
        function="step",
        argument="n",
        values=("0", "1", "2", "…"),
        sort="python_scalar",
        reason="python-value",
        kind="int",
        file=Path(__file__).name,
        line=line,
    )


def test_earlier_traces_are_ignored() -> None:
    function = trace("x, n", [(ones([k]), 1) for k in range(1, 6)])
    since = count_traces(function)
    for n in range(2, 5):
        function(ones([1]), n)
    retrace = explain_retraces(function, since)
    assert (since, retrace and retrace.argument) == (5, "n")


def test_one_new_trace_is_compared_with_earlier_ones() -> None:
    function = trace("x", [(ones([k]),) for k in range(1, 6)])
    function(ones([6]))
    retrace = explain_retraces(function, 5)
    assert (retrace and retrace.argument, retrace and retrace.sort) == ("x", "shape")


def test_a_function_called_in_a_new_graph_each_time() -> None:
    function = trace("x", [])
    for _ in range(3):
        with tf.Graph().as_default():
            function(tf.ones([]))
    retrace = explain_retraces(function)
    assert retrace is not None
    assert why_retraced(retrace) == "it is called inside a new tf.Graph each time"
    assert retrace.sort == "context"


def test_a_function_that_makes_variables_is_traced_twice_and_no_more() -> None:
    made: list[Any] = []

    @tf.function
    def build(x: Any) -> Any:
        if not made:
            made.append(tf.Variable(1.0))
        return x * made[0]

    for _ in range(3):
        build(ones([]))
    assert explain_retraces(build) is None


def test_a_function_that_is_not_retraced_has_no_reason() -> None:
    assert explain_retraces(trace("x", [(ones([2]),)] * 3)) is None
    assert explain_retraces(trace("x", [])) is None
    assert explain_retraces(object()) is None
    assert explain_retraces(None) is None


def test_functions_made_in_a_loop_are_recognised_by_their_line() -> None:
    def make() -> Any:
        @tf.function
        def step(x: Any) -> Any:
            return x

        return step

    functions = [make() for _ in range(3)]
    [remade] = made_in_loop([*functions, tf.function(lambda x: x)])
    line = functions[0].python_function.__code__.co_firstlineno
    where = f"{Path(__file__).name}:{line}"
    assert (
        words_of_remade(remade)
        == f"tf.function is created in each call: step at {where}"
    )
    assert (remade.count, remade.file, remade.line) == (3, Path(__file__).name, line)


def test_methods_of_new_instances_are_no_functions_made_in_a_loop() -> None:
    [remade] = made_in_loop([Net().call for _ in range(3)])
    assert remade.method
    assert words_of_remade(remade).startswith(
        "a tf.function for each new instance: Net.call at"
    )
    nets = [Net() for _ in range(2)]
    [remade] = made_in_loop([tf.function(net.step) for net in nets])
    assert not remade.method
    partials = [tf.function(functools.partial(first, n)) for n in range(2)]
    [remade] = made_in_loop(partials)
    assert remade.function == "first"


def test_functions_of_keras_models_are_named_as_such() -> None:
    kept = gc.get_objects()  # kept alive, so that no id is reused
    before = {id(o) for o in kept}
    models = []
    for _ in range(2):
        models.append(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        models[-1].compile("sgd", "mse")
        models[-1].make_train_function()
    functions = [
        o
        for o in gc.get_objects()
        if id(o) not in before and type(o).__name__ == "Function"
    ]
    words = {words_of_remade(remade) for remade in made_in_loop(functions)}
    assert words == {"the train or test step of a Keras model is created in each call"}


def test_the_user_s_function_inside_a_library_s_is_named() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    kept = gc.get_objects()  # kept alive, so that no id is reused
    before = {id(o) for o in kept}

    @tf.function
    def step(x: Any, factor: float) -> Any:
        return x * factor

    for n in range(4):
        strategy.run(step, args=(ones([2]), float(n)))
    wrapped = [
        o
        for o in gc.get_objects()
        if id(o) not in before and type(o).__name__ == "Function" and o is not step
    ]
    [retrace] = filter(None, map(explain_retraces, wrapped))
    line = step.python_function.__code__.co_firstlineno
    assert (retrace.function, retrace.argument) == ("step", "factor")
    assert (retrace.file, retrace.line) == (Path(__file__).name, line)


def test_a_wrapped_function_made_in_a_loop_is_the_user_s() -> None:
    def make() -> Any:
        @tf.function
        def step(x: Any) -> Any:
            return x

        return step

    steps = [make() for _ in range(3)]
    namespace: dict[str, Any] = {}
    code = "def wrap(f):\n    def wrapped(*args):\n        return f(*args)\n"
    exec(compile(code + "    return wrapped\n", functools.__file__, "exec"), namespace)
    [remade] = made_in_loop([tf.function(namespace["wrap"](step)) for step in steps])
    assert remade.function == "step"
