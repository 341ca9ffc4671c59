"""A file that anybody may have written does no harm: it is read, or refused."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given

from pytest_tfleak.__main__ import main
from pytest_tfleak.compare import documents
from pytest_tfleak.compare.baseline import BaselineError
from pytest_tfleak.compare.baseline import baseline_text
from pytest_tfleak.compare.baseline import read_baseline
from pytest_tfleak.compare.documents import DocumentError
from pytest_tfleak.compare.documents import read_document
from pytest_tfleak.compare.reports import compare_reports
from pytest_tfleak.compare.reports import comparison_lines
from pytest_tfleak.compare.reports import read_report
from pytest_tfleak.reports.document import make_document
from pytest_tfleak.reports.json import render
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import has_its_types
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_report
from tests.builders import path_to
from tests.strategies import forged
from tests.strategies import values
from tests.strategies import verdicts

LEAK = make_leak(
    make_finding(path=path_to(), fingerprint="2:1", kind="app.Thing"),
    signals=(make_report(series=(1, 2, None, 4)),),
)
REPORT = make_document([LEAK], {"python": "CPython", "lacks": ["a"]}, complete=True)
BASELINE = json.loads(baseline_text([LEAK]))
HEAD = '{"journal":1,"place":[],"pid":1,"created":1.0,"rootdir":"/"}\n'


def read(path: Path) -> dict[str, Any]:
    return read_document(path, what="a report", schema=1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"schema": 1, "a": 1, "a": 2}', "an object has the key 'a' twice"),
        ('{"schema": 1, "a": [{"\\u001b": 1, "\\u001b": 1}]}', r"key '\x1b' twice"),
        ('{"schema": 1, "a": ' + "[" * 200 + "]" * 200 + "}", "nested too deeply"),
        ("[" * 200_000, "is not JSON"),
        ('{"a":' * 200_000, "is not JSON"),
        ('{"schema": 1, "a": -Infinity}', "-Infinity is not a number"),
        ('{"schema": ' + "9" * 300 + "}", 'it has no "schema" number'),
    ],
)
def test_what_is_no_document_is_refused_in_one_line(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        read(path)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10.0 has no such limit")
def test_a_number_that_takes_long_to_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"schema": 1, "a": ' + "9" * 1_000_000 + "}")
    with pytest.raises(DocumentError, match="is not JSON: Exceeds the limit"):
        read(path)


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "LARGEST", 1024)
    path = tmp_path / "file"
    path.write_text('{"schema": 1}' + " " * 1011)
    assert read(path) == {"schema": 1}
    path.write_text('{"schema": 1}' + " " * 1012)
    why = "is not a report: it has more than 1 KiB"
    with pytest.raises(DocumentError, match=why):
        read(path)
    if Path("/dev/zero").exists():  # it never ends
        with pytest.raises(DocumentError, match=why):
            read(Path("/dev/zero"))


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b'{"schema": 1}')
    os.close(writing)
    path = Path(f"/dev/fd/{reading}")
    if not path.exists():
        pytest.skip("no /dev/fd")
    assert read(path) == {"schema": 1}
    os.close(reading)


def assert_read_or_refused(
    document: object,
    use: Callable[[Path], None],
    error: type[ValueError],
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_text(json.dumps(document))
        try:
            use(path)
        except error as refused:
            text = str(refused)
            assert text.startswith(f"{path}: ")
            assert text.isprintable() and len(text) < len(str(path)) + 200


def use_report(path: Path) -> None:
    report = read_report(path)
    for lines in (
        comparison_lines(compare_reports(report, report)),
        comparison_lines(compare_reports(report, own_report(path.parent))),
    ):
        assert all(line.isprintable() for line in lines)


def own_report(folder: Path) -> Any:
    path = folder / "own"
    path.write_text(render(REPORT))
    return read_report(path)


def use_baseline(path: Path) -> None:
    baseline = read_baseline(path)
    baseline.accept(LEAK.nodeid, LEAK.findings)
    json.dumps(baseline.summary([LEAK]), allow_nan=False)
    again = path.with_name("again")
    again.write_text(baseline_text([LEAK], baseline))
    read_baseline(again)


@given(values | forged(REPORT))
def test_any_report_is_compared_or_refused(document: object) -> None:
    assert_read_or_refused(document, use_report, DocumentError)


@given(values | forged(BASELINE))
def test_any_baseline_is_used_or_refused(document: object) -> None:
    assert_read_or_refused(document, use_baseline, BaselineError)


def journal_of(*entries: object) -> str:
    return HEAD + "".join(f"{json.dumps(entry)}\n" for entry in entries)


def packed(data: object) -> dict[str, str]:
    bytes_ = zlib.compress(json.dumps(data).encode())
    return {"verdict": base64.b64encode(bytes_).decode()}


@given(
    forged([{"start": "t"}, {"environment": REPORT["environment"]}, {"end": "t"}]),
    forged(LEAK.to_dict()),
)
def test_any_journal_is_recovered_or_refused(entries: object, leak: object) -> None:
    lines = entries if isinstance(entries, list) else [entries]
    with TemporaryDirectory() as folder:
        path = Path(folder, "run-0-1.jsonl")
        path.write_text(journal_of(*lines, packed(leak)))
        given = ["recover", str(path)]
        given += [f"--{name}={folder}/{name}" for name in ("json", "html", "sarif")]
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            status = exit_status_of(given)
        if status:
            assert status == 2
            assert len(error.getvalue().splitlines()) == 1
        for line in [*out.getvalue().splitlines(), *error.getvalue().splitlines()]:
            assert line.isprintable()


def exit_status_of(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


@given(verdicts)
def test_a_verdict_has_its_types(verdict: Verdict) -> None:
    assert has_its_types(Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))))


@pytest.mark.parametrize(
    "changes",
    [
        {"nodeid": 5},
        {"nodeid": None},
        {"iterations": 2**64},
        {"iterations": 1.5},
        {"iterations": True},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"notes": [1]},
        {"signals": [LEAK.to_dict()["signals"][0] | {"series": [1, "2"]}]},
        {"findings": [LEAK.to_dict()["findings"][0] | {"accepted": 1}]},
    ],
)
def test_a_verdict_of_other_types_is_told(changes: dict[str, Any]) -> None:
    data = LEAK.to_dict() | changes
    assert not has_its_types(Verdict.from_dict(data))
