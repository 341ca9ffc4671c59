"""Code that repeats a call of the user's: the call as it is written, or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.places import PLACES
from pytest_tfleak.verdict import Origin
from tests.builders import make_finding
from tests.builders import path_to

SOURCE = """\
@tf.function
def step(self, x, other=None, *, mode=0): ...
s = v1.Session(graph=graph)
v1.InteractiveSession(graph=graph).run(y)
self.session = tf.compat.v1.Session()
KEPT.append(MonitoredSession())
with v1.Session() as here:
    v1.Session(target)
sess = v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(device_count={"CPU": 2}))
step(image, lambda v: v + 1)
step(next(count))
step(n, mode=n)
step(values, values)
step(images, [images] * n)
step(images, (images, n))
step(*images)
doubled = tf.function(lambda x: x * 2.0)
FUNCTIONS[n] = tf.function(work)
KEPT.append(tf.saved_model.load(folder))
concrete = work.get_concrete_function(spec)
KEPT.append(x)
log = logging.getLogger(f"app.{n}")
LOGS.append(logging.getLogger("app"))
def connect(graph):
    opened = v1.Session(graph=graph)
    return opened
def reconnect(graph):
    return v1.Session(graph=graph)
CACHE[connect] = connect(graph)
CACHE[reconnect] = reconnect(graph)
def train(x):
    made = tf.function(lambda x: x)
    made(x)
sess.run(w.assign(2.0))
_, value = sess.run(optimizer.minimize(loss))
tf.compat.v1.train.Saver([w]).restore(sess, path)
sess.run(loss)
tf.add(x, 1.0)
def prompt(graph):
    asked = v1.InteractiveSession(graph=graph)
    return asked
prompt(graph)
def factory(graph):
    shared = v1.Session(graph=graph)
    return shared, graph
