"""Findings of several tests that are one leak, and those that only look like one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_tfleak.reports.leaks import Leak
from pytest_tfleak.reports.leaks import entries_by_leak
from pytest_tfleak.reports.leaks import group_by_leak
from pytest_tfleak.reports.leaks import leaks_in
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import fingerprint
from tests.builders import NOBODY
from tests.builders import in_frame
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_verdict
from tests.builders import new
from tests.builders import path_to

TENSOR = "tensorflow.python.framework.ops.EagerTensor"
HELD = path_to(TENSOR, at="app.cache.HISTORY")


def at(line: int, file: str = "app/cache.py") -> Origin:
    return Origin(file=file, line=line, function="f", text="")


def found(
    path: RetainingPath | None = None, line: int | None = None, **more: Any
) -> Finding:
    origin = None if line is None else at(line)
    digest = "2:a" if path is None else fingerprint(*path.place)
    fields: dict[str, Any] = {"path": path, "origin": origin, "fingerprint": digest}
    return make_finding(**(fields | more))


def leaking(*tests: tuple[Finding, ...]) -> list[Verdict]:
    """Return the verdicts of tests a, b, c and so on, with these findings."""
    names = "abcdef"
    return [make_leak(*f, nodeid=names[k]) for k, f in enumerate(tests)]


def names_of(leaks: list[Leak]) -> list[str]:
    return ["".join(leak.tests) for leak in leaks]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (found(HELD), found(path_to(TENSOR, at="app.cache.HISTORY", size=99))),
        (found(HELD, 1), found(HELD, 2)),
        (found(HELD, per_iteration=1.0), found(HELD, per_iteration=4.0)),
        (found(NOBODY, 7, kind="X"), found(NOBODY, 7, kind="X")),
        (found(line=7), found(line=7)),
        (found(in_frame("kept", "run"), 7), found(in_frame("kept", "run"), 7)),
    ],
    ids=["holder", "two lines", "two rates", "native", "line", "frame"],
)
def test_same_holder_or_line_and_kind_is_one_leak(one: Finding, other: Finding) -> None:
    assert names_of(group_by_leak(leaking((one,), (other,)))) == ["ab"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (found(HELD), found(path_to(TENSOR, at="app.cache.HISTORY2"))),
        (found(HELD), found(path_to("app.Model", at="app.cache.HISTORY"))),
        (found(line=7), found(line=8)),
        (found(line=7, kind="X"), found(line=7, kind="Y")),
        (found(NOBODY), found(NOBODY)),
        (found(), found()),
        (found(in_frame("kept", "run")), found(in_frame("kept", "run"))),
        (found(in_frame("kept", "test_a"), 7), found(in_frame("kept", "test_b"), 7)),
        (
            found(path_to(TENSOR, at="keras.REGISTRY", is_library=True), 7),
            found(path_to(TENSOR, at="keras.REGISTRY", is_library=True), 8),
        ),
    ],
    ids=[
        "another list",
        "another type",
        "another line",
        "another kind",
        "no line",
        "unexplained",
        "a frame without a line",
        "another frame",
        "a library's registry",
    ],
)
def test_what_may_be_another_mistake_is_another_leak(
    one: Finding, other: Finding
) -> None:
    assert names_of(group_by_leak(leaking((one,), (other,)))) == ["a", "b"]


def test_memory_belongs_to_the_objects_that_use_it() -> None:
    heap = found(signal="host.heap", unit="B", fingerprint="2:b")
    elsewhere = replace(heap, origin=at(3, "lib.py"))
    leaks = group_by_leak(leaking((heap, found(HELD)), (elsewhere, found(HELD))))
    assert names_of(leaks) == ["ab"]
    assert leaks[0].fingerprint == fingerprint(*HELD.place)
    assert [f.signal for f in leaks[0].verdicts[1].findings] == [
        "tf.tensors",
        "host.heap",
    ]
    assert names_of(group_by_leak(leaking((heap,), (heap,)))) == ["a", "b"]


def test_what_an_object_holds_is_no_leak_of_its_own() -> None:
    variable = found(path_to("app.Variable", at="app.MODELS"), signal="tf.variables")
    handle = path_to(TENSOR, at="app.MODELS", through=[new("app.Variable")])
    inner = found(handle, fingerprint=variable.fingerprint)
    assert len(group_by_leak(leaking((variable, inner)))) == 1


def test_a_test_with_two_leaks_is_in_both() -> None:
    other = found(path_to("app.Model", at="app.MODELS"), signal="tf.variables")
    verdicts = leaking((found(HELD), other), (found(HELD),), (other,))
    assert set(names_of(group_by_leak(verdicts))) == {"ab", "ac"}


def test_a_list_shows_what_fails_one_test_only_once() -> None:
    other = found(path_to("app.Model", at="app.MODELS"), signal="tf.variables")
    alone = leaking((found(HELD), other), (found(line=4),))
    assert names_of(group_by_leak(alone)) == ["a", "a", "b"]
    entries = entries_by_leak(alone)
    assert names_of(entries) == ["a", "b"]
    assert set(entries[0].verdicts[0].findings) == {found(HELD), other}


def test_tests_that_do_not_fail_have_no_leak() -> None:
    accepted = replace(found(HELD), accepted=True)
    verdicts = [
        make_verdict(Status.CLEAN, findings=(accepted,)),
        make_verdict(Status.INCONCLUSIVE, findings=(found(HELD),)),
    ]
    assert group_by_leak(verdicts) == []
    assert entries_by_leak(verdicts) == []


def test_a_test_that_is_measured_twice_is_named_once() -> None:
    twice = make_leak(found(HELD))
    [leak] = group_by_leak([twice, twice])
    assert (len(leak.verdicts), leak.tests) == (2, (twice.nodeid,))


OTHER = path_to(TENSOR, at="app.cache.OTHERS")
FILE = path_to("_io.FileIO", at="app.LOGS")
HEAP: dict[str, Any] = {"signal": "host.heap", "unit": "B", "per_iteration": 9_000.0}


def signals_in(*findings: Finding) -> list[list[str]]:
    return [[one.signal for one in leak] for leak in leaks_in(findings)]


@pytest.mark.parametrize(
    "other",
    [
        found(FILE, 4, signal="process.fds"),
        found(line=4, signal="process.fds", fingerprint="2:b"),
        found(signal="process.fds", fingerprint="2:b"),
        found(signal="tf.tapes", fingerprint="2:b"),
        found(signal="db.handles", fingerprint="2:b"),
        found(OTHER, 4),
        found(OTHER, 4, python_bytes=8_000.0, **HEAP),
        found(signal="host.heap", unit="B", known="eager-kernel-cache"),
    ],
    ids=[
        "files",
        "files without a holder",
        "files without an answer",
        "an open tape",
        "another package's",
        "another list",
        "arrays",
        "known growth",
    ],
)
def test_another_holder_or_line_is_another_leak_of_the_test(other: Finding) -> None:
    assert sorted(map(len, leaks_in([found(HELD, 7), other]))) == [1, 1]


@pytest.mark.parametrize(
    "other",
    [
        found(HELD, 8, signal="tf.variables"),
        found(line=7, signal="tf.variables"),
        found(signal="tf.registered_functions", fingerprint="2:b"),
        found(signal="process.threads", fingerprint="2:b"),
        found(OTHER, 4, python_bytes=100.0, **HEAP),
        found(fingerprint="2:b", python_bytes=8_000.0, **HEAP),
    ],
    ids=[
        "the same list",
        "the same line",
        "no answer",
        "native threads",
        "memory that others explain",
        "memory",
    ],
)
def test_what_comes_along_is_no_leak_of_its_own(other: Finding) -> None:
    assert len(leaks_in([found(HELD, 7), other])) == 1


def test_memory_belongs_to_the_leak_whose_objects_use_it() -> None:
    memory = found(OTHER, python_bytes=8_000.0, **HEAP)
    two = (found(HELD, 7), found(OTHER, 9, signal="tf.variables"))
    assert signals_in(*two, memory) == [["tf.variables", "host.heap"], ["tf.tensors"]]


def test_what_a_variable_of_a_leaked_thread_holds_belongs_to_the_thread() -> None:
    threads = found(path_to("threading.Thread"), 3, signal="process.threads")
    memory = found(in_frame("self", "loop", "feeder"), 9, python_bytes=8_000.0, **HEAP)
    assert len(leaks_in([threads, memory])) == 1
    assert len(leaks_in([threads, replace(memory, path=OTHER)])) == 2


def test_the_object_that_is_held_leads_before_those_inside_it() -> None:
    function = found(path_to("app.Function"), kind="app.Function")
    function = replace(function, signal="tf.functions")
    inside = path_to("app.Graph", through=[new("app.Function"), new("app.Graph")])
    graph = found(inside, kind="app.Graph", fingerprint=function.fingerprint)
    graph = replace(graph, signal="tf.graphs")
    assert signals_in(graph, function) == [["tf.functions", "tf.graphs"]]
    apart = replace(graph, fingerprint="2:b")
    assert signals_in(apart, function)[0][0] == "tf.graphs"


def test_known_growth_at_the_place_of_a_leak_is_part_of_it() -> None:
    lead = found(HELD, 1, signal="tf.traces")
    heap = {"signal": "host.heap", "unit": "B", "known": "eager-kernel-cache"}
    assert leaks_in([lead, found(HELD, 1, **heap)]) == [[lead, found(HELD, 1, **heap)]]
    assert len(leaks_in([lead, found(HELD, 2, **heap)])) == 2
    assert len(leaks_in([lead, found(None, 1, **heap)])) == 2
