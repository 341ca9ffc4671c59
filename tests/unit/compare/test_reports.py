"""``python -m pytest_tfleak compare``: what differs between two reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.__main__ import main

Entry = dict[str, Any]
KIB = 1024


def found(
    signal: str = "tf.tensors", rate: float | None = 1.0, **more: object
) -> Entry:
    unit = "B" if signal.startswith("host") else "tensors"
    allowance = 6 * KIB if unit == "B" else 0
    return {
        "signal": signal,
        "unit": unit,
        "per_iteration": rate,
        "total": 50 if rate is None else round(50 * rate),
        "allowance": allowance,
    } | more


def test(name: str, *findings: Entry, **more: object) -> Entry:
    return {
        "nodeid": f"t.py::{name}",
        "status": "leak" if findings else "clean",
        "reason": None,
        "detail": None,
        "iterations": 50,
        "confirmation": 0,
        "findings": list(findings),
    } | more


test.__test__ = False  # type: ignore[attr-defined]


def unmeasured(name: str, detail: str = "the test failed", **more: object) -> Entry:
    fields = {"status": "not_measured", "reason": "body_failed", "detail": detail}
    return test(name, **(fields | more))


class Compare:
    """Writes two reports and compares them on the command line."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def write(self, name: str, tests: list[Entry], **more: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps({"schema": 1, "tests": tests} | more))
        return path

    def __call__(
        self, before: list[Entry], now: list[Entry], *flags: str
    ) -> tuple[int, list[str]]:
        files = self.write("a.json", before), self.write("b.json", now)
        return self.run(*map(str, files), *flags)

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        status = main(["compare", *arguments])
        captured = self.capsys.readouterr()
        assert captured.err == ""
        return status, captured.out.splitlines()


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    return Compare(tmp_path, capsys)


def test_prints_what_got_worse_better_new_and_gone(compare: Compare) -> None:
    status, lines = compare(
        [
            test("worse", found("host.heap", 12 * KIB)),
            test("better", found(rate=3, kind="EagerTensor")),
            test("gone", found()),
            test("same", found()),
            test("clean"),
            test("leaks_now"),
            test("missing"),
        ],
        [
            test("worse", found("host.heap", 30 * KIB)),
            test("better", found(rate=1, kind="EagerTensor")),
            test("gone"),
            test("same", found(rate=1.01)),
            test("clean"),
            test("leaks_now", found("process.threads")),
            test("new", found("tf.sessions", None, total=1)),
        ],
    )
    assert status == 1
    assert "\n".join(lines) == EXPECTED


EXPECTED = """\
WORSE
  t.py::worse  host.heap +12 KiB -> +30 KiB per iteration

NEW
  t.py::leaks_now  process.threads +1 per iteration
  t.py::new  tf.sessions 1 left

BETTER
  t.py::better  tf.tensors +3 -> +1 per iteration (EagerTensor)

GONE
  t.py::gone  tf.tensors +1 per iteration
  t.py::missing  the test is missing; it was clean

1 worse, 2 new, 1 better, 2 gone; 2 tests the same"""


@pytest.mark.parametrize(
    ("before", "now", "status", "group"),
    [
        (test("t"), test("t"), 0, None),
        (test("t", found()), test("t", found()), 0, None),
        (test("t"), test("t", found()), 1, "NEW"),
        (test("t", found()), test("t"), 0, "GONE"),
        (test("t", found()), test("t", found(rate=2)), 1, "WORSE"),
        (test("t", found()), test("t", found(rate=0.5)), 0, "BETTER"),
        (test("t", found()), unmeasured("t"), 1, "WORSE"),
        (test("t"), unmeasured("t"), 1, "WORSE"),
        (test("t"), test("t", status="inconclusive"), 1, "WORSE"),
        # growth that may be known is no leak
        (test("t"), test("t", found(), status="inconclusive"), 1, "WORSE"),
        (unmeasured("t"), test("t", found(), status="inconclusive"), 0, "BETTER"),
        (test("t"), unmeasured("t", reason="disabled"), 0, "GONE"),
        (unmeasured("t"), test("t"), 0, "BETTER"),
        (unmeasured("t"), test("t", status="inconclusive"), 0, "BETTER"),
        (unmeasured("t"), test("t", found()), 1, "NEW"),
        (unmeasured("t"), unmeasured("t"), 0, None),
        (test("t"), test("t", status="leak"), 1, "NEW"),
        (test("t", status="leak"), test("t"), 0, "GONE"),
        (test("t", status="leak"), test("t", found()), 0, None),
        (
            test("t", found(fingerprint="a")),
            test("t", found(fingerprint="b")),
            1,
            "NEW",
        ),
        (test("t", found(fingerprint="a")), test("t", found()), 0, None),
        (
            test("t", found()),
            test("t", found(accepted=True, baseline="accepted"), status="clean"),
            0,
            None,
        ),
        (
            test("t"),
            test("t", found(accepted=True, known="scalars"), status="clean"),
            0,
            None,
        ),
        (test("t"), test("t", found(accepted=False, known="scalars")), 1, "NEW"),
        (test("t", found(rate=None)), test("t", found()), 1, "WORSE"),
    ],
)
def test_the_exit_status_tells_worse_and_new_from_the_rest(
    compare: Compare, before: Entry, now: Entry, status: int, group: str | None
) -> None:
    done, lines = compare([before], [now])
    assert done == status
    headings = [line for line in lines if line.isupper()]
    assert (headings[0] if headings else None) == group


