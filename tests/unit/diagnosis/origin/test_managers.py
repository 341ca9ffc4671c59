"""How a context manager fails to clean up, from lines and their source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tfleak.diagnosis.causes.all_causes import cause_named
from pytest_tfleak.diagnosis.origin.managers import FailedWay
from pytest_tfleak.diagnosis.origin.managers import form_of
from pytest_tfleak.diagnosis.origin.managers import how_it_fails
from pytest_tfleak.diagnosis.origin.managers import manager_of
from pytest_tfleak.diagnosis.origin.managers import stack_made_in
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin

SOURCE = """
import contextlib

class OnSuccess:
    def __enter__(self):
        self.x = open_it()  # on success
    def __exit__(self, kind, *rest):
        if kind is None:
            self.x.close()

class OnSuccessByArgs:
    def __enter__(self):
        self.x = open_it()  # by args
    def __exit__(self, *error):
        if error[0]:
            return
        self.x.close()

class Quiet:
    async def __aenter__(self):
        self.x = open_it()  # quiet
    async def __aexit__(self, kind, error, trace):
        if error:
            return True
        self.x.close()

class Always:
    def __enter__(self):
        self.x = open_it()  # always
        self.x.run()  # in enter
    def __exit__(self, *error):
        self.flush()  # in exit
        if self.x:
            self.x.close()

class Derived(Always):
    def __exit__(self, *error):
        self.flush()  # in the exit of the derived class
        super().__exit__()

class Timer:
    def __enter__(self):
        self.start()  # in another enter
    def __exit__(self, *error):
        self.stop()  # in another exit

@contextlib.contextmanager
def bare():
    x = open_it()  # bare
    x.run()  # before the yield
    yield x
    x.flush()  # after the yield
    x.close()

@contextlib.asynccontextmanager
async def bare_async():
    x = await open_it()  # bare async
    yield x
    await x.close()

@contextlib.contextmanager
def guarded():
    x = open_it()  # guarded
    try:
        yield x
    finally:
        x.close()

@contextlib.contextmanager
def in_a_with():
    with open_it() as x:  # in a with
        yield x

@contextlib.contextmanager
def in_another_with():
    with scope():
        x = open_it()  # in another with
        yield x
        x.close()

@contextlib.contextmanager
def after_errors():
    x = open_it()  # after errors
    try:
        yield x
    except Exception:
        x.close()
        raise
    x.close()

@contextlib.asynccontextmanager
async def after_errors_async():
    x = await open_it()  # after errors, async
    try:
        yield x
    except Exception:
        await x.close()
        raise
    await x.close()

@contextlib.asynccontextmanager
async def after_all_errors():
    x = await open_it()  # after all errors
    try:
        yield x
    except BaseException:
        await x.close()
        raise

def numbers():
    yield 1  # no manager

class Bundle:
    def __init__(self):
        self.parts: object = contextlib.ExitStack()
        self.parts.enter_context(guarded())  # bundle

class CarefulBundle:
    def __init__(self):
        with contextlib.ExitStack() as stack:
            self.stack = stack.pop_all()  # careful

def cut_short():
    before = open_it()  # before
    with quiet():
        inside = open_it()  # inside
        run()  # in the block
    after = open_it()  # after

def user():
    run()  # user

def other():
    run()  # other
