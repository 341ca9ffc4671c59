"""Growth that belongs to TensorFlow is told from leaks of the user's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.known import find_known
from pytest_tfleak.reports.terminal import failure_text

RunPlanted = Callable[..., dict[str, Verdict]]


def causes(verdict: Verdict) -> set[str | None]:
    return {finding.known for finding in verdict.findings}


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: str(entry.name))
def test_growth_is_known_and_the_users_own_is_found_beside_it(
    run_planted: RunPlanted, entry: Known
) -> None:
    body = entry.name.replace("-", "_")
    verdicts = run_planted("known", "-k", f"growth and {body} and not keras_{body}")
    alone = verdicts[f"test_growth[{body}-none]"]
    heap = next(f for f in alone.findings if f.signal == "host.heap")
    assert heap.known == entry.name
    assert heap.per_iteration is not None
    assert heap.per_iteration > 6 * 1024
    assert heap.experiments[0].per_iteration < 0.2 * heap.per_iteration
    if entry.remedy is None:
        assert alone.status is Status.CLEAN
        assert causes(alone) == {entry.name}
        assert not alone.failing
    else:
        assert alone.status is Status.LEAK
        assert heap.advice == entry.remedy
        assert not alone.accepted
    for own, rate in (("each", 1), ("fifth", 0.2)):
        verdict = verdicts[f"test_growth[{body}-{own}]"]
        assert verdict.status is Status.LEAK
        tensors = next(f for f in verdict.failing if f.signal == "tf.tensors")
        assert tensors.per_iteration == pytest.approx(rate, rel=0.02)
        assert tensors.known is None
        assert entry.name in causes(verdict)


def test_a_fresh_keras_model_in_each_call(run_planted: RunPlanted) -> None:
    verdicts = run_planted("known", "-k", "fresh_model", "-v")
    clean = verdicts["test_fresh_model_after_clear_session"]
    assert clean.status is Status.CLEAN, clean.findings
    assert causes(clean) == {"custom-gradient-registry"}
    leak = verdicts["test_fresh_model"]
    assert leak.status is Status.LEAK
    assert {f.known for f in leak.failing} == {"eager-kernel-cache"}
    assert "custom-gradient-registry" in {f.known for f in leak.accepted}
    kernels = find_known("eager-kernel-cache")
    assert kernels is not None
    text = " ".join(failure_text(leak, width=200).split())
    assert str(kernels.remedy) in text
    assert "custom-gradient registry (tensorflow#97697)" in text


def test_options_and_borders(run_planted: RunPlanted) -> None:
    verdicts = run_planted("known", "-k", "not growth and not fresh or asked")
    asked = verdicts["test_known_growth_fails_where_that_is_asked"]
    assert asked.status is Status.LEAK
    assert causes(asked) == {"custom-gradient-registry"}
    assert not asked.accepted
    without = verdicts["test_nothing_is_known_without_experiments"]
    assert without.status is Status.LEAK
    assert causes(without) == {None}
    kept = verdicts["test_gradients_of_a_function_that_is_kept_are_found"]
    assert not any("cut short" in note for note in kept.notes), kept.notes
    failed = verdicts["test_body_that_fails_in_an_experiment"]
    assert failed.status is Status.LEAK
    assert any("cut short: the test ended with" in note for note in failed.notes)
    for name in (
        "test_gradient_registered_by_the_user_leaks",
        "test_retracing_with_a_custom_gradient_leaks",
    ):
        assert verdicts[name].status is Status.LEAK
        assert None in {f.known for f in verdicts[name].failing}
