"""What follows where a call fails: the error's way, without TensorFlow."""

from __future__ import annotations

import builtins
import doctest
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pytest_tfleak.run.failing_passes import FailingPasses
from pytest_tfleak.run.faults import Call
from pytest_tfleak.run.faults import Faults
from pytest_tfleak.run.interrupts import Endings


class FaultyCalls(Faults):
    """Counts calls of ``call`` instead of TensorFlow's."""

    def call(self) -> None:
        self._count += 1
        if self._count == self._target:
            self.failed = Call(self._count, "MatMul", [])
            self.raised = RuntimeError("made to fail")
            raise self.raised


faults = FaultyCalls("ResourceExhaustedError")


def passes_of(body: Callable[[], object], targets: int) -> FailingPasses:
    def call() -> None:
        with faults:
            body()

    passes = FailingPasses(call, faults, range(1, targets + 1), Endings())
    for _ in range(targets):
        passes()
    return passes


def test_each_call_fails_once() -> None:
    reached: list[int] = []

    def body() -> None:
        for number in range(3):
            faults.call()
            reached.append(number)

    passes = passes_of(body, 3)
    assert reached == [0, 0, 1]
    assert passes.last(3) == [1, 2, 3]
    assert sorted(passes.aftermath.calls) == [1, 2, 3]
    assert not passes.aftermath.own


def test_an_error_that_comes_from_it_is_not_the_tests_own() -> None:
    def body() -> None:
        try:
            faults.call()
        except RuntimeError as error:
            raise KeyError from error

    assert not passes_of(body, 1).aftermath.own


def test_the_lines_of_an_error_that_an_exit_raises_are_kept() -> None:
    class Manager:
        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None:
            raise KeyError

    def body() -> None:
        with Manager():
            faults.call()

    raised = passes_of(body, 1).aftermath.raised
    [(lines, numbers)] = raised.items()
    assert numbers == {1}
    assert lines[-1] == (__file__, Manager.__exit__.__code__.co_firstlineno + 1)
    assert not passes_of(faults.call, 1).aftermath.raised


class OddError(Exception):
    """An exception of the user's, whose attributes may be anything."""


class NoneError(OddError):
    exceptions = None


class TextsError(OddError):
    exceptions = ("one", "two")


class RaisingError(OddError):
    @property
    def exceptions(self) -> None:
        raise ZeroDivisionError

    __cause__ = __context__ = exceptions


@pytest.mark.parametrize("odd", [NoneError, TextsError, RaisingError])
def test_an_exception_with_attributes_of_its_own(odd: type[OddError]) -> None:
    def body() -> None:
        try:
            faults.call()
        except RuntimeError as error:
            raise odd from error

    assert not passes_of(body, 1).aftermath.own


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no groups of exceptions")
def test_an_error_in_a_group_is_not_the_tests_own() -> None:
    def body() -> None:
        caught = None
        try:
            faults.call()
        except RuntimeError as error:
            caught = error
        if caught is not None:
            group: Any = vars(builtins)["ExceptionGroup"]  # not in Python 3.10
            raise group("some", [ValueError(), caught])

    assert not passes_of(body, 1).aftermath.own


def test_the_error_of_a_doctest_is_not_its_own() -> None:
    test = doctest.DocTestParser().get_doctest(">>> call()", {}, "it", None, None)

    def body() -> None:
        test.globs = {"call": faults.call}
        doctest.DebugRunner().run(test)

    assert not passes_of(body, 1).aftermath.own


def test_an_assertion_that_fails_afterwards_is_noted() -> None:
    def body() -> None:
        result = None
        try:
            faults.call()
            result = 1
        except RuntimeError:
            pass
        assert result == 1

    ((name, line),) = passes_of(body, 1).aftermath.own
    assert name == "AssertionError"
    assert line is not None
    assert line[0] == __file__


def test_an_error_before_the_call_is_damage() -> None:
    failed_before: list[int] = []

    def body() -> None:
        if failed_before:
            raise ValueError
        failed_before.append(1)
        faults.call()
        faults.call()

    aftermath = passes_of(body, 2).aftermath
    assert {name: numbers for (name, _), numbers in aftermath.damaged.items()} == {
        "ValueError": {2}
    }


def test_a_call_that_is_not_reached() -> None:
    assert passes_of(faults.call, 3).aftermath.unreached == {2, 3}


def test_what_ends_the_run_passes_through() -> None:
    def body() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        passes_of(body, 1)


def test_memory_that_is_really_used_up_passes_through() -> None:
    def body() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        passes_of(body, 1)
