"""What is open where a body fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_tfleak.diagnosis.closed_session import still_open
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.run.system_log import StillThere
from pytest_tfleak.run.system_log import SystemLog


class FakeLog(SessionLog):
    """Remembers two sessions of one line, one of another, and a graph."""

    def left_open(self) -> list[tuple[Any, bool]]:
        return [("a", True), ("b", True), ("c", True), ("graph", False)]

    def created_at(self, created: object) -> list[tuple[str, int]]:
        return [(__file__, 10 if created == "c" else 1)]


def test_the_lines_that_made_open_sessions() -> None:
    found = still_open(FakeLog(), SystemLog(audits=False))
    assert "2 sessions made at " in found
    assert "test_closed_session.py:1," in found
    assert "a session made at " in found
    assert "graph" not in found


LINE = FakeLog.left_open.__code__.co_firstlineno + 1


class FakeSystem(SystemLog):
    """Remembers a thread, two files of one line, and a thread of a library."""

    def left(self) -> Iterator[StillThere]:
        here = [(__file__, LINE)]
        yield StillThere("process.threads", "thread", here)
        yield StillThere("process.fds", "file", here, "/a/1")
        yield StillThere("process.fds", "other", here, "/a/2")
        yield StillThere("process.threads", "thread of a library", ())
        yield StillThere("process.fds", "file of an import", [*here, (__file__, 1)])


class NoLog(SessionLog):
    """Remembers no session."""

    def left_open(self) -> list[tuple[Any, bool]]:
        return []


def test_the_lines_that_started_threads_and_opened_files() -> None:
    found = still_open(NoLog(), FakeSystem(audits=False)).split(", ")
    assert len(found) == 2
    assert found[0].startswith("2 file descriptors opened at ")
    assert found[1].startswith("a thread started at ")
    assert found[1].endswith(f"test_closed_session.py:{LINE} in FakeLog.left_open()")


class FilesOnly(SystemLog):
    """Remembers a pipe, and the files of some paths, without a line."""

    def __init__(self, *paths: str) -> None:
        super().__init__(audits=False)
        self.paths = paths

    def left(self) -> Iterator[StillThere]:
        for path in ("", *self.paths):
            yield StillThere("process.fds", "words", (), path)


def test_files_without_a_line_have_a_path() -> None:
    inside = Path.cwd() / "b" / "c"
    paths = ("/a/1", str(inside), "/a/1", "/a/#12 (deleted)", "/a/#13 (deleted)")
    found = still_open(NoLog(), FilesOnly(*paths))
    expected = f"the file /a/1 (2 times), the file {Path('b', 'c')}, "
    assert found == expected + "a deleted file in /a (2 times)"


def test_of_many_files_the_first_have_a_path() -> None:
    found = still_open(NoLog(), FilesOnly(*map("/a/{}".format, range(7))))
    assert found.endswith("the file /a/4, 2 more files")


class BrokenSystem(SystemLog):
    """Cannot list anything, as without a free descriptor."""

    def left(self) -> Iterator[StillThere]:
        raise OSError


def test_what_cannot_be_listed_is_left_out() -> None:
    assert "2 sessions made at " in still_open(FakeLog(), BrokenSystem(audits=False))
