"""What a baseline accepts, what it says, and what its file looks like."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.compare.baseline import SCHEMA
from pytest_tfleak.compare.baseline import Baseline
from pytest_tfleak.compare.baseline import BaselineError
from pytest_tfleak.compare.baseline import baseline_text
from pytest_tfleak.compare.baseline import read_baseline
from pytest_tfleak.compare.baseline import summary_lines
from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import decide
from pytest_tfleak.judge import Judgement
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import fingerprint
from tests.builders import make_finding
from tests.builders import make_verdict

KIB = 1024


def tensors(rate: float | None = 1.0, **more: Any) -> Finding:
    return make_finding(per_iteration=rate, **more)


def heap(rate: float, **more: Any) -> Finding:
    return make_finding("host.heap", rate, **({"allowance": 6.0 * KIB} | more))


def leak(*findings: Finding, name: str = "test_a", **more: Any) -> Verdict:
    fields: dict[str, Any] = {
        "nodeid": f"tests/test_x.py::{name}",
        "status": Status.LEAK if findings else Status.CLEAN,
        "iterations": 50,
    }
    return make_verdict(findings=findings, **(fields | more))


def apply(baseline: Baseline, verdict: Verdict) -> Verdict:
    """Return the verdict with the findings that the baseline accepts marked."""
    findings, notes = baseline.accept(verdict.nodeid, verdict.findings)
    judged = Judgement(iterations=verdict.iterations, signals=verdict.signals)
    return decide(
        Grounds(
            nodeid=verdict.nodeid,
            via=verdict.via,
            judged=judged,
            findings=findings,
            notes=notes,
        )
    )


def recorded(*verdicts: Verdict, tmp: Path) -> Baseline:
    """Write a baseline of these verdicts and read it back."""
    path = tmp / "baseline.json"
    path.write_text(baseline_text(verdicts), "utf-8")
    return read_baseline(path)


def test_what_was_recorded_is_accepted(tmp_path: Path) -> None:
    verdict = leak(tensors(fingerprint="abc"), heap(64.6 * KIB))
    marked = apply(recorded(verdict, tmp=tmp_path), verdict)
    assert marked.status is Status.CLEAN
    assert not marked.failing
    assert {finding.baseline for finding in marked.findings} == {"accepted"}
    (note,) = marked.notes
    assert note == (
        "Accepted by the baseline baseline.json: tf.tensors +1 per iteration, "
        "host.heap +64.6 KiB per iteration."
    )


def test_what_is_new_or_worse_fails(tmp_path: Path) -> None:
    baseline = recorded(leak(tensors(1), heap(64 * KIB)), tmp=tmp_path)
    threads = tensors(1, signal="process.threads", unit="threads")
    marked = apply(baseline, leak(tensors(2), heap(65 * KIB), threads))
    assert marked.status is Status.LEAK
    words = [finding.baseline for finding in marked.findings]
    assert words == ["worse", "new", "accepted"]
    assert [f.signal for f in marked.failing] == ["tf.tensors", "process.threads"]
    assert marked.notes[1] == (
        "Worse than in the baseline baseline.json: tf.tensors +1 -> +2 per iteration."
    )


def test_the_same_leak_of_another_test_is_new(tmp_path: Path) -> None:
    baseline = recorded(leak(tensors()), tmp=tmp_path)
    marked = apply(baseline, leak(tensors(), name="test_b"))
    assert marked.status is Status.LEAK
    assert marked.findings[0].baseline == "new"


def test_another_leak_of_the_same_signal_is_new(tmp_path: Path) -> None:
    baseline = recorded(leak(tensors(fingerprint="a")), tmp=tmp_path)
    assert apply(baseline, leak(tensors(fingerprint="b"))).status is Status.LEAK


def test_fingerprints_of_another_version_say_so_and_how_to_renew_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = leak(tensors(fingerprint="60f2c101f907", kind="EagerTensor"))
    now = leak(tensors(fingerprint=fingerprint("app.SEEN"), kind="EagerTensor"))
    baseline = recorded(old, tmp=tmp_path)
    marked = apply(baseline, now)
    assert marked.status is Status.CLEAN
    for verbosity in (-1, 0):
        text = " ".join(" ".join(lines(baseline, marked, verbosity=verbosity)).split())
        assert "fingerprints have another version" in text
        assert "renew them, add --tfleak-save-baseline=baseline.json to this" in text
    (tmp_path / "baseline.json").write_text(baseline_text([marked], baseline), "utf-8")
    renewed = read_baseline(tmp_path / "baseline.json")
    assert not renewed.is_outdated
    assert "another version" not in " ".join(lines(renewed, apply(renewed, now)))


@pytest.mark.parametrize("seed", range(20))
def test_noise_does_not_fail_what_was_accepted(tmp_path: Path, seed: int) -> None:
    noise = random.Random(seed)

    def verdict() -> Verdict:
        return leak(
            heap(noise.gauss(30, 1) * KIB),
            tensors(noise.choice([0.98, 1.0, 1.02])),
            tensors(noise.gauss(90, 6), signal="python.blocks", unit="blocks"),
        )

    baseline = recorded(verdict(), tmp=tmp_path)
    assert apply(baseline, verdict()).status is Status.CLEAN


@pytest.mark.parametrize(
    ("rate", "status"), [(6.5, Status.CLEAN), (7.4, Status.CLEAN), (9.0, Status.LEAK)]
)
def test_memory_that_was_just_under_its_allowance_may_be_just_over(
    tmp_path: Path, rate: float, status: Status
) -> None:
    baseline = recorded(leak(tensors()), tmp=tmp_path)
    assert apply(baseline, leak(tensors(), heap(rate * KIB))).status is status
    alone = leak(heap(rate * KIB), name="test_b")
    assert apply(baseline, alone).status is Status.LEAK


def test_known_growth_is_neither_recorded_nor_marked(tmp_path: Path) -> None:
    known = heap(9 * KIB, known="scalar-cache", accepted=True)
    verdict = leak(tensors(), known)
    baseline = recorded(verdict, tmp=tmp_path)
    assert [entry.signal for entry in baseline.entries] == ["tf.tensors"]
    marked = apply(baseline, verdict)
    assert marked.findings[1] == known
    clean = leak(known, status=Status.CLEAN)
    assert apply(baseline, clean) == clean


def test_objects_that_are_left_are_recorded_by_their_number(tmp_path: Path) -> None:
    baseline = recorded(leak(tensors(None)), tmp=tmp_path)
    assert apply(baseline, leak(tensors(None))).status is Status.CLEAN
    assert apply(baseline, leak(tensors(None, total=2))).status is Status.LEAK
    assert apply(baseline, leak(tensors(0.1))).findings[0].baseline == "worse"


def test_two_checks_of_one_test_may_leak_as_the_worse_of_them(tmp_path: Path) -> None:
    several = [leak(tensors(1), via="fixture"), leak(tensors(3), via="fixture")]
    baseline = recorded(*several, tmp=tmp_path)
    assert len(baseline.entries) == 1
    assert all(apply(baseline, v).status is Status.CLEAN for v in several)
    assert apply(baseline, leak(tensors(4))).status is Status.LEAK


def test_a_missing_file_accepts_what_it_will_record(tmp_path: Path) -> None:
    baseline = read_baseline(tmp_path / "no" / "baseline.json")
    assert baseline.recorded
    verdict = leak(tensors(), heap(9 * KIB))
    marked = apply(baseline, verdict)
    assert marked.status is Status.CLEAN
    assert marked.notes[0].startswith("Recorded in the baseline baseline.json: ")
    assert baseline_text([marked]) == baseline_text([verdict])
    assert "2 findings in 1 test recorded" in lines(baseline, marked)[0]


def test_without_findings_there_is_nothing_to_accept_or_to_say(tmp_path: Path) -> None:
    assert recorded(tmp=tmp_path).accept("test_a", ()) == ((), ())
    assert read_baseline(tmp_path / "none").accept("test_a", ()) == ((), ())


# The file

FILE = """\
{
"schema": 1,
"findings": [
{"nodeid": "tests/test_x.py::test_a", "signal": "tf.tensors", "per_iteration": 0.33, \
"unit": "tensors", "kind": "EagerTensor", "fingerprint": "f1"},
{"nodeid": "tests/test_x.py::test_b", "signal": "host.heap", "per_iteration": 66000, \
"unit": "B"},
{"nodeid": "tests/test_x.py::test_b", "signal": "tf.tensors", "per_iteration": 2, \
"unit": "tensors"},
{"nodeid": "tests/test_x.py::test_c", "signal": "tf.sessions", "left": 1, \
"unit": "sessions"},
{"end": "each line above ends with a comma, so that git can merge this file"}
]
}
"""


def test_the_file_is_one_sorted_line_for_each_finding() -> None:
    verdicts = [
        leak(tensors(2), heap(66_150.3), name="test_b"),
        leak(tensors(1 / 3, kind="EagerTensor", fingerprint="f1"), name="test_a"),
        leak(tensors(None, signal="tf.sessions", unit="sessions"), name="test_c"),
        leak(name="test_clean"),
    ]
    text = baseline_text(verdicts)
    assert text == baseline_text(reversed(verdicts))
    assert text == FILE
    assert json.loads(text)["schema"] == SCHEMA


def test_a_file_without_findings_can_be_read(tmp_path: Path) -> None:
    baseline = recorded(leak(), tmp=tmp_path)
    assert baseline.entries == () and not baseline.recorded


def test_saving_again_moves_no_line_for_noise(tmp_path: Path) -> None:
    first = leak(tensors(1.0), heap(30.0 * KIB))
    baseline = recorded(first, tmp=tmp_path)
    again = apply(baseline, leak(tensors(1.02), heap(33.3 * KIB)))
    assert baseline_text([again], baseline) == baseline_text([first])
    better = leak(tensors(0.5), heap(30.0 * KIB))
    assert '"per_iteration": 0.5' in baseline_text([better], baseline)


def test_saving_keeps_tests_that_did_not_run_and_drops_what_is_gone(
    tmp_path: Path,
) -> None:
    names = ["gone", "kept", "not_run", "failed", "cut"]
    baseline = recorded(*(leak(tensors(), name=n) for n in names), tmp=tmp_path)
    text = baseline_text(
        [
            leak(name="gone"),
            leak(tensors(), name="kept"),
            leak(name="failed", status=Status.NOT_MEASURED),
            leak(name="cut", status=Status.INCONCLUSIVE),
            leak(tensors(), name="added"),
        ],
        baseline,
    )
    found = [line["nodeid"] for line in json.loads(text)["findings"][:-1]]
    assert found == [
        f"tests/test_x.py::{name}"
        for name in ("added", "cut", "failed", "kept", "not_run")
    ]


def test_a_check_that_fails_hides_the_checks_after_it(tmp_path: Path) -> None:
    second = leak(heap(60 * KIB), via="fixture")
    baseline = recorded(leak(tensors(), via="fixture"), second, tmp=tmp_path)
    threads = tensors(signal="process.threads", unit="threads")
    ended = apply(baseline, leak(tensors(), threads, via="fixture"))
    assert baseline.gone([ended]) == []
    passed = [leak(tensors(), via="fixture"), leak(via="fixture")]
    gone = baseline.gone(apply(baseline, verdict) for verdict in passed)
    assert [entry.signal for entry in gone] == ["host.heap"]


@pytest.mark.parametrize(("rate", "is_gone"), [(5.9, False), (0.0, True)])
def test_growth_that_sank_just_below_its_allowance_is_not_gone(
    tmp_path: Path, rate: float, is_gone: bool
) -> None:
    baseline = recorded(leak(heap(6.4 * KIB)), tmp=tmp_path)
    signal = SignalReport(
        name="host.heap",
        unit="B",
        status="measured",
        reason=None,
        per_iteration=rate * KIB,
        total=0,
        allowance=6.0 * KIB,
        decides=True,
        series=(),
    )
    assert bool(baseline.gone([leak(signals=(signal,))])) == is_gone
    unread = replace(signal, status="untrusted")
    assert baseline.gone([leak(signals=(unread,))]) == []


hostile = st.text(st.characters(codec=None), min_size=1, max_size=30)


@given(hostile, hostile, hostile)
def test_a_test_of_any_name_is_recognised(
    name: str, kind: str, fingerprint: str
) -> None:
    verdict = leak(tensors(kind=kind, fingerprint=fingerprint), name=name)
    text = baseline_text([verdict])
    assert text.isascii()
    assert len(text.splitlines()) == 7
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "baseline.json"
        path.write_text(text)
        baseline = read_baseline(path)
    assert apply(baseline, verdict).status is Status.CLEAN
    assert all(line.isprintable() for line in lines(baseline, apply(baseline, verdict)))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not JSON: it is empty"),
        (b"hello", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON: it is not UTF-8 text"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", 'is not a baseline of pytest-tfleak: it has no "schema" number'),
        (b'{"schema": true}', 'it has no "schema" number'),
        (b'{"schema": 2, "findings": []}', "has schema 2"),
        (b'{"schema": 1}', 'it has no list of "findings"'),
        (b'{"schema": 1, "findings": [3]}', "finding 1: it must be an object"),
        (
            b'{"schema": 1, "findings": [{"nodeid": "x", "signal": "s", "unit": "B"}]}',
            "finding 1: it needs a number",
        ),
        (
            b'{"schema": 1, "findings": [{"signal": "s", "unit": "B", "left": 1}]}',
            'finding 1: "nodeid" must be a text, got None',
        ),
        (
            b'{"schema": 1, "findings": [{"left": "1"}]}',
            "finding 1: \"left\" must be a number, got '1'",
        ),
        (b'{"schema": 1, "findings": [{"left": NaN}]}', "NaN is not a number"),
        (b'{"schema": 1, "findings": [{"left": 1e999}]}', '"left" must be a number'),
        (
            b'{\n"schema": 1,\n<<<<<<< HEAD\n=======\n>>>>>>> other\n}',
            "line 3: an unresolved merge conflict",
        ),
    ],
)
def test_a_file_that_is_no_baseline_is_refused_in_one_line(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "baseline.json"
    path.write_bytes(content)
    with pytest.raises(BaselineError) as caught:
        read_baseline(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and why in message
    assert "\n" not in message and len(message) < len(str(path)) + 200


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="is a directory"):
        read_baseline(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(BaselineError, match="cannot be read: "):
        read_baseline(loop)


def test_git_merges_two_branches_that_add_tests(tmp_path: Path) -> None:
    """Each finding is one line, so merge=union keeps both sides."""
    path = tmp_path / "tfleak.json"
    (tmp_path / ".gitattributes").write_text("tfleak.json merge=union\n")
    git(tmp_path, "init", "-q", "-b", "main")
    save(path, "test_a", "test_z")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "base")
    git(tmp_path, "checkout", "-qb", "one")
    save(path, "test_a", "test_m", "test_z")
    git(tmp_path, "commit", "-qam", "one")
    git(tmp_path, "checkout", "-q", "main")
    save(path, "test_a", "test_n", "test_o", "test_z")
    git(tmp_path, "commit", "-qam", "other")
    git(tmp_path, "merge", "-q", "one")
    names = [entry.nodeid for entry in read_baseline(path).entries]
    assert names == [f"tests/test_x.py::test_{x}" for x in "amnoz"]


def test_git_merges_a_file_that_two_branches_record(tmp_path: Path) -> None:
    path = tmp_path / "tfleak.json"
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".gitattributes").write_text("tfleak.json merge=union\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "base")
    git(tmp_path, "checkout", "-qb", "one")
    save(path, "test_a", "test_b")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "checkout", "-q", "main")
    save(path, "test_b", "test_c", rate=2.0)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "other")
    git(tmp_path, "merge", "-q", "one")
    entries = read_baseline(path).entries
    assert [entry.nodeid[-1] for entry in entries] == ["a", "b", "c"]
    assert [entry.per_iteration for entry in entries] == [1, 2, 2]


def save(path: Path, *names: str, rate: float = 1.0) -> None:
    path.write_text(baseline_text(leak(tensors(rate), name=name) for name in names))


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"]
    hermetic = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        env=os.environ | hermetic,
        check=True,
        capture_output=True,
    )


# The summary


def lines(baseline: Baseline, *verdicts: Verdict, **how: Any) -> list[str]:
    return summary_lines(baseline.summary(verdicts), **how)


SUMMARY = """\
baseline baseline.json: 2 findings in 1 test accepted, 1 worse, 1 new, 1 gone
  worse     tests/test_x.py::test_b  tf.tensors +1 -> +2 per iteration
  new       tests/test_x.py::test_d  tf.tensors +1 per iteration
  gone      tests/test_x.py::test_c  tf.tensors +1 per iteration
  accepted  tests/test_x.py::test_a
              tf.tensors +1 per iteration (EagerTensor), host.heap +65 KiB per
              iteration
  to remove what is gone, add --tfleak-save-baseline=baseline.json to this
  command"""


def test_the_advice_names_the_file_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    baseline = recorded(leak(tensors(), name="test_a"), tmp=tmp_path / "a b")
    monkeypatch.chdir(tmp_path)
    text = " ".join(" ".join(lines(baseline, leak(name="test_a"))).split())
    assert "add '--tfleak-save-baseline=a b/baseline.json' to this command" in text


def test_the_summary_lists_what_is_accepted_worse_new_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    baseline = recorded(
        leak(tensors(kind="EagerTensor"), heap(64 * KIB), name="test_a"),
        leak(tensors(), name="test_b"),
        leak(tensors(), name="test_c"),
        leak(tensors(), name="test_not_run"),
        tmp=tmp_path,
    )
    verdicts = [
        apply(baseline, verdict)
        for verdict in (
            leak(tensors(kind="EagerTensor"), heap(65 * KIB), name="test_a"),
            leak(tensors(2), name="test_b"),
            leak(name="test_c"),
            leak(tensors(), name="test_d"),
        )
    ]
    summary = json.loads(json.dumps(baseline.summary(verdicts)))
    assert {key: len(summary[key]) for key in ("accepted", "worse", "new", "gone")} == {
        "accepted": 2,
        "worse": 1,
        "new": 1,
        "gone": 1,
    }
    assert summary["worse"][0] == {
        "nodeid": "tests/test_x.py::test_b",
        "signal": "tf.tensors",
        "unit": "tensors",
        "kind": None,
        "fingerprint": None,
        "per_iteration": 2.0,
        "left": None,
        "recorded": {"per_iteration": 1.0, "left": None},
    }
    assert "\n".join(summary_lines(summary)) == SUMMARY
    assert summary_lines(summary, verbosity=-1) == summary_lines(summary)[:1]


def test_quiet_mode_says_nothing_if_nothing_changed(tmp_path: Path) -> None:
    verdict = leak(tensors())
    baseline = recorded(verdict, tmp=tmp_path)
    assert lines(baseline, apply(baseline, verdict), verbosity=-1) == []


def test_long_lists_of_what_needs_no_action_are_cut(tmp_path: Path) -> None:
    verdicts = [leak(tensors(), name=f"test_{n:03}") for n in range(300)]
    baseline = recorded(*verdicts, tmp=tmp_path)
    marked = [apply(baseline, verdict) for verdict in verdicts]
    assert len(lines(baseline, *marked)) == 22
    assert lines(baseline, *marked)[-1] == "  accepted  ... in 280 more tests (-v)"
    assert len(lines(baseline, *marked, verbosity=1)) == 301
    other = recorded(tmp=tmp_path)
    marked = [apply(other, verdict) for verdict in verdicts]
    assert len(lines(other, *marked)) == 301


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_lines_are_no_wider_than_the_terminal_but_for_names(
    tmp_path: Path, width: int
) -> None:
    verdict = leak(tensors(kind="\x1b[31m" + "K" * 200), heap(64 * KIB))
    baseline = recorded(tmp=tmp_path)
    shown = lines(baseline, apply(baseline, verdict), width=width)
    names = [line for line in shown if "::" in line]
    assert all(line.isprintable() for line in shown)
    assert all(len(line) <= max(width, 20) for line in shown if line not in names)
