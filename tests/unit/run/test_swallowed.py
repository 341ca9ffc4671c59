"""The line that caught an error and did not let it through."""

from __future__ import annotations

import ast
import unittest
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from pytest_tfleak.run.swallowed import where_swallowed

raised: list[KeyError] = []


def fail() -> None:
    raised.append(KeyError("x"))
    raise raised[-1]


class Quiet:
    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return True


def everything() -> None:
    try:  # noqa: SIM105
        fail()
    except:  # noqa: E722 # HERE
        pass


def by_type() -> None:
    try:
        fail()
    except ValueError:
        pass
    except (TypeError, LookupError):  # HERE
        pass


def after_one_that_raises() -> None:
    try:
        try:
            fail()
        except KeyError:
            str(1)
            raise
    except Exception:  # HERE
        pass


def exit_returns_true() -> None:
    with Quiet():  # HERE
        fail()


def suppressed() -> None:
    try:
        with suppress(KeyError):  # HERE
            fail()
    except KeyError:
        pass


def around_a_manager() -> None:
    try:
        with Path(__file__).open():
            fail()
    except KeyError:  # HERE
        pass


def asserted() -> None:
    with pytest.raises(KeyError):
        fail()


def asserted_by_call() -> None:
    pytest.raises(KeyError, fail)  # noqa: RUF061 - the form that is tested


class WithMoreAssertions(unittest.TestCase):
    """As ``tf.test.TestCase``."""

    def assertRaisesOpError(self) -> Quiet:  # noqa: N802 - TensorFlow's name
        return Quiet()


def asserted_by_a_test_case() -> None:
    with WithMoreAssertions().assertRaisesOpError():
        fail()


def line_of(function: Callable[[], None]) -> int:
    text = Path(__file__).read_text("utf-8")
    node = next(
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__
    )
    lines = text.splitlines()
    return next(
        n for n in range(node.lineno, node.end_lineno or 0) if "# HERE" in lines[n - 1]
    )


@pytest.mark.parametrize(
    "function",
    [
        everything,
        by_type,
        after_one_that_raises,
        exit_returns_true,
        suppressed,
        around_a_manager,
    ],
)
def test_the_line_that_swallowed_an_error(function: Callable[[], None]) -> None:
    function()
    found = where_swallowed(raised.pop())
    assert found is not None
    assert (found.file, found.line) == (__file__, line_of(function))


def test_the_words_of_an_exit_that_returns_true() -> None:
    exit_returns_true()
    found = where_swallowed(raised.pop())
    assert found is not None
    assert found.by == "`with Quiet():`, whose __exit__ returns True"
    assert found.is_by_exit


@pytest.mark.parametrize(
    ("function", "is_by_exit"), [(suppressed, True), (everything, False)]
)
def test_whether_an_exit_ended_the_error(
    function: Callable[[], None], is_by_exit: bool
) -> None:
    function()
    found = where_swallowed(raised.pop())
    assert found is not None
    assert found.is_by_exit is is_by_exit


@pytest.mark.parametrize(
    "function", [asserted, asserted_by_call, asserted_by_a_test_case]
)
def test_an_assertion_on_the_error_does_not_swallow_it(
    function: Callable[[], None],
) -> None:
    function()
    assert where_swallowed(raised.pop()) is None
