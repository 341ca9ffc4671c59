"""Which kinds of objects grew, in words."""

from __future__ import annotations

from dataclasses import replace

from pytest_tfleak.diagnosis.kinds import describe
from pytest_tfleak.diagnosis.kinds import describe_left
from pytest_tfleak.verdict import Finding


def finding(signal: str, per_iteration: float = 1) -> Finding:
    return Finding(
        signal=signal,
        unit="objects",
        per_iteration=per_iteration,
        total=100,
        allowance=0,
        first=1,
        last=100,
        allow="",
    )


def kind_of(name: str) -> str | None:
    return {"tf.Tensor": "tf.tensors", "tf.Session": "tf.sessions"}.get(name)


def test_names_the_type_that_the_signal_counts() -> None:
    survivors = {"tf.Tensor": 100, "builtins.dict": 300, "app.Model": 100}
    kind, what = describe(finding("tf.tensors"), survivors, kind_of, 100)
    assert (kind, what) == ("Tensor", "1 Tensor per iteration")


def test_names_what_grew_for_memory_with_plain_types_last() -> None:
    survivors = {"builtins.dict": 300, "app.Model": 200, "tf.Tensor": 100}
    kind, what = describe(finding("host.heap"), survivors, kind_of, 100)
    assert (kind, what) == ("Tensor", "1 Tensor, 2 Model, 3 dict per iteration")


def test_shows_what_one_of_ten_iterations_leaves() -> None:
    _, what = describe(finding("tf.tensors", 0.1), {"tf.Tensor": 10}, kind_of, 100)
    assert what == "0.1 Tensor per iteration"


def test_leaves_out_what_came_with_one_call_and_what_is_ours() -> None:
    survivors = {
        "app.Model": 100,
        "app.Config": 20,
        "app.Once": 1,
        "pytest_tfleak.trace.Signal": 100,
    }
    _, what = describe(finding("host.heap"), survivors, kind_of, 100)
    assert what == "1 Model per iteration"


def test_plain_types_explain_memory_but_do_not_lead() -> None:
    survivors = {"builtins.dict": 100, "builtins.list": 200}
    blocks = replace(finding("python.blocks"), unit="blocks")
    wanted = (None, "2 list, 1 dict per iteration")
    assert describe(blocks, survivors, kind_of, 100) == wanted
    operations = replace(finding("tf.graphs.ops"), unit="operations")
    assert describe(operations, survivors, kind_of, 100) == (None, None)


def test_says_nothing_where_no_object_grew() -> None:
    assert describe(finding("host.heap"), {"app.Once": 1}, kind_of, 100) == (None, None)
    assert describe_left({}) == (None, None)


def test_names_what_is_still_there() -> None:
    left = {"tf.Graph": 1, "tf.Session": 2}
    assert describe_left(left) == ("Session", "2 Session, 1 Graph")
