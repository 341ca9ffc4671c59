"""Who started threads and opened files that are still there."""

from __future__ import annotations

import ctypes
import io
import linecache
import os
import pickle
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from pytest_tfleak.run.system_log import SystemLog
from pytest_tfleak.user_code import function_at

OPEN = open
on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc to list descriptors"
)


def functions_in(log: SystemLog) -> list[tuple[str, str]]:
    """Return the signal and the function of user code of all that is left."""
    found = [
        (left.signal, function_at(*left.lines[0])) for left in log.left() if left.lines
    ]
    return sorted(found)


@on_linux
def test_what_is_left_after_the_block(tmp_path: Path) -> None:
    stop = threading.Event()
    with SystemLog(audits=True) as log:
        threading.Thread(target=stop.wait, daemon=True).start()
        file = (tmp_path / "a").open("w")
    here = "test_what_is_left_after_the_block"
    assert functions_in(log) == [("process.fds", here), ("process.threads", here)]
    file.close()
    stop.set()


@on_linux
def test_a_bare_descriptor_has_the_line_that_made_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with SystemLog(audits=True) as log:
        number = os.open(path, os.O_RDWR | os.O_CREAT)
        path.write_text("closed at once")
    (left,) = log.left()
    source = linecache.getline(*left.lines[0])
    assert "os.open" in source
    os.close(number)


@on_linux
def test_a_file_of_native_code_has_no_line_of_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with SystemLog(audits=True) as log:
        path.write_text("closed at once")
        number = ctypes.CDLL(None).open(bytes(path), os.O_RDONLY)
    (left,) = log.left()
    assert left.path == str(path)
    assert not left.lines
    os.close(number)


@on_linux
def test_a_file_of_a_loop_has_a_path(tmp_path: Path) -> None:
    with SystemLog(audits=False) as log:
        file, other = (tmp_path / "a").open("w"), os.open(tmp_path, os.O_RDONLY)
        ends = os.pipe()
    assert sorted(left.path for left in log.left()) == ["", "", "", f"{tmp_path}/a"]
    assert functions_in(log) == []
    file.close()
    for number in (other, *ends):
        os.close(number)


@on_linux
def test_a_file_has_a_line_where_tracemalloc_is_on(tmp_path: Path) -> None:
    tracemalloc.start(8)
    try:
        with SystemLog(audits=False) as log:
            file = (tmp_path / "a").open("w")
        here = "test_a_file_has_a_line_where_tracemalloc_is_on"
        assert functions_in(log) == [("process.fds", here)]
    finally:
        tracemalloc.stop()
    file.close()


def test_a_thread_that_ran_before_is_not_new() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    with SystemLog(audits=False) as log:
        pass
    assert functions_in(log) == []
    stop.set()
    thread.join()


@on_linux
def test_the_last_of_many_files(tmp_path: Path) -> None:
    with SystemLog(audits=True) as log:
        for number in range(300):
            (tmp_path / str(number)).open("w").close()
        file = (tmp_path / "x").open("w")
    assert [signal for signal, _ in functions_in(log)] == ["process.fds"]
    assert len(log._opened) == 256
    file.close()


def test_open_stays_what_it_is() -> None:
    with SystemLog(audits=False):
        assert open is io.open is OPEN
        assert pickle.loads(pickle.dumps(open)) is OPEN


def test_a_method_that_user_code_puts_back_later_is_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = threading.Thread.start
    with SystemLog(audits=False) as log:
        saved = threading.Thread.start
    assert saved is not original
    monkeypatch.setattr(threading.Thread, "start", saved)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    assert threading.Thread.start is original
    assert functions_in(log) == []
    stop.set()
    thread.join()
