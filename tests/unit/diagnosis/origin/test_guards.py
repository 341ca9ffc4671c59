"""What cleans up an object, but begins too late, from its source."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tfleak.diagnosis.origin.guards import Guard
from pytest_tfleak.diagnosis.origin.guards import guard_after
from pytest_tfleak.diagnosis.origin.managers import FailedWay
from pytest_tfleak.diagnosis.origin.managers import how_it_fails
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin

SOURCE = """
def with_try():
    x = open_it()  # opened
    warm_up()  # fails
    try:
        work()  # in the try
    finally:
        x.close()

def with_stack(stack):
    done, thread = start()  # started
    warm_up()  # fails before the callback
    stack.callback(end, done, thread)
    work()  # after the callback

def with_block(self):
    self.x: File = open_it()  # annotated
    warm_up()  # fails before the with
    with closing(self.x):
        work()

def at_once():
    x = open_it()  # guarded at once
    try:
        work()  # fails inside
    finally:
        x.close()

def inside():
    try:
        x = open_it()  # opened inside
        warm_up()
    finally:
        close(x)

def of_others():
    x = open_it()  # nobody closes it
    warm_up()  # fails without a guard
    try:
        work()
    finally:
        y.close()

def without_name():
    open_it()  # has no name
    warm_up()

class Body:
    x = open_it()  # in a class
"""


@pytest.fixture
def line(tmp_path: Path) -> Callable[[str], Origin]:
    file = tmp_path / "app.py"
    file.write_text(SOURCE)

    def line(comment: str) -> Origin:
        lines = SOURCE.splitlines()
        (number,) = (
            n for n, text in enumerate(lines, 1) if text.endswith(f"# {comment}")
        )
        found, _ = origin_of([(str(file), number)])
        assert found is not None
        return found

    return line


@pytest.mark.parametrize(
    ("opened", "code", "opening"),
    [
        ("opened", "try: ... finally: ...", "x = open_it()"),
        ("started", "stack.callback(end, done, thread)", "done, thread = start()"),
        ("annotated", "with closing(self.x): ...", "self.x: File = open_it()"),
    ],
)
def test_a_guard_that_begins_too_late(
    line: Callable[[str], Origin], opened: str, code: str, opening: str
) -> None:
    at = line(opened).line
    opening = ast.unparse(ast.parse(opening))  # Python 3.10 adds parentheses
    assert guard_after(line(opened)) == Guard(code, opening, range(at + 1, at + 2))


@pytest.mark.parametrize(
    "opened",
    [
        *("guarded at once", "opened inside", "nobody closes it", "has no name"),
        "in a class",
    ],
)
def test_no_guard_begins_too_late(line: Callable[[str], Origin], opened: str) -> None:
    assert guard_after(line(opened)) is None


@pytest.mark.parametrize(
    ("made", "failing", "expected"),
    [
        ("opened", ["fails"], "guarded-too-late"),
        ("opened", ["fails", "in the try"], ""),
        ("started", ["fails before the callback"], "guarded-too-late"),
        ("started", ["after the callback"], ""),
        ("opened", ["fails before the callback"], ""),
        ("nobody closes it", ["fails without a guard"], ""),
    ],
)
def test_each_failing_call_lies_in_between(
    line: Callable[[str], Origin], made: str, failing: list[str], expected: str
) -> None:
    ways = [FailedWay(lines=[line(comment)]) for comment in failing]
    assert how_it_fails([line(made)], ways) == expected
