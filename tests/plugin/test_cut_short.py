"""A run that ends from outside, or whose process dies, still leaves its figures."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from pytest_tfleak.__main__ import main
from pytest_tfleak.journal import Journal

if sys.platform == "win32":
    pytest.skip("signals are as on POSIX", allow_module_level=True)

SUITE = """
import os, signal, time
from leaks import leak

def test_clean(): pass

def test_leaks(): leak()

def test_ends(): {how}

def test_later(): pass
"""
DIES = SUITE.format(how="os._exit(7)")
NONE = Path(".pytest_cache", "d", "tfleak")


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let inner runs have pytest's cache, and temporary files of their own."""
    names = ("randomly", "hypothesispytest", "memray", "asyncio", "anyio")
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(f"-p no:{name}" for name in names))
    tmp_path.joinpath("temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    given = ("--tfleak", "--tfleak-diagnose=off", *options)
    result = pytester.runpytest_subprocess(*given, timeout=120)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    return result


def statuses(path: Path) -> tuple[bool, dict[str, str]]:
    data = json.loads(path.read_text())
    tests = {t["nodeid"].rpartition("::")[2]: t["status"] for t in data["tests"]}
    return data["complete"], tests


@pytest.mark.usefixtures("leaks")
def test_sigterm_writes_the_reports_as_ctrl_c_does(pytester: pytest.Pytester) -> None:
    how = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"
    pytester.makepyfile(SUITE.format(how=how))
    result = run(pytester, "--tfleak-json=r.json", "--junitxml=j.xml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["!* the process received SIGTERM !*"])
    complete, tests = statuses(pytester.path / "r.json")
    assert not complete
    assert tests == {
        "test_clean": "clean",
        "test_leaks": "leak",
        "test_ends": "not_measured",
    }
    assert (pytester.path / "j.xml").exists()
    assert not list((pytester.path / NONE).iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("leaks")
def test_sigterm_to_the_controller_of_xdist(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    # the controller has both verdicts once it has noted that the second test ended
    how = """
    seen = False
    while not seen:
        found = FOLDER.glob("run-*.jsonl")
        seen = any(b'"end":"test_it.py::test_leaks"' in f.read_bytes() for f in found)
        time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGTERM); time.sleep(30)
"""
    folder = f"import pathlib\nFOLDER = pathlib.{pytester.path / NONE!r}"
    pytester.makepyfile(test_it=folder + SUITE.format(how=how))
    result = run(pytester, "--tfleak-json=r.json", "-n1", "--max-worker-restart=0")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    complete, tests = statuses(pytester.path / "r.json")
    assert not complete
    assert tests.items() >= {"test_clean": "clean", "test_leaks": "leak"}.items()


@pytest.mark.parametrize(
    ("times", "again"), [(1, "true"), (10_000, "kill -TERM $PPID")], ids=["one", "two"]
)
def test_sigterm_ends_a_test_that_hangs_in_c(
    pytester: pytest.Pytester, times: int, again: str
) -> None:
    pytester.makepyfile(
        f"""
        import ctypes
        from pytest_tfleak.plugin import termination

        termination._TIMES, termination._SECONDS = {times}, 0.1
        HANG = "while kill -0 $PPID; do {again}; sleep 0.1; done"

        def test_hangs():
            ctypes.CDLL(None).system(f"kill -TERM $PPID; {{HANG}}".encode())
        """
    )
    result = pytester.runpytest_subprocess("--tfleak", timeout=60)
    assert result.ret == -signal.SIGTERM


def test_the_controller_of_xdist_leaves_it_alone_if_nothing_is_measured(
    pytester: pytest.Pytester,
) -> None:
    pytest.importorskip("xdist")
    pytester.makeconftest(
        """
        import signal

        def pytest_terminal_summary(terminalreporter):
            terminalreporter.write_line(repr(signal.getsignal(signal.SIGTERM)))
        """
    )
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-n1")
    result.stdout.fnmatch_lines(["<Handlers.SIG_DFL: 0>"])


def test_the_handler_is_there_while_tests_are_measured(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import os, signal, threading
        THREADS = threading.enumerate()

        def test_handled():
            assert callable(signal.getsignal(signal.SIGTERM))

        def test_asyncio_restores_the_default():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

        def test_handled_again():
            assert callable(signal.getsignal(signal.SIGTERM))

        def test_neither_threads_nor_event_loops_see_how():
            assert threading.enumerate() == THREADS
            assert signal.set_wakeup_fd(-1) == -1

        def test_a_fork_dies_of_it():
            child = os.fork()
            if not child:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -15
        """
    )
    before = signal.getsignal(signal.SIGTERM)
    result = pytester.runpytest_inprocess("--tfleak", "--tfleak-depth=leftovers")
    result.assert_outcomes(passed=5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_of_somebody_else_stays(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import signal

        def test_it():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        """
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        pytester.runpytest_inprocess("--tfleak").assert_outcomes(passed=1)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("leaks")
@pytest.mark.parametrize("place", ["cache", "temporary files"])
def test_the_next_run_reports_what_a_dead_process_had_measured(
    pytester: pytest.Pytester, place: str
) -> None:
    options = [] if place == "cache" else ["-p", "no:cacheprovider"]
    pytester.makepyfile(test_it=DIES)
    assert run(pytester, "--tfleak-json=r.json", *options).ret == 7
    assert not (pytester.path / "r.json").exists()
    pytester.makepyfile(test_it="def test_later(): pass")
    result = run(pytester, *options)
    (line,) = [ln for ln in result.stdout.lines if "an earlier run" in ln]
    assert line.startswith(
        "tfleak: an earlier run left no report: it ended in test_it.py::test_ends, "
        "after it had measured 2 tests, 1 of them LEAK; that is in "
    )
    report = pytester.path / line.rpartition(" in ")[2]
    assert (report.parents[2] / ".gitignore").exists() == (place == "cache")
    assert statuses(report) == (
        False,
        {"test_clean": "clean", "test_leaks": "leak", "test_ends": "not_measured"},
    )
    assert list(report.parent.iterdir()) == [report]
    assert "an earlier run" not in run(pytester, *options).stdout.str()


@pytest.mark.usefixtures("leaks")
def test_a_command_makes_the_report(
    pytester: pytest.Pytester,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # not what other runs leave in the folders above
    above = "pytest_tfleak.__main__._here_and_above"
    monkeypatch.setattr(above, lambda: [pytester.path])
    pytester.makepyfile(test_it=DIES)
    run(pytester)
    capsys.readouterr()
    (path,) = (pytester.path / NONE).iterdir()
    given = [["recover"], ["recover", str(path), "--html=r.html", "--sarif=r.sarif"]]
    for arguments in given:
        assert main([*arguments, "--json=r.json"]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "it ended in test_it.py::test_ends, after it had measured 2" in out
        assert "LEAK test_it.py::test_leaks" in out
        assert "report written to r.json" in out
        complete, tests = statuses(pytester.path / "r.json")
        assert (complete, len(tests)) == (False, 3)
    assert "test_ends" in (pytester.path / "r.html").read_text()
    (log,) = json.loads((pytester.path / "r.sarif").read_text())["runs"]
    (leak,) = log["results"]
    (at,) = leak["locations"]
    assert at["physicalLocation"]["artifactLocation"]["uri"] == "test_it.py"
    (invocation,) = log["invocations"]
    texts = [one["message"]["text"] for one in invocation["toolExecutionNotifications"]]
    assert not invocation["executionSuccessful"]
    assert any("test_it.py::test_ends: " in text for text in texts)
    for wrong in (["recover", "r.json"], ["recover", "missing"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
    path.unlink()
    with pytest.raises(SystemExit, match="2"):
        main(["recover"])
    error = capsys.readouterr().err
    assert "no run has left a journal" in error
    assert error.endswith(
        "name the file (if cache_dir is set, it is in d/tfleak there)\n"
    )


def test_a_missing_library_is_not_taken_for_a_bad_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(_: object) -> str:
        raise ImportError("no jinja2")

    path = Journal([tmp_path], tmp_path).path
    monkeypatch.setattr("pytest_tfleak.reports.html.render", render)
    with pytest.raises(ImportError, match="jinja2"):
        main(["recover", str(path), f"--html={tmp_path / 'r.html'}"])


def test_a_journal_of_a_run_that_may_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Journal([tmp_path], tmp_path).path
    assert main(["recover", str(path)]) == 0
    (line,) = [ln for ln in capsys.readouterr().out.splitlines() if "it ended" in ln]
    assert line.endswith("after it had measured 0 tests; or it still runs")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a FIFO")
def test_a_report_to_a_pipe_that_nobody_reads_does_not_block(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_tfleak.reports.document.PATIENCE", 0.1)
    pytester.makepyfile("def test_it(): pass")
    os.mkfifo(pytester.path / "pipe")
    result = pytester.runpytest_inprocess("--tfleak", "--tfleak-json=pipe")
    line = "tfleak: JSON report not written to */pipe: nobody reads this pipe"
    result.stdout.fnmatch_lines([line])
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR


HANGS = """
import ctypes, threading, time
library = ctypes.CDLL(None)

def test_it():
    assert {passes}

if {native}:
    pause = ctypes.cast(library.pause, ctypes.c_void_p)
    library.__cxa_atexit(pause, None, None)
else:
    threading.Thread(target=time.sleep, args=(60,)).start()
"""


@pytest.mark.parametrize(
    ("native", "passes"),
    [(True, False), (False, True)],
    ids=["destructor", "thread"],
)
def test_an_exit_that_hangs_is_ended_with_its_status(
    pytester: pytest.Pytester, native: bool, passes: bool
) -> None:
    if native and not sys.platform.startswith("linux"):
        pytest.skip("needs the timers of Linux")
    pytester.makepyfile(HANGS.format(passes=passes, native=native))
    options = ("--tfleak-exit-timeout=0.2", "--tfleak-json=r.json")
    result = pytester.runpytest_subprocess(*options, timeout=40)
    assert result.ret == (0 if passes else 1)
    assert statuses(pytester.path / "r.json")[0]


def test_a_process_that_goes_on_is_not_ended(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    program = pytester.makepyfile(
        program="""
        import pytest, time
        assert pytest.main(["--tfleak-exit-timeout=0.1", "test_it.py"]) == 0
        time.sleep(0.5)
        print("goes on")
        """
    )
    result = pytester.runpython(program)
    assert result.ret == 0
    assert "goes on" in result.stdout.str()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a FIFO")
def test_a_baseline_saved_to_a_pipe_does_not_block_at_the_start(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_tfleak.reports.document.PATIENCE", 0.1)
    pytester.makepyfile("def test_it(): pass")
    os.mkfifo(pytester.path / "pipe")
    result = pytester.runpytest_inprocess("--tfleak", "--tfleak-save-baseline=pipe")
    result.stdout.fnmatch_lines(["tfleak: baseline not written to * nobody reads *"])
