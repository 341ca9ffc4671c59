"""How a context manager fails to clean up, from lines and their source."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_tfleak.diagnosis.causes.all_causes import cause_named
from pytest_tfleak.diagnosis.origin.managers import how_it_fails
from pytest_tfleak.verdict import Origin

SOURCE = """
import contextlib

class OnSuccess:
    def __enter__(self): ...
    def __exit__(self, kind, *rest):
        if kind is None:
            self.close()

class OnSuccessByArgs:
    def __enter__(self): ...
    def __exit__(self, *error):
        if error[0]:
            return
        self.close()

class Always:
    def __enter__(self): ...
    def __exit__(self, *error):
        if self.is_open:
            self.close()

@contextlib.contextmanager
def bare():
    yield open_it()
    close_it()

@contextlib.asynccontextmanager
async def bare_async():
    yield await open_it()
    await close_it()

@contextlib.contextmanager
def guarded():
    try:
        yield open_it()
    finally:
        close_it()

def numbers():
    yield 1

class Bundle:
    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(guarded())

class CarefulBundle:
    def __init__(self):
        with contextlib.ExitStack() as stack:
            self.stack = stack.pop_all()
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(SOURCE, "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("made", "failing", "expected"),
    [
        ("OnSuccess.__enter__", "test_it", "exit-only-on-success"),
        ("OnSuccessByArgs.__enter__", "test_it", "exit-only-on-success"),
        ("Always.__enter__", "test_it", ""),
        ("Always.__enter__", "Always.__enter__", "enter-fails-after-opening"),
        ("Always.__enter__", "Other.__enter__", ""),
        ("Always.__enter__", "Always.__exit__", "exit-fails-before-closing"),
        ("bare", "test_it", "yield-without-finally"),
        ("bare_async", "test_it", "yield-without-finally"),
        ("guarded", "test_it", ""),
        ("numbers", "test_it", ""),
        ("Bundle.__init__", "Bundle.__init__", "exit-stack-half-filled"),
        ("Bundle.__init__", "test_it", ""),
        ("CarefulBundle.__init__", "CarefulBundle.__init__", ""),
        ("no_such_function", "test_it", ""),
    ],
)
def test_how_a_context_manager_fails(
    file: str, made: str, failing: str, expected: str
) -> None:
    def line(function: str) -> Origin:
        return Origin(file=file, line=1, function=function, text="")

    found = how_it_fails([line(made)], [[line(failing), line("test_it")]])
    assert found == expected
    assert not found or cause_named(found) is not None


def test_nothing_is_said_without_a_failing_call(file: str) -> None:
    made = Origin(file=file, line=1, function="bare", text="")
    assert how_it_fails([made], []) == ""


def test_calls_that_fail_in_different_places_have_no_enter_or_exit_in_common(
    file: str,
) -> None:
    enter = Origin(file=file, line=1, function="Always.__enter__", text="")
    test = Origin(file=file, line=1, function="test_it", text="")
    assert how_it_fails([enter], [[enter], [test]]) == ""
