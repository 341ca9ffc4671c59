from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pytest_tfleak.reports.document import document_entry
from pytest_tfleak.reports.document import make_document
from pytest_tfleak.reports.document import prepare
from pytest_tfleak.reports.document import sendable
from pytest_tfleak.reports.document import write_file
from pytest_tfleak.reports.json import read_schema
from pytest_tfleak.reports.json import render
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Verdict
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_report
from tests.builders import path_to

LINE = Origin(file="/a/b.py", line=3, function="f", text="keep(x)")
FINDING = make_finding(
    per_iteration=1.5,
    total=99,
    fingerprint="abc",
    path=path_to(),
    origin=LINE,
    stack=(LINE,),
    stored=LINE,
    native=("f",),
    python_bytes=1.0,
    experiments=(Experiment(name="with less", per_iteration=0.5),),
    baseline="new",
)
SIGNAL = make_report(series=(1, None, 2**40))
VERDICT = make_leak(FINDING, iterations=100, signals=(SIGNAL,), notes=("a note",))
ENVIRONMENT = {
    "python": "CPython 3.11.7",
    "pytest": "9.2.0",
    "tensorflow": None,
    "keras": None,
    "numpy": None,
    "psutil": None,
    "platform": "Linux",
    "cpus": 2,
    "gpu": ["GPU:0 A card"],
    "lacks": ["tensorflow.python.framework.ops.Graph (tf.graphs)"],
}


class TestDocument:
    def test_is_what_the_schema_describes(self) -> None:
        document = make_document([VERDICT], ENVIRONMENT, complete=True)
        Draft202012Validator(read_schema()).validate(json.loads(render(document)))
        assert json.loads(render(document)) == document

    def test_has_each_leak_once_with_its_tests(self) -> None:
        document = make_document(
            [VERDICT, dataclasses.replace(VERDICT, nodeid="other")],
            ENVIRONMENT,
            complete=True,
        )
        [leak] = document["leaks"]
        assert leak["tests"] == [VERDICT.nodeid, "other"]
        assert leak["fingerprint"] == VERDICT.findings[0].fingerprint
        assert leak["holder"] == document["tests"][0]["findings"][0]["holder"]
        Draft202012Validator(read_schema()).validate(json.loads(render(document)))

    def test_has_every_field_of_a_verdict_in_its_schema(self) -> None:
        definitions = read_schema()["$defs"]
        for kind, name in (
            (Verdict, "test"),
            (SignalReport, "signal"),
            (Finding, "finding"),
            (Origin, "line"),
            (RetainingPath, "path"),
            (Step, "step"),
            (Array, "array"),
        ):
            fields = {field.name for field in dataclasses.fields(kind)}
            fields |= {"holder", "cause_page"} if kind is Finding else set()  # as texts
            assert set(definitions[name]["properties"]) == fields
            assert set(definitions[name]["required"]) == fields

    def test_an_entry_can_be_turned_back_into_the_verdict(self) -> None:
        entry = document_entry(VERDICT)
        assert Verdict.from_dict({"schema": 1, **entry}) == VERDICT

    @pytest.mark.parametrize("figure", [float("nan"), float("inf"), -float("inf")])
    def test_has_null_for_what_is_no_number(self, figure: float) -> None:
        signal = dataclasses.replace(SIGNAL, per_iteration=figure)
        entry = document_entry(dataclasses.replace(VERDICT, signals=(signal,)))
        assert entry["signals"][0]["per_iteration"] is None

    def test_has_one_line_for_each_test(self) -> None:
        text = render(make_document([VERDICT, VERDICT], ENVIRONMENT, complete=True))
        assert sum(line.startswith('{"nodeid"') for line in text.splitlines()) == 2


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_sent_and_is_kept_where_it_can_be(text: str) -> None:
    (sent,) = sendable((text,))
    data = sent.encode("utf-8")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        assert "\\ud" in sent
    else:
        assert data.decode("utf-8") == text


class TestFile:
    def test_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "report"
        write_file(path, "old")
        write_file(path, "new\n")
        assert path.read_bytes() == b"new\n"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_stays_where_writing_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        path = tmp_path / "report"
        path.write_text("old")

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        # in Python 3.10, Path keeps its own references to functions of os
        monkeypatch.setattr(Path if step == "replace" else os, step, fail)
        with pytest.raises(OSError, match="No space"):
            write_file(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(sys.platform == "win32", reason="modes are as on POSIX")
    def test_is_never_less_private_than_the_old_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "report"
        path.touch(0o600)
        modes: list[int] = []
        monkeypatch.setattr(
            os, "fsync", lambda file: modes.append(os.fstat(file).st_mode & 0o777)
        )
        for mode in (0o600, 0o644):
            path.chmod(mode)
            write_file(path, "new")
            assert path.stat().st_mode & 0o777 == mode
        assert modes == [0o600, 0o600]

    def test_is_tried_without_a_trace(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "report"
        prepare(path)
        assert list(path.parent.iterdir()) == []

    @pytest.mark.skipif(not Path("/dev/null").exists(), reason="no /dev/null")
    def test_that_is_a_device_stays_one(self) -> None:
        prepare(Path("/dev/null"))
        write_file(Path("/dev/null"), "x")
        assert Path("/dev/null").is_char_device()


needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a FIFO")


@needs_fifo
def test_a_pipe_is_written_once_somebody_reads_it(tmp_path: Path) -> None:
    pipe, text = tmp_path / "pipe", "x" * 300_000  # more than a pipe holds
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    timer = threading.Timer(0.1, reader.start)
    timer.start()
    write_file(pipe, text)
    timer.join()
    reader.join()
    assert read == [text]
    assert pipe.is_fifo()


@needs_fifo
@pytest.mark.parametrize("reads", [False, True])
def test_a_pipe_that_nobody_reads_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    monkeypatch.setattr("pytest_tfleak.reports.document.PATIENCE", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if reads else None
    with pytest.raises(TimeoutError, match="nobody reads this pipe"):
        write_file(pipe, "x" * 300_000)
    if reader is not None:
        os.close(reader)
