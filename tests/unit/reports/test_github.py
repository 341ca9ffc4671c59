from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.reports.document import make_document
from pytest_tfleak.reports.github import LARGEST_SUMMARY
from pytest_tfleak.reports.github import add_step_summary
from pytest_tfleak.reports.github import commands
from pytest_tfleak.reports.github import step_summary
from pytest_tfleak.reports.places import Place
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SameAs
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import make_finding
from tests.builders import make_leak

ROOT = Path("/repo").resolve()
NODEID = "tests/test_a.py::test_b"
STORED = Origin(file="src/keep.py", line=9, function="keep", text="kept.append(x)")
PLACE = Place(file=str(ROOT / "tests/test_a.py"), line=7, failed=True)


def finding(file: str | None = None, line: int = 3, **more: Any) -> Finding:
    origin = file and Origin(file=file, line=line, function="f", text="keep(x)")
    return make_finding(**({"origin": origin or None} | more))


def leak(*findings: Finding, nodeid: str = NODEID) -> Verdict:
    return make_leak(*findings, nodeid=nodeid, iterations=99)


def printed(verdict: Verdict, place: Place = PLACE) -> list[str]:
    """Return the commands for one verdict, without the text after the position."""
    document = make_document([verdict], {}, complete=True)
    lines = commands(document, {NODEID: place}, ROOT)
    return [line.partition(",title=")[0] for line in lines]


AT_TEST = "::error file=tests/test_a.py,line=7"


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([finding()], [AT_TEST]),
        ([finding(str(ROOT / "src/a.py"))], ["::error file=src/a.py,line=3"]),
        ([finding("src/a.py")], ["::error file=src/a.py,line=3"]),
        ([finding("/usr/lib/python3/site-packages/a.py")], [AT_TEST]),
        ([finding("../other/a.py")], [AT_TEST]),
        ([finding(), finding(signal="host.heap", unit="B")], [AT_TEST]),
        ([finding(), finding(signal="x", accepted=True)], [AT_TEST]),
        (
            [finding("a.py", 1), finding("b.py", 2), finding("a.py", 1, signal="x")],
            ["::error file=a.py,line=1", "::error file=b.py,line=2"],
        ),
        ([finding("a.py", stored=STORED)], ["::error file=src/keep.py,line=9"]),
        ([finding("a:1,b%.py")], ["::error file=a%3A1%2Cb%25.py,line=3"]),
    ],
)
def test_an_annotation_stands_at_the_line_that_leaks(
    findings: list[Finding], expected: list[str]
) -> None:
    assert printed(leak(*findings)) == expected


def test_tests_with_one_leak_share_an_annotation_and_a_row() -> None:
    names = [f"tests/test_a.py::test_{k}" for k in range(30)]
    verdicts = [leak(finding("a.py"), nodeid=name) for name in names]
    places = dict.fromkeys(names, PLACE)
    places[names[2]] = dataclasses.replace(PLACE, failed=False)  # an expected failure
    document = make_document(verdicts, {}, complete=True)
    [line] = commands(document, places, ROOT)
    assert line.startswith("::error file=a.py,line=3,")
    assert f"::The same leak in 28 more:%0A{names[1]}%0A{names[3]}%0A" in line
    assert "%0Aand 8 more%0A" in line
    rows = step_summary(document).splitlines()
    [row] = [row for row in rows if row.startswith("| LEAK")]
    assert row.count("<br>") == 21
    assert "<br>and 9 more |" in row


def test_a_summary_has_a_row_for_each_leak_of_a_test() -> None:
    traces = finding("src/a.py", 13, signal="tf.traces", fingerprint="2:a")
    tensors = finding("src/a.py", 14, fingerprint="2:b")
    document = make_document([leak(tensors, traces)], {}, complete=True)
    rows = [row for row in step_summary(document).splitlines() if "LEAK |" in row]
    assert ["tf.traces" in rows[0], "tf.tensors" in rows[1], len(rows)] == [1, 1, 2]


def test_an_annotation_explains_the_leak_even_if_another_test_does() -> None:
    test = SameAs(nodeid="tests/test_a.py::test_first", origin=None)
    verdict = leak(finding("a.py", why="A list keeps it."))
    document = make_document(
        [dataclasses.replace(verdict, same_as=test)], {}, complete=True
    )
    [line] = commands(document, {NODEID: PLACE}, ROOT)
    assert "A list keeps it." in line
    assert "same as" not in line


@pytest.mark.parametrize(
    ("verdict", "failed", "expected"),
    [
        (leak(finding()), False, []),  # an expected failure
        (Verdict(nodeid=NODEID, status=Status.CLEAN), True, []),
        (
            Verdict(
                nodeid=NODEID, status=Status.INCONCLUSIVE, reason=Reason.OUT_OF_TIME
            ),
            False,
            ["::warning file=tests/test_a.py,line=7"],
        ),
        (
            Verdict(
                nodeid=NODEID,
                status=Status.NOT_MEASURED,
                reason=Reason.GPU_NOT_MEASURED,
            ),
            True,
            [AT_TEST],
        ),
        (
            Verdict(
                nodeid=NODEID, status=Status.NOT_MEASURED, reason=Reason.BODY_FAILED
            ),
            True,
            [],
        ),
    ],
    ids=["expected", "clean", "inconclusive", "no gpu", "failed by itself"],
)
def test_what_does_not_fail_a_test_is_no_error(
    verdict: Verdict, failed: bool, expected: list[str]
) -> None:
    place = dataclasses.replace(PLACE, failed=failed)
    assert printed(verdict, place) == expected


def test_an_annotation_says_which_calls_have_to_fail() -> None:
    call = FailedCall(number=2, operation="MatMul", origin=STORED)
    failing = FailingCalls(count=1, total=3, first=call, last=call)
    verdict = leak(finding(failing=failing, what="1 dict per iteration"))
    document = make_document([verdict], {}, complete=True)
    (line,) = commands(document, {NODEID: PLACE}, ROOT)
    assert "call 2 of the 3 TensorFlow calls fails: MatMul at" in line
    assert "1 dict per failed call" in line


def test_a_test_without_a_line_has_its_file() -> None:
    place = dataclasses.replace(PLACE, line=None)
    assert printed(leak(finding()), place) == ["::error file=tests/test_a.py,line=1"]


@pytest.mark.parametrize("room", [2_000, 50_000])
def test_a_long_summary_is_cut_at_a_row(room: int) -> None:
    verdicts = [leak(finding(), nodeid=f"test_{k}ü") for k in range(2_000)]
    text = step_summary(make_document(verdicts, {}, complete=True), room)
    assert len(text.encode()) <= room
    *_, row, empty, last = text.splitlines()
    assert row.startswith("| LEAK | test")
    assert row.endswith(" |")
    assert empty == ""
    rows = text.count("\n| LEAK |")
    assert last == f"and {2_000 - rows} more"


def test_a_summary_goes_behind_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    document = make_document([leak(finding())], {}, complete=True)
    add_step_summary(document, path)
    add_step_summary(document, path)
    assert path.read_text("utf-8") == step_summary(document) * 2


def test_a_summary_that_is_full_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_bytes(b"x" * LARGEST_SUMMARY)
    add_step_summary(make_document([leak(finding())], {}, complete=True), path)
    assert path.stat().st_size == LARGEST_SUMMARY
