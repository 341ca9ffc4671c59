"""Code that the user can type in: named as in the code, or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.places import PLACES
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import DEFAULT
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import ITEM
from pytest_tfleak.retaining_path import SUSPENDED
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.verdict import Origin
from tests.builders import from_root
from tests.builders import make_finding
from tests.builders import new
from tests.builders import path_to

SOURCE = """\
NOTE = "POOL._work keeps it"  # POOL._work
SEEN.add(asyncio.create_task(work()))
task = asyncio.create_task(work())
SEEN.append(job)
future = POOL.submit(work)
x = tf.ones([4])
SEEN[key] = Payload(key, 3)
SEEN[key] = key.payload()
SEEN[next(NUMBERS)] = key
SEEN[id(job)] = job
HOOKS["end"].append(lambda: x)
SEEN.append(array[:10])
SEEN.append(fit(x, y))
weakref.finalize(server, stop, x)
finalizer = weakref.finalize(server, stop, x)
TRAIN, PREVIEW = itertools.tee(batches())
PICKLER.dump(record)
queue.put(x)
SEEN.append(BATCH.set(x))
token = BATCH.set(x)
app.state = State(app.state)
app.head = make_head()
head(backbone.output)
make_head()(backbone.output)
atexit.register(client.close)
SEEN.append(loss / 2)
LOG.addFilter(quiet)
tf.get_logger().addFilter(lambda record: x)
make_log().addFilter(quiet)
BY_NAME.setdefault(name, []).append(job)
BY_NAME[x].append(job)
self.calls.append(job)
"""
LINES = SOURCE.splitlines()
TASK, FUTURE = "_asyncio.Task", "concurrent.futures._base.Future"
FUNCTION, METHOD = "builtins.function", "builtins.method"
RECORD, HISTORY = "logging.LogRecord", "keras.src.callbacks.history.History"
LAYER, VARIABLE = "keras.src.layers.layer.Layer", "x.ResourceVariable"
PART = Array(type="ndarray", dtype="float32", shape=(10,), is_part=True)
COROUTINE = Step(kind=SUSPENDED, name="x", types=("x.Tensor",), is_new=True)
IN_SET = path_to(TASK, container="set")
WAITING = replace(IN_SET, steps=(*IN_SET.steps, COROUTINE))
DEFAULTED = RetainingPath(
    root=Root(kind="module", name="app"),
    steps=(
        Step(kind=ATTRIBUTE, name="collect", types=(FUNCTION,)),
        Step(kind=DEFAULT, name="seen", container="list", size=9),
        new("x.Tensor"),
    ),
)
GIVEN = RetainingPath(
    root=Root(kind="parameter", name="SEEN"),
    steps=(Step(kind="value", container="list", size=9), new("x.Tensor")),
)
IN_MOCK = path_to(at="app.SEEN._mock_mock_calls")
OF_TEE = path_to("x.Tensor", at="app.TRAIN", size=None)
DEFERRED = RetainingPath(
    root=Root(kind="module", name="app"),
    steps=(
        Step(kind=ATTRIBUTE, name="net", types=("app.Net",)),
        Step(kind=ATTRIBUTE, name="_self_unconditional_deferred_dependencies"),
        Step(kind=ITEM, name="'head'", container="list", size=9),
    ),
)
RAISED_AGAIN = RetainingPath(
    root=Root(kind="module", name="app"),
    steps=(
        Step(kind=ATTRIBUTE, name="Store", types=("builtins.type",)),
        Step(kind=ATTRIBUTE, name="MISSING", role=EXCEPTION),
        Step(kind="traceback", role=EXCEPTION, is_new=True),
        new("x.Tensor"),
    ),
)
GIVE_TASK = "give it a name, such as `task`, and "


@pytest.fixture
def at(tmp_path: Path) -> Any:
    """Return a function that returns the line of a file with this text."""
    file = tmp_path / "app.py"
    file.write_text(SOURCE)

    def line(text: str) -> Origin:
        [number] = [n for n, line in enumerate(LINES, 1) if line.startswith(text)]
        whole = LINES[number - 1]
        return Origin(file=str(file), line=number, function="f", text=whole)

    return line


@pytest.mark.parametrize(
    ("place", "line", "path", "known", "code"),
    [
        ("remove", "SEEN[key] = Pay", path_to(container="dict"), {}, "`SEEN.pop(key)`"),
        ("remove", "SEEN[next", path_to(container="dict"), {}, ""),
        (
            "remove",
            "SEEN[id",
            path_to(container="dict"),
            {},
            "`SEEN.pop(id(job))`",
        ),
        ("remove", "HOOKS", path_to(at="app.SEEN"), {}, ""),
        (
            "end_task",
            "SEEN.add",
            IN_SET,
            {},
            (
                f"{GIVE_TASK}let it go when it is done: "
                "`task.add_done_callback(SEEN.discard)`"
            ),
        ),
        (
            "end_task",
            "task =",
            WAITING,
            {},
            (
                "let it go when it is done: `task.add_done_callback(SEEN.discard)`, "
                "and end it when nobody waits for it: `task.cancel()`"
            ),
        ),
        ("end_task", "x =", path_to(TASK, at="app._scheduled"), {}, ""),
        (
            "end_task",
            "x =",
            path_to(TASK, at="app._scheduled"),
            {"closers": ("cancel",)},
            f"{GIVE_TASK}end it when nobody waits for it: `task.cancel()`",
        ),
        ("end_task", "SEEN.append(job", path_to("app.Job"), {}, ""),
        (
            "end_future",
            "SEEN.append(job",
            path_to(FUTURE),
            {},
            "drop it when it is done: `job.add_done_callback(SEEN.remove)`",
        ),
        (
            "end_future",
            "future =",
            path_to(FUTURE),
            {},
            "drop it when it is done: `future.add_done_callback(SEEN.remove)`",
        ),
        ("end_future", "SEEN.append(job", path_to("app.Job"), {}, ""),
        ("end_future", "future =", path_to(FUTURE, container="dict"), {}, ""),
        (
            "unregister",
            "atexit",
            from_root("atexit", METHOD),
            {},
            "`atexit.unregister(client.close)`",
        ),
        ("unregister", "x =", from_root("atexit", METHOD), {}, ""),
        (
            "weakly",
            "SEEN[key] = Pay",
            path_to(),
            {},
            "`SEEN[key] = Payload(weakref.ref(key), 3)`",
        ),
        ("weakly", "SEEN[key] = key", path_to(), {}, ""),
        ("weakly", "SEEN[next", path_to(), {}, ""),
        (
            "default",
            "x =",
            DEFAULTED,
            {},
            "`seen=None`, and `seen = [] if seen is None else seen` as its first line",
        ),
        ("default", "x =", path_to(), {}, ""),
        ("copy_parameter", "x =", GIVEN, {}, "`SEEN = SEEN.copy()`"),
        ("copy_parameter", "x =", path_to(), {}, ""),
        (
            "copy_part",
            "SEEN.append(array",
            replace(path_to(), array=PART),
            {"held": "numpy.ndarray"},
            "`array[:10].copy()`",
        ),
        (
            "copy_part",
            "SEEN.append(array",
            replace(path_to(), array=replace(PART, is_part=False)),
            {"held": "numpy.ndarray"},
            "",
        ),
        (
            "copy_part",
            "SEEN.append(loss",
            replace(path_to(), array=PART),
            {"held": "numpy.ndarray"},
            "",
        ),
        (
            "keep_numbers",
            "SEEN.append(fit",
            path_to(HISTORY),
            {},
            "`fit(x, y).history`",
        ),
        ("keep_numbers", "SEEN.append(fit", path_to("app.Job"), {}, ""),
        ("record_text", "SEEN.append(job", path_to(RECORD), {}, "`job.getMessage()`"),
        ("record_text", "SEEN.append(job", path_to("app.Job"), {}, ""),
        (
            "detach",
            "weakref.finalize",
            path_to(),
            {},
            (
                "give it a name, such as `finalizer`, and detach it when it is no "
                "longer needed: `finalizer.detach()`"
            ),
        ),
        (
            "detach",
            "finalizer =",
            path_to(),
            {},
            "detach it when it is no longer needed: `finalizer.detach()`",
        ),
        ("detach", "x =", path_to(), {}, ""),
        (
            "remove_filter",
            "LOG.addFilter",
            path_to(),
            {},
            "take it off in a `finally`: `LOG.removeFilter(quiet)`",
        ),
        (
            "remove_filter",
            "tf.get_logger",
            path_to(),
            {},
            (
                "give it a name, such as `log_filter`, and take it off in a "
                "`finally`: `tf.get_logger().removeFilter(log_filter)`"
            ),
        ),
        ("remove_filter", "make_log", path_to(), {}, ""),
        ("remove_filter", "SEEN.append(job", path_to(), {}, ""),
        ("tees", "x =", OF_TEE, {}, "TRAIN, PREVIEW"),
        ("tees", "x =", path_to(), {}, ""),
        ("mock", "x =", IN_MOCK, {}, "SEEN"),
        ("mock", "x =", path_to(at="app.hidden._mock_mock_calls"), {}, ""),
        ("pickler", "PICKLER", path_to(), {}, "PICKLER"),
        ("pickler", "x =", path_to(), {}, ""),
        (
            "close_queue",
            "queue.put",
            from_root("threads", "threading.Thread"),
            {},
            "close it in a `finally`: `queue.close()`, `queue.join_thread()`",
        ),
        (
            "reset_variable",
            "SEEN.append(BATCH",
            path_to(),
            {},
            (
                "give it a name, such as `token`, and reset the variable in a "
                "`finally`: `BATCH.reset(token)`"
            ),
        ),
        (
            "reset_variable",
            "token =",
            path_to(),
            {},
            "reset the variable in a `finally`: `BATCH.reset(token)`",
        ),
        ("reset_variable", "x =", path_to(), {}, ""),
        (
            "cut_link",
            "app.state",
            path_to(),
            {"held": FUNCTION, "link": "previous"},
            (
                "keep what was there, and put it back in a `finally`: "
                "`previous = app.state`, then `app.state = previous`"
            ),
        ),
        (
            "cut_link",
            "SEEN.append(job",
            path_to(),
            {"held": FUNCTION},
            "put the previous one back in a `finally`",
        ),
        (
            "cut_link",
            "app.state",
            path_to(),
            {"held": "library.Tape", "link": "_parent"},
            "keep numbers of the previous object, not the object",
        ),
        (
            "cut_link",
            "app.state",
            path_to(),
            {"held": "tensorflow.python.data.ops.map_op._MapDataset"},
            (
                "keep the last parts in a `collections.deque(maxlen=10)`, and make the "
                "dataset of those, not of the previous dataset"
            ),
        ),
        (
            "raise_again",
            "x =",
            RAISED_AGAIN,
            {},
            (
                "drop the traceback of the last time when you raise it again: "
                "`raise Store.MISSING.with_traceback(None)`"
            ),
        ),
        ("raise_again", "x =", path_to(through=[new("exception")]), {}, ""),
        ("error_text", "x =", RAISED_AGAIN, {}, ""),
        (
            "register_once",
            "x =",
            path_to(FUNCTION),
            {"held": FUNCTION},
            "register once, before the loop",
        ),
        (
            "register_once",
            "x =",
            path_to(through=[new(FUNCTION), new("x.Tensor")]),
            {"held": FUNCTION},
            "",
        ),
        ("register_once", "x =", path_to(METHOD), {"held": METHOD}, ""),
        (
            "reset_weights",
            "app.head",
            path_to(LAYER),
            {},
            (
                "keep the layer and reset it: `app.head.set_weights(start)`, with "
                "`start = app.head.get_weights()` before the loop"
            ),
        ),
        (
            "reset_weights",
            "app.head",
            path_to(VARIABLE),
            {},
            "assign to it: `app.head.assign(value)`",
        ),
        ("reset_weights", "x =", path_to(LAYER), {}, ""),
        ("call_on_data", "head(", path_to(), {}, "`head(backbone(x))`"),
        ("call_on_data", "make_head()(", path_to(), {}, ""),
        ("iterated", "x =", path_to(), {"line": "it = iter(self.rows)"}, "self.rows"),
        ("iterated", "x =", path_to(), {"line": "it = iter(make())"}, ""),
        ("missing_part", "x =", DEFERRED, {}, "the `head` of the Net"),
        ("missing_part", "x =", path_to(), {}, ""),
        (
            "number",
            "SEEN.append(loss",
            path_to("x.EagerTensor"),
            {},
            "`float(loss / 2)`",
        ),
        (
            "number",
            "SEEN.append(loss",
            path_to("builtins.dict"),
            {},
            "convert it by `float()`",
        ),
        (
            "error_text",
            "SEEN.append(fit",
            path_to(through=[new("exception")]),
            {},
            "its text, `repr(fit(x, y))`",
        ),
        (
            "limit",
            "x =",
            path_to(through=[Step(kind=UNKNOWN, size=9)], size=None),
            {},
            "",
        ),
    ],
)
def test_code_has_the_names_of_the_case(
    at: Any, place: str, line: str, path: RetainingPath, known: Any, code: str
) -> None:
    stored = at(line)
    finding = make_finding(path=path, origin=stored, stored=stored)
    found = PLACES[place].find(Case(finding=finding, evidence=Evidence(**known)))
    assert found == code


def test_a_function_without_a_name_is_given_one_before_it_is_removed(at: Any) -> None:
    stored = at("HOOKS")
    path = path_to(FUNCTION, at="app.HOOKS")
    keyed = Step(kind=ITEM, name="'end'", container="list", size=9)
    start = replace(path.steps[0], container="", size=None)
    path = replace(path, steps=(start, keyed, path.steps[-1]))
    finding = make_finding(path=path, origin=stored, stored=stored)
    known = Evidence(held=FUNCTION)
    assert PLACES["remove"].find(Case(finding=finding, evidence=known)) == (
        "`HOOKS['end'].remove(callback)`, where `callback` is a name that you give it"
    )


def test_a_link_is_cut_only_in_a_class_of_the_user_s(at: Any) -> None:
    stored = at("app.state")
    finding = make_finding(path=path_to(), origin=stored, stored=stored)
    known = Evidence(held=f"{__name__}.test.<locals>.State", link="previous")
    text = PLACES["cut_link"].find(Case(finding=finding, evidence=known))
    assert "`app.state.previous = None`" in text


def test_a_container_by_key_has_the_key_of_the_line(at: Any) -> None:
    keyed = Step(kind=ITEM, name="'Message'", container="list", size=9)
    start = Step(kind=ATTRIBUTE, name="BY_NAME", types=("builtins.dict",))
    root = Root(kind="module", name="app")
    path = RetainingPath(root=root, steps=(start, keyed, new("x.Tensor")))
    for text, code in (("BY_NAME.set", "BY_NAME[name]"), ("BY_NAME[", "BY_NAME[x]")):
        stored = at(text)
        finding = make_finding(path=path, origin=stored, stored=stored)
        case = Case(finding=finding, evidence=Evidence())
        assert PLACES["container"].find(case) == code
        assert f"`del {code}[:-10]`" in PLACES["limit"].find(case)


def test_a_list_in_a_list_of_tensorflow_has_the_name_of_the_outer_one(at: Any) -> None:
    stored = at("self.calls.append")
    outer = Step(kind=ATTRIBUTE, name="calls", types=("x.ListWrapper",))
    inner = Step(kind=ITEM, name="'_storage'", container="list", size=9)
    steps = (outer, Step(kind="member"), inner, new("x.Tensor"))
    path = RetainingPath(root=Root(kind="fixture", name="layer"), steps=steps)
    finding = make_finding(path=path, origin=stored, stored=stored)
    text = PLACES["limit"].find(Case(finding=finding, evidence=Evidence()))
    assert "`del self.calls[:-10]`" in text
    other = replace(path, steps=(replace(outer, name="seen"), *steps[1:]))
    finding = make_finding(path=other, origin=stored, stored=stored)
    text = PLACES["limit"].find(Case(finding=finding, evidence=Evidence()))
    assert "self.calls" not in text


def test_a_container_that_only_a_text_names_is_not_limited(at: Any) -> None:
    stored = at("SEEN.append(job)")
    for name, is_known in (("app.SEEN", True), ("app.POOL._work", False)):
        finding = make_finding(path=path_to(at=name), origin=stored, stored=stored)
        text = PLACES["limit"].find(Case(finding=finding, evidence=Evidence()))
        assert bool(text) == is_known
