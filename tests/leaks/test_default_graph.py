"""What the default graph keeps counts as a leak only if there is a remedy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict

RunPlanted = Callable[..., dict[str, Verdict]]


def causes(verdict: Verdict) -> set[str | None]:
    return {finding.known for finding in verdict.findings}


def test_growth_without_a_remedy_is_known(run_planted: RunPlanted) -> None:
    names = "scan", "reduce_and_save", "module_level_function", "method_of_one_object"
    verdicts = run_planted("default_graph", "-k", " or ".join(names))
    assert len(verdicts) == len(names)
    wrong = {n: v for n, v in verdicts.items() if v.status is not Status.CLEAN}
    assert not wrong
    for name in ("test_scan", "test_reduce_and_save"):
        assert "tf-data-functions" in causes(verdicts[name])
    for name in ("test_module_level_function", "test_method_of_one_object"):
        assert causes(verdicts[name]) == {"py-function-wrappers"}


@pytest.mark.slow
def test_what_the_user_keeps_leaks(run_planted: RunPlanted) -> None:
    verdicts = run_planted("default_graph", "-k", "closure or kept or adds")
    wrong = {n: v for n, v in verdicts.items() if v.status is not Status.LEAK}
    assert not wrong
    closure = verdicts["test_closure"]
    assert {f.known for f in closure.failing} == {"py-function-closures"}
    kept = next(
        f
        for f in verdicts["test_dataset_that_is_kept"].failing
        if f.signal == "tf.datasets"
    )
    assert kept.known is None
    advice = {f.cause for f in verdicts["test_dataset_that_is_kept"].failing}
    assert "py-function-closures" not in advice
    added = verdicts["test_function_that_the_user_adds"]
    assert causes(added) == {None}