def test_a_test_missing_from_the_later_report_does_not_fail(compare: Compare) -> None:
    status, lines = compare([test("a"), test("b", found())], [test("a")])
    assert status == 0
    assert lines[0] == "GONE"
    assert lines[1].endswith("it was LEAK:") or "tf.tensors +1" in " ".join(lines)


def test_several_measurements_of_one_test_are_combined(compare: Compare) -> None:
    before = [test("t", found(rate=1)), test("t", found(rate=3)), test("t")]
    assert compare(before, [test("t", found(rate=3))])[0] == 0
    assert compare(before, [test("t"), test("t", found(rate=4))])[0] == 1
    assert compare(before, [test("t", found(rate=3)), unmeasured("t")])[0] == 0
    assert compare([test("t")], [test("t"), unmeasured("t")])[0] == 1


def test_new_tests_that_do_not_leak_are_counted(compare: Compare) -> None:
    before = [test("a")]
    status, lines = compare(before, [*before, test("b"), test("c"), unmeasured("d")])
    assert status == 0
    assert lines == [
        "note: 2 tests not in the earlier report: clean",
        "note: 1 test not in the earlier report: NOT MEASURED",
        "0 worse, 0 new, 0 better, 0 gone; 4 tests the same",
    ]


def test_other_conditions_are_noted(compare: Compare) -> None:
    conditions = {"python": "3.11", "tensorflow": "2.20", "gpu": None}
    before = compare.write(
        "a.json", [test("a"), test("b")], environment=conditions, tool={"version": "1"}
    )
    now = compare.write(
        "b.json",
        [test("a", iterations=20), test("b", iterations=60, confirmation=40)],
        environment=conditions | {"tensorflow": "2.21"},
        tool={"version": "2"},
        complete=False,
    )
    status, lines = compare.run(str(before), str(now))
    assert status == 0
    assert [line.removeprefix("note: ") for line in lines[:-1]] == [
        "the later run was not finished: tests may be missing",
        "pytest-tfleak version: 1 -> 2",
        "tensorflow: 2.20 -> 2.21",
        "iterations: 50 -> 20 in 2 tests",
    ]


def test_devices_are_noted_by_name(compare: Compare) -> None:
    reports = [
        compare.write(f"{n}.json", [test("a")], environment={"gpu": gpu, "keras": None})
        for n, gpu in enumerate([[], ["GPU:0 A", "GPU:1 B"]])
    ]
    _, lines = compare.run(*map(str, reports))
    assert lines[0] == "note: gpu: none -> GPU:0 A, GPU:1 B"


def test_the_iterations_that_confirm_a_leak_are_not_noted(compare: Compare) -> None:
    confirmed = test("t", found(), iterations=100, confirmation=50)
    assert len(compare([test("t", found())], [confirmed])[1]) == 1


def test_long_lists_of_what_is_better_are_cut(compare: Compare) -> None:
    before = [test(f"t{n:03}", found()) for n in range(100)]
    now = [test(f"t{n:03}") for n in range(100)]
    assert compare(before, now)[1][21:] == [
        "  ... and 80 more (--all)",
        "",
        "0 worse, 0 new, 0 better, 100 gone; 0 tests the same",
    ]
    assert len(compare(before, now, "--all")[1]) == 103
    assert len(compare(now, before)[1]) == 103