"""


@pytest.fixture
def line(tmp_path: Path) -> Callable[[str], Origin]:
    """Return a function that finds a line by its comment."""
    path = tmp_path / "app.py"
    path.write_text(SOURCE, "utf-8")
    texts = SOURCE.splitlines()

    def find(comment: str) -> Origin:
        (number,) = (n for n, t in enumerate(texts, 1) if t.endswith(f"# {comment}"))
        found, _ = origin_of([(str(path), number)])
        assert found is not None
        return found

    return find


@pytest.mark.parametrize(
    ("made", "failing", "expected"),
    [
        ("on success", "user", "exit-only-on-success"),
        ("by args", "user", "exit-only-on-success"),
        ("quiet", "user", "exit-returns-true"),
        ("always", "user", ""),
        ("always", "in enter", "enter-fails-after-opening"),
        ("always", "in another enter", ""),
        ("always", "in exit", "exit-fails-before-closing"),
        ("always", "in the exit of the derived class", "exit-fails-before-closing"),
        ("always", "in another exit", ""),
        ("bare", "user", "yield-without-finally"),
        ("bare", "before the yield", "fails-before-yield"),
        ("bare", "after the yield", "exit-fails-before-closing"),
        ("bare async", "user", "yield-without-finally"),
        ("guarded", "before the yield", ""),
        ("guarded", "after the yield", ""),
        ("guarded", "user", ""),
        ("in a with", "user", ""),
        ("in another with", "user", "yield-without-finally"),
        ("after errors", "user", "yield-without-finally"),
        ("after errors, async", "other", "cancelled-without-finally"),
        ("after errors, async", "user", "yield-without-finally"),
        ("after all errors", "other", "yield-without-finally"),
        ("no manager", "user", ""),
        ("bundle", "bundle", "exit-stack-half-filled"),
        ("bundle", "user", ""),
        ("careful", "careful", ""),
    ],
)
def test_how_a_context_manager_fails(
    line: Callable[[str], Origin], made: str, failing: str, expected: str
) -> None:
    way = FailedWay(lines=[line(failing)])
    found = how_it_fails([line(made), line("user")], [way])
    assert found == expected
    assert not found or cause_named(found) is not None


@pytest.mark.parametrize(
    ("exits", "expected"),
    [
        (["OnSuccess.__exit__"], "exit-only-on-success"),
        (["Timer.__exit__", "OnSuccess.__exit__"], ""),
        (["Derived.__exit__", "OnSuccess.__exit__"], "exit-only-on-success"),
        (["Quiet.__aexit__"], "exit-returns-true"),
    ],
)
def test_the_exit_of_the_manager_that_ran_counts(
    line: Callable[[str], Origin], exits: list[str], expected: str
) -> None:
    made = line("on success")
    known = {(made.file, made.function): [(made.file, exit_) for exit_ in exits]}
    way = FailedWay(lines=[line("user")])
    assert how_it_fails([made], [way], known) == expected


def test_an_error_of_the_exit_itself(line: Callable[[str], Origin]) -> None:
    way = FailedWay(lines=[line("user")], raised=[line("user"), line("in exit")])
    assert how_it_fails([line("always")], [way]) == "exit-fails-before-closing"


@pytest.mark.parametrize(
    ("made", "expected"),
    [("before", "exit-hides-error"), ("inside", "exit-hides-error"), ("after", "")],
)
def test_an_error_that_ends_at_a_with_statement(
    line: Callable[[str], Origin], made: str, expected: str
) -> None:
    block = line("inside")
    way = FailedWay(lines=[line("in the block")], ended_at=(block.file, block.line - 1))
    assert how_it_fails([line(made)], [way]) == expected
    assert how_it_fails([line(made)], [way, FailedWay(lines=way.lines)]) == ""


def test_nothing_is_said_without_a_failing_call(line: Callable[[str], Origin]) -> None:
    assert how_it_fails([line("bare")], []) == ""


def test_calls_that_fail_in_different_places_have_no_enter_or_exit_in_common(
    line: Callable[[str], Origin],
) -> None:
    ways = [FailedWay(lines=[line("in enter")]), FailedWay(lines=[line("user")])]
    assert how_it_fails([line("always")], ways) == ""


@pytest.mark.parametrize(
    ("made", "enter", "exit_"),
    [
        ("always", "__enter__", "__exit__"),
        ("quiet", "__aenter__", "__aexit__"),
        ("bare", "the code in front of the yield", "the code after the yield"),
        ("user", "__enter__", "__exit__"),
    ],
)
def test_how_a_manager_calls_its_halves(
    line: Callable[[str], Origin], made: str, enter: str, exit_: str
) -> None:
    assert form_of([line("other"), line(made)]) == (enter, exit_)


def test_the_names_of_a_manager_and_of_a_stack(line: Callable[[str], Origin]) -> None:
    assert manager_of([line("user"), line("quiet")]) == "Quiet"
    assert manager_of([line("user")]) == ""
    bundle = line("bundle")
    found = stack_made_in(bundle.file, bundle.function)
    assert found == ("contextlib.ExitStack()", "self.parts")
