"""What a run notes on disk, and what can be read of it when the process has died."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tfleak import journal as module
from pytest_tfleak.__main__ import main
from pytest_tfleak.journal import Journal
from pytest_tfleak.journal import JournalError
from pytest_tfleak.journal import LostRun
from pytest_tfleak.journal import folders_to_read
from pytest_tfleak.journal import folders_to_write
from pytest_tfleak.journal import lost_runs
from pytest_tfleak.journal import read_journal
from pytest_tfleak.journal import write_report
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_verdict

LEAK = make_leak(make_finding(), nodeid="t.py::test_leak")


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which no process exists."""
    return lambda: monkeypatch.setattr(module, "_created", lambda pid: None)


def write(folder: Path) -> Journal:
    journal = Journal([folder], folder)
    journal.write({"environment": {"python": "CPython"}})
    for name in ("clean", "leak", "dies"):
        journal.write({"start": f"t.py::test_{name}"})
        if name == "leak":
            journal.add_verdict(LEAK.to_dict())
        if name != "dies":
            journal.write({"end": f"t.py::test_{name}"})
    return journal


def test_verdicts_and_the_running_test_are_read_again(tmp_path: Path) -> None:
    run = read_journal(write(tmp_path).path)
    assert run.verdicts == [LEAK]
    assert run.running == ["t.py::test_dies"]
    assert run.environment == {"python": "CPython"}
    _, last = run.results()
    assert (last.nodeid, last.status) == ("t.py::test_dies", Status.NOT_MEASURED)
    assert last.reason is Reason.INTERRUPTED
    assert not run.document()["complete"]
    words = "it ended in t.py::test_dies, after it had measured 1 test, 1 of them LEAK"
    assert run.describe() == words


def test_a_verdict_on_the_running_test_stands(tmp_path: Path) -> None:
    journal = write(tmp_path)
    journal.add_verdict(make_verdict(nodeid="t.py::test_dies").to_dict())
    assert len(read_journal(journal.path).results()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="modes are as on POSIX")
def test_it_is_private_small_and_removed(tmp_path: Path) -> None:
    journal = write(tmp_path)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert journal.path.stat().st_size < 2_000
    journal.remove()
    assert not list(tmp_path.iterdir())


def test_the_journal_of_a_living_process_is_no_lost_run(tmp_path: Path) -> None:
    write(tmp_path)
    assert lost_runs([tmp_path]) == []


def test_lost_runs_of_one_folder(tmp_path: Path, died: Callable[[], None]) -> None:
    journal = write(tmp_path)
    died()
    assert [run.path for run in lost_runs([tmp_path], tmp_path)] == [journal.path]
    assert lost_runs([tmp_path], tmp_path / "elsewhere") == []


def test_a_run_elsewhere_is_over_once_it_is_silent_for_hours(
    tmp_path: Path, died: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = write(tmp_path)
    monkeypatch.setattr(module, "_place", lambda: ["another container"])
    died()  # there may be no such process here
    assert lost_runs([tmp_path]) == []
    assert lost_runs([tmp_path], idle=0)
    silent = time.time() - 7 * 3600
    os.utime(journal.path, (silent, silent))
    assert lost_runs([tmp_path])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_containers_differ_by_more_than_the_name() -> None:
    _, *others = module._place()
    assert len(others) == 2
    assert others[1].startswith("pid:[")


def test_a_jump_of_the_clock_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    write(tmp_path)
    created = psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created + 999)
    assert lost_runs([tmp_path]) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_zombie_is_over() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert module._created(process.pid) is None
    process.wait()
    assert module._created(process.pid) is None
    assert module._created(os.getpid())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")
def test_a_fork_of_the_process_leaves_it_alone(tmp_path: Path) -> None:
    journal = write(tmp_path)
    before = journal.path.read_text()
    child = os.fork()
    if not child:
        journal.write({"start": "of the child"})
        journal.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert journal.path.read_text() == before


def test_without_a_place_to_write_a_run_goes_on(tmp_path: Path) -> None:
    for folders in ([], [tmp_path / "missing"]):
        journal = Journal(folders, tmp_path)
        journal.write({"start": "t"})
        journal.remove()
    assert not list(tmp_path.iterdir())


