"""The experiment on tracebacks, with a fake module that extracts the stack."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pytest_tfleak.diagnosis.experiments.one_traceback import OneTraceback
from pytest_tfleak.tf import names

SOURCE = "def add(add_operation): return add_operation()"


def extract_stack(stacklevel: int = 1) -> str:
    """Return the name of the function on that level."""
    return sys._getframe(stacklevel).f_code.co_name


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = SimpleNamespace(extract_stack=extract_stack)
    fake = SimpleNamespace(
        get=lambda: module.extract_stack,
        owner=lambda: module,
        attribute="extract_stack",
    )
    monkeypatch.setattr(names, "EXTRACT_STACK", fake)
    return module


def run_new_code(stack: SimpleNamespace) -> str:
    namespace: dict[str, object] = {}
    exec(SOURCE, namespace)
    add = namespace["add"]
    assert callable(add)
    KEPT.append(add)
    return str(add(lambda: stack.extract_stack(2)))


KEPT: list[object] = []


def test_all_operations_have_one_traceback(stack: SimpleNamespace) -> None:
    with OneTraceback() as experiment:
        assert run_new_code(stack) == "_begin"
        experiment.after()
    assert experiment.failed is None
    assert stack.extract_stack is extract_stack


def test_a_traceback_that_is_only_watched_stays_as_it_is(
    stack: SimpleNamespace,
) -> None:
    with OneTraceback(acts=False):
        assert run_new_code(stack) == "add"


def test_it_watches_where_the_stack_has_no_levels(stack: SimpleNamespace) -> None:
    stack.extract_stack = lambda: "whole stack"  # as in TensorFlow 2.13
    with OneTraceback(acts=False) as experiment:
        assert stack.extract_stack() == "whole stack"
    assert experiment.failed is None


def test_new_code_in_each_call_has_a_part_in_it(stack: SimpleNamespace) -> None:
    with OneTraceback(acts=False) as experiment:
        for _ in range(4):
            run_new_code(stack)
            experiment.after()
    assert experiment.seen == 3


def test_the_same_code_in_each_call_has_none(stack: SimpleNamespace) -> None:
    with OneTraceback(acts=False) as experiment:
        for _ in range(4):
            stack.extract_stack()
            experiment.after()
    assert experiment.seen == 0