rows = tf.py_function(decode, [path, 3], tf.float32)
tf.py_function(lambda x: x, [path], tf.float32)
tf.py_function(decode, inputs, tf.float32)
steps["step"](image, lambda v: v * 3)
"""
LINES = SOURCE.splitlines()
INTEGERS = "`@tf.function(input_signature=[tf.TensorSpec([], tf.int32)])`"


@pytest.fixture
def at(tmp_path: Path) -> Any:
    """Return a function that returns the line of a file with this text."""
    file = tmp_path / "app.py"
    file.write_text(SOURCE)

    def line(text: str) -> Origin:
        [number] = [n for n, line in enumerate(LINES, 1) if line.startswith(text)]
        return Origin(file=str(file), line=number, function="f", text=LINES[number - 1])

    return line


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("rows =", "`decode(path, 3)`"),
        ("tf.py_function(lambda", ""),
        ("tf.py_function(decode, inputs", ""),
        ("sess.run(loss)", ""),
    ],
)
def test_what_py_function_calls_is_called_itself(at: Any, line: str, code: str) -> None:
    finding = make_finding(origin=at(line))
    case = Case(finding=finding, evidence=Evidence())
    assert PLACES["call_itself"].find(case) == code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("s =", "use a with statement: `with v1.Session(graph=graph) as s: ...`"),
        (
            "v1.Inter",
            "use a with statement: `with v1.Session(graph=graph) as session: ...`",
        ),
        ("self.session", "close it when you are done with it: `self.session.close()`"),
        (
            "KEPT.append(Mon",
            "use a with statement: `with MonitoredSession() as session: ...`",
        ),
        ("with v1", "use a with statement: `with v1.Session() as session: ...`"),
        ("sess =", ""),  # too long to repeat
        (
            "step(values",
            "use a with statement: `with tf.compat.v1.Session() as session: ...`",
        ),
    ],
)
def test_a_session_is_closed_under_the_call_that_opens_it(
    at: Any, line: str, code: str
) -> None:
    assert filled("end_session", at(line)) == code


def test_a_session_that_is_returned_is_closed_where_it_is_used(at: Any) -> None:
    for text, name in (("    opened =", "connect"), ("    return v1", "reconnect")):
        made = replace(at(text), function=name)
        used = at(f"CACHE[{name}")
        code = f"use a with statement: `with {name}(graph) as session: ...`"
        assert filled("end_session", made, stored=used) == code
        assert filled("end_session", made, stack=(used,)) == code


def test_an_interactive_session_has_no_with_statement(at: Any) -> None:
    made = replace(at("    asked ="), function="prompt")
    code = "close it in a `finally`: `session = prompt(graph)`, `session.close()`"
    assert filled("end_session", made, stack=(at("prompt(graph)"),)) == code


def test_a_session_that_is_returned_with_others_is_closed_by_its_name(at: Any) -> None:
    made = at("    shared =")
    code = "close it when you are done with it: `shared.close()`"
    assert filled("end_session", made) == code


def test_a_session_has_the_name_of_the_code(at: Any) -> None:
    assert filled("session", at("s =")) == "s"
    assert filled("session", at("self.session")) == "self.session"
    assert filled("session", at("v1.Inter")) == "session"


def test_the_line_that_puts_a_session_away_is_left_out(at: Any) -> None:
    kept = path_to("x.Session", at="app.KEPT")
    stored = at("KEPT.append(x")
    assert filled("not_kept", at("s ="), path=kept, stored=stored) == (
        "leave out `KEPT.append(x)`"
    )
    assert filled("not_kept", at("s ="), path=kept) == ""
    assert filled("not_kept", stored, path=kept, stored=stored) == ""


@pytest.mark.parametrize(
    ("place", "line", "code"),
    [
        ("function_once", "doubled", "`doubled = tf.function(lambda x: x * 2.0)`"),
        ("function_once", "FUNC", "`step = tf.function(work)`"),
        ("function_once", "step(values", ""),
        ("function_once", "    made(x)", "`made = tf.function(lambda x: x)`"),
        (
            "concrete_once",
            "concrete",
            "`concrete = work.get_concrete_function(spec)`",
        ),
        ("unnamed_logger", "log =", "`log = logging.Logger(f'app.{n}')`"),
        ("unnamed_logger", "LOGS", ""),
        ("loaded_once", "KEPT.append(tf", "`model = tf.saved_model.load(folder)`"),
    ],
)
def test_what_is_made_once_is_made_by_the_line(
    at: Any, place: str, line: str, code: str
) -> None:
    assert filled(place, at(line)) == code


@pytest.mark.parametrize(
    ("place", "line", "argument", "code"),
    [
        ("as_tensor", "step(next", "x", "`tf.constant(next(count))`"),
        ("as_tensor", "step(n,", "mode", "`tf.constant(n)`"),
        ("as_tensor", "KEPT.append(x", "x", "`tf.constant(x)`"),
        ("as_tensor", "step(*", "x", "`tf.constant(x)`"),
        (
            "pass_once",
            "step(image,",
            "other",
            "`other = lambda v: v + 1` before the loop, `step(image, other)` in it",
        ),
        (
            "pass_once",
            'steps["step"]',
            "other",
            (
                "`other = lambda v: v * 3` before the loop, "
                "`steps['step'](image, other)` in it"
            ),
        ),
        ("pass_once", "step(values", "other", "make `values` before the loop"),
        ("pass_once", "step(next", "other", "make `other` before the loop"),
        ("pass_once", "step(n,", "mode", "make `n` before the loop"),
        ("stacked", "step(images, [", "other", "`numpy.stack([images] * n)`"),
        ("stacked", "step(images, (", "other", ""),
        ("stacked", "step(*", "x", ""),
    ],
)
def test_what_is_passed_is_what_the_line_passes(
    at: Any, place: str, line: str, argument: str, code: str
) -> None:
    known = Evidence(function="Model.step", argument=argument)
    assert filled(place, at(line), known=known) == code


@pytest.mark.parametrize(
    ("line", "made", "run"),
    [
        ("sess.run(w", "operation = w.assign(2.0)", "sess.run(operation)"),
        (
            "_, value",
            "operation = optimizer.minimize(loss)",
            "sess.run(operation)",
        ),
        (
            "tf.compat.v1.train",
            "made = tf.compat.v1.train.Saver([w])",
            "made.restore(sess, path)",
        ),
    ],
)
def test_what_a_line_adds_to_a_graph_is_made_once(
    at: Any, line: str, made: str, run: str
) -> None:
    code = f"`{made}` before the loop, `{run}` in it"
    assert filled("built_once", at(line)) == code


@pytest.mark.parametrize("line", ["sess.run(loss)", "tf.add", "    return v1"])
def test_a_line_that_runs_what_there_is_cannot_be_two(at: Any, line: str) -> None:
    assert filled("built_once", at(line)) == ""


def test_an_integer_may_have_to_be_a_float(at: Any) -> None:
    known = Evidence(function="step", argument="x")
    assert filled("as_tensor", at("step(n,"), known=known, declared=INTEGERS) == (
        "`tf.constant(n)` (or `tf.constant(n, tf.float32)` where it meets floats)"
    )


def test_a_function_that_a_library_wraps_is_wrapped_by_the_user(at: Any) -> None:
    line = at("KEPT.append(x")
    for function, code in (
        ("step", "`step = tf.function(step)`"),
        ("Model.step", ""),
        ("<lambda>", ""),
    ):
        assert filled("function_once", line, known=Evidence(function=function)) == code


def test_a_signature_comes_first_if_it_is_whole(at: Any) -> None:
    reduces = "`@tf.function(reduce_retracing=True)`"
    whole = "`@tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])`"
    part = "`@tf.function(input_signature=[...])` for all arguments"
    line = at("KEPT.append(x")
    assert filled("open_shape", line) == reduces
    assert filled("open_shape", line, declared=whole) == f"{whole}; or {reduces}"
    assert filled("open_shape", line, declared=part) == f"{reduces}; or {part}"


def filled(
    place: str,
    origin: Origin,
    known: Evidence | None = None,
    declared: str = "",
    **finding: Any,
) -> str:
    """Return what a place stands for, for a finding at a line."""
    found = make_finding(origin=origin, **finding)
    case = Case(finding=found, evidence=known or Evidence(), declared=declared)
    return PLACES[place].find(case)