def test_the_next_folder_is_taken_if_one_cannot_be_written_to(tmp_path: Path) -> None:
    journal = Journal([tmp_path / "missing", tmp_path], tmp_path)
    assert read_journal(journal.path).path.parent == tmp_path


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes are as on POSIX")
def test_a_folder_for_temporary_files_must_be_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert folders_to_read(None) == []
    (folder,) = folders_to_write(None)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    cache = tmp_path / "cache"
    assert folders_to_read(cache) == list(folders_to_write(cache)) == [cache, folder]
    folder.chmod(0o777)
    assert folders_to_read(cache) == list(folders_to_write(cache)) == [cache]
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert folders_to_read(None) == list(folders_to_write(None)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="modes are as on POSIX")
def test_a_report_replaces_a_link(tmp_path: Path) -> None:
    victim, report = tmp_path / "victim", tmp_path / "recovered.json"
    victim.write_text("as it was")
    report.symlink_to(victim)
    write_report(report, "new")
    assert (victim.read_text(), report.read_text()) == ("as it was", "new")
    assert not report.is_symlink()
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert set(tmp_path.iterdir()) == {victim, report}


HEAD = '{"journal":1,"pid":1,"created":1.0,"rootdir":"/"}\n'


@pytest.mark.parametrize("text", ["", "x", "[1]\n", '{"journal": 2}\n', "\0\n" * 9])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run-0-1.jsonl"
    path.write_text(text)
    with pytest.raises(JournalError, match="is not a journal of pytest-tfleak"):
        read_journal(path)
    with pytest.raises(JournalError, match="cannot be read"):
        read_journal(tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a FIFO")
def test_a_fifo_or_a_link_is_refused(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(write(tmp_path).path)
    for path in (fifo, link):
        with pytest.raises(JournalError, match="is not a journal"):
            read_journal(path)


@pytest.mark.parametrize(
    "line",
    [
        '{"verdict":"',
        '{"verdict":"bm8="}',
        '{"verdict":1}',
        '{"start":["x"]}',
        '{"environment":3}',
        "[" * 100_000,
        "null",
        json.dumps({"verdict": base64.b64encode(zlib.compress(b"[]")).decode()}),
        json.dumps({"verdict": base64.b64encode(zlib.compress(b"{}")).decode()}),
    ],
)
def test_a_damaged_line_is_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run-0-1.jsonl"
    path.write_text(f'{HEAD}{line}\n{{"start":"t"}}\n')
    run = read_journal(path)
    assert (run.verdicts, run.running) == ([], ["t"])


def test_a_verdict_that_unpacks_to_too_much_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = write(tmp_path)
    assert read_journal(journal.path).verdicts == [LEAK]
    monkeypatch.setattr(module, "_MOST", 100)
    assert read_journal(journal.path).verdicts == []


def test_verdicts_that_together_unpack_to_too_much_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = write(tmp_path)
    for _ in range(9):
        journal.add_verdict(LEAK.to_dict())
    size = len(json.dumps(LEAK.to_dict()))
    assert journal.path.stat().st_size < 8 * size
    monkeypatch.setattr(module, "_LARGEST", 8 * size + 9)
    assert read_journal(journal.path).verdicts == [LEAK] * 8


def test_many_running_tests_are_counted(tmp_path: Path) -> None:
    run = LostRun(path=tmp_path, running=[f"t{k}" for k in range(1_000)])
    assert "t18, t19, 980 more, after" in run.describe()


def test_facts_of_other_types_are_left_out(tmp_path: Path) -> None:
    journal = write(tmp_path)
    odd = {"gpu": ["A", 1], "python": {"a": []}, "cpus": 8, "lacks": ["b"]}
    journal.write({"environment": odd})
    found = read_journal(journal.path).environment
    assert found == {"python": "CPython", "cpus": 8, "lacks": ["b"]}


def test_what_no_run_has_written_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, data = write(tmp_path), LEAK.to_dict()
    path: dict[str, object] = {
        "root": {"kind": "\x1bno\n"},
        "steps": [],
        "target": "",
        "array": None,
    }
    data["findings"][0]["path"] = path
    journal.add_verdict(data)
    with pytest.raises(SystemExit, match="2"):
        main(["recover", str(journal.path)])
    out, error = capsys.readouterr()
    assert not out and error.removesuffix("\n").isprintable()
    assert "cannot be shown: KeyError" in error


def test_old_journals_are_dropped(tmp_path: Path) -> None:
    old, new = write(tmp_path), write(tmp_path)
    report = read_journal(old.path).report
    write_report(report, "{}")
    os.utime(report, (1, 1))
    os.utime(old.path, (1, 1))
    newest = write(tmp_path)
    assert set(tmp_path.iterdir()) == {new.path, newest.path}


def test_each_run_has_a_report_of_its_own(tmp_path: Path) -> None:
    reports = [read_journal(write(tmp_path).path).report for _ in range(2)]
    assert reports[0] != reports[1]
    assert all(f"-{os.getpid()}-" in report.name for report in reports)
