"""The line that runs operations with new attributes in each iteration is found."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from pytest_tfleak.diagnosis.origin.new_operations import NewOperations

tf: Any = pytest.importorskip("tensorflow")


def line_of(body: Callable[[], object]) -> int | None:
    with NewOperations() as operations:
        for _ in range(4):
            body()
            operations.tick()
    stack = operations.stack()
    return stack[0][1] if stack else None


def test_a_line_with_a_new_seed_is_found_beside_others() -> None:
    seeds = iter(range(100))
    here = sys._getframe().f_lineno

    def body() -> None:
        same = tf.random.uniform([3], seed=1)
        tf.raw_ops.RandomStandardNormal(shape=[3], dtype=tf.float32, seed=next(seeds))
        tf.concat([same, same], axis=0)
        tf.constant(float(next(seeds))) + 1.0

    assert line_of(body) == here + 4


def test_a_line_with_a_new_name_is_found() -> None:
    names = iter(range(100))
    here = sys._getframe().f_lineno

    def body() -> None:
        tf.Variable(1.0).assign_add(1.0)
        tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=[], shared_name=f"v{next(names)}"
        )

    assert line_of(body) == here + 4


def test_a_new_function_in_each_iteration_is_found() -> None:
    here = sys._getframe().f_lineno

    def body() -> None:
        step = tf.function(lambda x: x + 1.0)
        step(tf.constant(1.0))

    assert line_of(body) == here + 4


@pytest.mark.parametrize("calls", [0, 5])
def test_what_is_new_once_is_no_line(calls: int) -> None:
    def body() -> None:
        for _ in range(calls):
            tf.random.uniform([3], seed=7)
            tf.reshape(tf.range(4), [2, 2])

    assert line_of(body) is None


def test_hooks_are_removed() -> None:
    from tensorflow.python import pywrap_tfe

    before = pywrap_tfe.TFE_Py_FastPathExecute
    with NewOperations():
        assert pywrap_tfe.TFE_Py_FastPathExecute is not before
    assert pywrap_tfe.TFE_Py_FastPathExecute is before