@pytest.mark.parametrize(
    "cut",
    [
        {"nodeid": "t.py::t", "status": "leak"},
        {"nodeid": "t.py::t", "status": "leak", "findings": None},
        {"nodeid": "t.py::t", "status": "leak", "findings": [{"signal": "tf.tensors"}]},
        {"nodeid": "", "status": "inconclusive", "extra": [1]},
    ],
)
def test_a_report_that_was_cut_by_hand_can_be_read(
    compare: Compare, cut: Entry
) -> None:
    assert compare([cut], [cut]) == (
        0,
        ["0 worse, 0 new, 0 better, 0 gone; 1 test the same"],
    )


def test_hostile_text_is_shown_harmlessly(compare: Compare) -> None:
    bad = "\x1b[2J\r\n\udc80\u202e<script>" + "x" * 1000
    before = test(bad, found(bad, kind=bad, unit=bad))
    now = test(bad, found(bad, rate=2, kind=bad, unit=bad))
    other = unmeasured("t", detail=bad)
    status, lines = compare([before, test("t")], [now, other])
    assert status == 1
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= 80 for line in lines if "::" not in line)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no such file"),
        (b"", "is not JSON: it is empty"),
        (b"<html>", "is not JSON"),
        (b"\xff\xfe", "is not JSON: it is not UTF-8 text"),
        (b"[1]", 'is not a report of --tfleak-json: it has no "schema" number'),
        (b'{"tests": []}', 'it has no "schema" number'),
        (b'{"schema": 99, "tests": []}', "has schema 99"),
        (b'{"schema": 1, "findings": []}', 'it has no list of "tests"'),
        (b'{"schema": 1, "tests": [1]}', "test 1: it must be an object"),
        (b'{"schema": 1, "tests": [{}]}', 'test 1: "nodeid" must be a text, got None'),
        (
            b'{"schema": 1, "tests": [{"nodeid": "t", "status": "broken"}]}',
            'test 1: "status" must be one of clean, leak, inconclusive, not_measured',
        ),
        (
            b'{"schema": 1, "tests": [{"nodeid": "", "status": "leak", "findings":1}]}',
            'test 1: "findings" must be a list',
        ),
        (
            json.dumps(
                {"schema": 1, "tests": [test("t", found(per_iteration="1"))]}
            ).encode(),
            'test 1: "per_iteration" must be a number',
        ),
    ],
)
def test_a_file_that_is_no_report_is_an_error_of_one_line(
    compare: Compare, content: bytes | None, why: str
) -> None:
    good, bad = compare.write("good.json", [test("t")]), compare.folder / "bad.json"
    if content is not None:
        bad.write_bytes(content)
    for files in ([bad, good], [good, bad]):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *map(str, files)])
        assert ended.value.code == 2
        captured = compare.capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert f"{bad}: " in captured.err and why in captured.err


def test_a_report_without_tests_does_not_pass(compare: Compare) -> None:
    good, empty = compare.write("good.json", [test("t")]), compare.write("e.json", [])
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(good), str(empty)])
    assert ended.value.code == 2
    assert "e.json: has no tests to compare" in compare.capsys.readouterr().err
    assert main(["compare", str(empty), str(good)]) == 0


@pytest.mark.parametrize("arguments", [[], ["compare"], ["compare", "a"], ["other"]])
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m pytest_tfleak" in capsys.readouterr().err


def test_help_says_what_the_exit_status_means(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "0 nothing is worse or new; 1 something is; 2 the command line" in text


def run(*arguments: str, encoding: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "pytest_tfleak", *arguments],
        capture_output=True,
        check=False,
        text=True,
        encoding=encoding,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path)},
    )


@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-8", "größer"), ("ascii", "gr\\xf6\\xdfer")]
)
def test_runs_as_a_module_in_any_encoding(
    compare: Compare, encoding: str, name: str
) -> None:
    before = compare.write("a.json", [test("größer")])
    now = compare.write("b.json", [test("größer", found())])
    done = run("compare", str(before), str(now), encoding=encoding)
    assert done.stderr == ""
    assert done.returncode == 1
    assert f"t.py::{name}  tf.tensors +1 per iteration" in done.stdout


def test_a_closed_pipe_does_not_crash(compare: Compare) -> None:
    before = compare.write("a.json", [test(f"t{n}") for n in range(5000)])
    now = compare.write("b.json", [test(f"t{n}", found()) for n in range(5000)])
    command = [sys.executable, "-m", "pytest_tfleak", "compare", str(before), str(now)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
