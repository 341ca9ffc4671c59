from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.verdict import SCHEMA
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import FaultSummary
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import is_explained
from tests.builders import make_finding
from tests.builders import make_report

numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**62), 2**62)

signals = st.builds(
    SignalReport,
    name=st.text(),
    unit=st.text(),
    status=st.sampled_from(["measured", "unavailable", "untrusted"]),
    reason=st.none() | st.text(),
    per_iteration=st.none() | numbers,
    total=st.none() | integers,
    allowance=st.none() | numbers,
    decides=st.booleans(),
    series=st.lists(st.none() | integers, max_size=5).map(tuple),
    code=st.none() | st.text(),
)
experiments = st.builds(Experiment, name=st.text(), per_iteration=numbers)
texts = st.lists(st.text(), max_size=3).map(tuple)
origins = st.builds(
    Origin, file=st.text(), line=integers, function=st.text(), text=st.text()
)
FAILING = FailingCalls(
    count=2,
    total=3,
    first=FailedCall(number=1, operation="MatMul", origin=None),
    last=FailedCall(
        number=2,
        operation="Sum",
        origin=Origin(file="app.py", line=1, function="f", text="x"),
    ),
)
roots = st.builds(
    Root,
    kind=st.text(),
    name=st.text(),
    thread=st.text(),
    is_library=st.booleans(),
    size=st.none() | integers,
)
steps = st.builds(
    Step,
    kind=st.text(),
    name=st.text(),
    function=st.text(),
    file=st.text(),
    line=integers,
    types=texts,
    role=st.text(),
    is_new=st.booleans(),
    container=st.text(),
    size=st.none() | integers,
    store=st.text(),
    is_shown=st.booleans(),
)
arrays = st.builds(
    Array,
    type=st.text(),
    dtype=st.text(),
    shape=st.none() | st.lists(st.none() | integers, max_size=3).map(tuple),
)
paths = st.builds(
    RetainingPath,
    root=roots,
    steps=st.lists(steps, max_size=3).map(tuple),
    target=st.text(),
    array=st.none() | arrays,
    in_native_part=st.booleans(),
)
findings = st.builds(
    Finding,
    signal=st.text(),
    unit=st.text(),
    per_iteration=st.none() | numbers,
    total=integers,
    allowance=numbers,
    first=integers,
    last=integers,
    allow=st.text(),
    kind=st.none() | st.text(),
    what=st.none() | st.text(),
    fingerprint=st.none() | st.text(),
    path=st.none() | paths,
    origin=st.none() | origins,
    stack=st.lists(origins, max_size=3).map(tuple),
    stored=st.none() | origins,
    native=st.none() | texts,
    python_bytes=st.none() | numbers,
    known=st.none() | st.text(),
    accepted=st.booleans(),
    baseline=st.none() | st.text(),
    ignored=st.none() | st.text(),
    experiments=st.lists(experiments, max_size=3).map(tuple),
    cause=st.none() | st.text(),
    why=st.none() | st.text(),
    advice=st.none() | st.text(),
    failing=st.sampled_from([None, FAILING]),
)
verdicts = st.builds(
    Verdict,
    nodeid=st.text(),
    status=st.sampled_from(Status),
    reason=st.none() | st.sampled_from(Reason),
    detail=st.none() | st.text(),
    iterations=integers,
    confirmation=integers,
    warmup=integers,
    seconds=numbers,
    body_seconds=numbers,
    signals=st.lists(signals, max_size=3).map(tuple),
    findings=st.lists(findings, max_size=3).map(tuple),
    notes=st.lists(st.text(), max_size=3).map(tuple),
    faults=st.sampled_from([None, FaultSummary(calls=3, failed=2, error="A")]),
)


def types_in(value: Any) -> set[type]:
    """Return the types of all values in nested builtins."""
    if type(value) is dict:
        return {dict}.union(*map(types_in, [*value, *value.values()]))
    if type(value) is list:
        return {list}.union(*map(types_in, value))
    return {type(value)}


@given(verdicts)
def test_from_dict_undoes_to_dict(verdict: Verdict) -> None:
    assert Verdict.from_dict(verdict.to_dict()) == verdict


@given(verdicts)
def test_a_verdict_survives_json(verdict: Verdict) -> None:
    text = json.dumps(verdict.to_dict(), allow_nan=False)
    assert Verdict.from_dict(json.loads(text)) == verdict


@given(verdicts)
def test_a_dict_holds_builtins_only(verdict: Verdict) -> None:
    allowed = {dict, list, str, int, float, bool, type(None)}
    assert types_in(verdict.to_dict()) <= allowed


def test_figures_of_other_libraries_become_builtins() -> None:
    class Float(float):
        """Stand in for numpy.float64, which is a float too."""

    class Text(str):
        """Stand in for numpy.str_, which is a str too."""

        __slots__ = ()

    finding = make_finding("my.signal", Float(1), allowance=Float(0))
    verdict = Verdict(
        nodeid="", status=Status.LEAK, findings=(finding,), notes=(Text("x"),)
    )
    data = verdict.to_dict()
    assert types_in(data) == {dict, list, str, int, float, bool, type(None)}
    assert data["notes"] == ["x"]


def test_the_words_of_a_dict_are_stable() -> None:
    assert [status.value for status in Status] == [
        "clean",
        "leak",
        "inconclusive",
        "not_measured",
    ]
    verdict = Verdict(nodeid="t", status=Status.NOT_MEASURED, reason=Reason.DISABLED)
    data = verdict.to_dict()
    assert list(data) == ["schema", *(f.name for f in dataclasses.fields(Verdict))]
    assert (data["schema"], data["status"]) == (1, "not_measured")
    assert data["reason"] == "disabled"


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, None, str(SCHEMA)])
def test_another_schema_is_refused(schema: object) -> None:
    data = {**Verdict(nodeid="", status=Status.CLEAN).to_dict(), "schema": schema}
    with pytest.raises(ValueError, match=f"has schema {schema!r}, expected {SCHEMA}$"):
        Verdict.from_dict(data)


def test_a_dict_without_a_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema None"):
        Verdict.from_dict({})


def test_from_dict_leaves_its_argument_alone() -> None:
    data = Verdict(nodeid="t", status=Status.CLEAN, notes=("n",)).to_dict()
    before = json.dumps(data)
    Verdict.from_dict(data)
    assert json.dumps(data) == before


@pytest.mark.parametrize("status", Status)
def test_a_verdict_has_no_truth_value(status: Status) -> None:
    with pytest.raises(TypeError, match=r"compare verdict\.status"):
        bool(Verdict(nodeid="", status=status))


def test_a_signal_is_found_by_name() -> None:
    report = make_report("host.heap", None, reason="musl")
    verdict = Verdict(nodeid="", status=Status.CLEAN, signals=(report,))
    assert verdict.signal("host.heap") is report
    with pytest.raises(KeyError, match=r"host\.rss"):
        verdict.signal("host.rss")


@pytest.mark.parametrize(
    ("known", "left", "explained"),
    [
        (None, [], False),
        (None, [0.0], False),
        ("a-cause", [900.0, 10.0], True),
        ("a-cause", [900.0], False),
        ("a-cause", [], False),
    ],
)
def test_growth_is_explained_if_little_is_left_without_its_cause(
    known: str | None, left: list[float], explained: bool
) -> None:
    experiments = tuple(Experiment(name="x", per_iteration=rate) for rate in left)
    finding = make_finding(
        "host.heap", 5000.0, allowance=100.0, known=known, experiments=experiments
    )
    assert is_explained(finding) is explained
