"""The body runs under memray within the time, and nothing of that is left."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from pytest_tfleak.diagnosis.native import memray_run
from pytest_tfleak.diagnosis.native.memray_run import NativeReport
from pytest_tfleak.diagnosis.native.memray_run import watch_native

After = Callable[[], None]
LeftOver = Callable[[], list[Path]]
needs_memray = pytest.mark.skipif(
    not memray_run.is_memray_here(), reason="memray is not installed"
)

KEPT: list[bytes] = []
LAST = [b""]


def leak(after: After) -> None:
    """Keep 10 KB in each of ten iterations, and 40 KB that the next one replaces."""
    for number in range(10):
        KEPT.append(bytes([number]) * 10_000)
        LAST[0] = bytes([number]) * 40_000
        after()


@pytest.fixture
def left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeftOver:
    """Return a function that lists temporary files that are left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: list(tmp_path.iterdir())


@needs_memray
def test_what_stays_is_found_with_its_line(left_over: LeftOver) -> None:
    (site,) = watch_native(leak, 10, seconds=60).sites
    assert site.origin is not None
    assert (site.origin.file, site.origin.function) == (__file__, "leak")
    assert "KEPT.append" in site.origin.text
    assert site.bytes_per_iteration == pytest.approx(10_033, abs=64)
    assert site.allocations_per_iteration == 1
    assert site.python_memory
    assert not left_over()


@needs_memray
def test_nothing_stays_of_what_is_replaced() -> None:
    def replace(after: After) -> None:
        for number in range(10):
            KEPT[:] = [bytes([number, k]) * 5_000 for k in range(10)]
            after()

    assert watch_native(replace, 10, seconds=60) == NativeReport(
        why=memray_run.NOTHING_STAYS
    )


@needs_memray
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_the_body_raises_passes_through(
    error: type[BaseException], left_over: LeftOver
) -> None:
    def fail(after: After) -> None:
        after()
        raise error

    profile = sys.getprofile()
    with pytest.raises(error):
        watch_native(fail, 10, seconds=60)
    assert not left_over()
    assert sys.getprofile() is profile
    assert watch_native(leak, 10, seconds=60).sites


@needs_memray
def test_a_body_that_takes_too_long_is_ended() -> None:
    done = []

    def wait(after: After) -> None:
        for _ in range(10):
            sleep(2.6)
            done.append(1)
            after()

    assert watch_native(wait, 10, seconds=5).why == memray_run.NO_TIME
    assert len(done) == 1


@needs_memray
def test_a_reader_that_takes_too_long_is_stopped_and_what_it_found_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = f"""[{{"frames": [], "lines": [["{__file__}", 1]], "bytes": 5.0,
                  "allocations": 1.0, "python_memory": false}}]"""
    monkeypatch.setattr(
        memray_run,
        "_PROGRAM",
        f"import time; print({' '.join(first.split())!r}); "
        "print('[{', end='', flush=True); time.sleep(600)",
    )
    report = watch_native(leak, 10, seconds=5)
    assert report.why == memray_run.NO_TIME
    (site,) = report.sites  # its line at least, which takes no time to find
    assert site.frames == ()
    assert site.origin is not None
    assert site.origin.file == __file__


@needs_memray
def test_a_reader_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memray_run, "_PROGRAM", "raise SystemError('no such file')")
    why = watch_native(leak, 10, seconds=60).why
    assert why == "reading what memray wrote failed: SystemError: no such file"


@needs_memray
def test_memray_that_tracks_already_is_named(tmp_path: Path) -> None:
    import memray

    with memray.Tracker(tmp_path / "other"):
        assert watch_native(leak, 10, seconds=60).why == memray_run.TRACKING


@needs_memray
def test_the_level_at_which_memray_logs_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import memray

    levels: list[int] = []  # memray cannot tell which level is set
    monkeypatch.setattr(memray, "set_log_level", levels.append)
    assert watch_native(leak, 10, seconds=60).sites
    assert levels == []


def refuse(after: After) -> None:
    raise AssertionError("the body must not run")


def test_without_memray_the_body_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memray_run, "is_memray_here", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert watch_native(refuse, 10, seconds=60).why == memray_run.NOT_HERE
    monkeypatch.setattr(sys, "platform", "win32")
    assert watch_native(refuse, 10, seconds=60).why == memray_run.NOT_POSSIBLE


def test_without_time_the_body_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memray_run, "is_memray_here", lambda: True)
    assert watch_native(refuse, 10, seconds=1).why == memray_run.NO_TIME
    assert watch_native(refuse, 2, seconds=60).why == memray_run.NO_TIME


def test_a_profiler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memray_run, "is_memray_here", lambda: True)
    monkeypatch.setattr(sys, "getprofile", lambda: print)
    assert watch_native(refuse, 10, seconds=60).why == memray_run.PROFILING
