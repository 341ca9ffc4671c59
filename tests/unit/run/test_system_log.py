"""Who started threads and opened files that are still there."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.run.system_log import SystemLog
from pytest_tfleak.user_code import function_at

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc to list descriptors"
)


def functions_in(log: SystemLog) -> list[tuple[str, str]]:
    """Return the signal and the function of user code of all that is left."""
    found = [
        (signal, function_at(*frames[0])) for signal, _, frames in log.left() if frames
    ]
    return sorted(found)


@on_linux
def test_what_is_left_after_the_block(tmp_path: Path) -> None:
    stop = threading.Event()
    with SystemLog(audits=False) as log:
        threading.Thread(target=stop.wait, daemon=True).start()
        file = (tmp_path / "a").open("w")
    here = "test_what_is_left_after_the_block"
    assert functions_in(log) == [("process.fds", here), ("process.threads", here)]
    file.close()
    stop.set()


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
def test_ever_new_files_take_no_memory(tmp_path: Path) -> None:
    def open_some(first: int) -> None:
        for number in range(first, first + 300):
            (tmp_path / str(number)).open("w").close()

    with SystemLog(audits=False) as log:
        open_some(0)
        before = sys.getallocatedblocks()
        open_some(300)
        # names that pathlib interns may need a few
        assert sys.getallocatedblocks() - before < 150
        file = (tmp_path / "x").open("w")
        assert [signal for signal, _ in functions_in(log)] == ["process.fds"]
        file.close()


def test_open_stays_a_function_if_a_class_has_it(tmp_path: Path) -> None:
    with SystemLog(audits=False):

        class Reader:
            opener: Any = open

        Reader().opener(tmp_path / "a", "w").close()
        with pytest.raises(FileNotFoundError):
            open(tmp_path / "b")  # noqa: SIM115, PTH123 - it raises
