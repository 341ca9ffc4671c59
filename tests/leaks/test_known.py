"""Known growth of TensorFlow and leaks in user code are told apart."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.verdict import Reason

RunPlanted = Callable[..., dict[str, Verdict]]


NO_OP = """
from contextlib import ExitStack
from time import sleep

import tensorflow as tf

from pytest_tfleak.probes.census import Census
from pytest_tfleak.diagnosis.experiments.search import enter_all
from pytest_tfleak.known import known_here
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes import make_probes

tf.constant(1.0) + 1.0
sleep(1)  # on a busy machine its threads are still starting, and allocate
census = Census()
loop = Loop(lambda: None, Plan(), make_probes(census), census)
with loop, ExitStack() as stack:
    loop.warm_up()
    loop.measure()
    interventions = enter_all(stack, known_here())
    assert len(interventions) == len(known_here()) > 0
    calls = [intervention.after for intervention in interventions]
    trace = loop.run_again(calls, warmup=3, iterations=20)
for signal in trace:
    if signal.nature == "exact" and signal.allowance is not None:
        readings = [r for r in trace.judged_series(signal.name) if r is not None]
        # the interpreter counts the blocks of other threads too, which come and go
        apart = 2 if signal.name == "python.blocks" else 0
        late = readings[10:] if readings else [0]  # not every signal can be read here
        assert late and max(late) - min(late) <= apart, (signal.name, readings)
        assert max(readings, default=0) - min(readings, default=0) < 10, signal.name
"""


@pytest.mark.slow
def test_the_experiments_do_not_move_what_is_read(pytester: pytest.Pytester) -> None:
    result = pytester.run(sys.executable, pytester.makepyfile(no_op=NO_OP))
    assert result.ret == 0, result.stderr.str()


def causes(verdict: Verdict) -> set[str | None]:
    return {finding.known for finding in verdict.findings}


#: One without a remedy and one with a remedy; the others take minutes.
ALWAYS = ("custom-gradient-registry", "eager-kernel-cache")
#: These have tests of their own: the first one's growth ends, the second takes no heap.
APART = ("nest-types", "py-function-wrappers")
ENDLESS = [
    pytest.param(
        entry,
        id=entry.name,
        marks=[] if entry.name in ALWAYS else pytest.mark.slow,
    )
    for entry in KNOWN
    if entry.name not in APART
]


@pytest.mark.parametrize("entry", ENDLESS)
def test_growth_is_known_and_a_leak_beside_it_is_found(
    run_planted: RunPlanted, entry: Known
) -> None:
    body = entry.name.replace("-", "_")
    verdicts = run_planted("known", "-k", f"growth and {body} and not keras_{body}")
    alone = verdicts[f"test_growth[{body}-none]"]
    heap = next(f for f in alone.findings if f.signal == "host.heap")
    assert heap.known == entry.name
    assert heap.per_iteration is not None
    assert heap.per_iteration > 6 * 1024
    # one new kernel of 36 KB in ten iterations is 3.6 KB
    assert heap.experiments[0].per_iteration < 0.3 * heap.per_iteration + 3.6 * 1024
    if entry.remedy is None:
        assert alone.status is Status.CLEAN
        assert causes(alone) == {entry.name}
        assert not alone.failing
    else:
        assert alone.status is Status.LEAK
        call = "keras.utils.clear_session()"
        assert heap.advice == name_clear_session(entry.remedy, call)
        assert heap.origin is not None
        assert heap.native is None  # its C++ functions would say no more
        assert not alone.accepted
    beside = verdicts[f"test_growth[{body}-fifth]"]
    assert beside.status is Status.LEAK
    tensors = next(f for f in beside.failing if f.signal == "tf.tensors")
    assert tensors.per_iteration == pytest.approx(0.2, rel=0.02)
    assert tensors.known is None
    assert entry.name in causes(beside)


@pytest.mark.slow
def test_types_that_nest_keeps_are_known(run_planted: RunPlanted) -> None:
    verdicts = run_planted("nest_types")
    clean = verdicts["test_new_types_in_each_call"]
    assert clean.status is Status.CLEAN, clean.findings
    assert causes(clean) == {"nest-types"}
    kept = verdicts["test_types_that_the_user_keeps"]
    assert kept.status is Status.LEAK
    assert causes(kept) == {None}


@pytest.mark.slow
def test_a_fresh_keras_model_in_each_call(run_planted: RunPlanted) -> None:
    verdicts = run_planted("known", "-k", "fresh_model", "-v")
    clean = verdicts["test_fresh_model_after_clear_session"]
    assert clean.status is Status.CLEAN, clean.findings
    assert causes(clean) == {"custom-gradient-registry"}
    named = verdicts["test_fresh_model"]
    assert named.status is Status.CLEAN, named.findings
    assert "custom-gradient-registry" in causes(named)
    assert "clear_session() frees" in failure_text(named, width=400)


@pytest.mark.slow
def test_what_is_loaded_brings_gradients(run_planted: RunPlanted) -> None:
    verdicts = run_planted("known", "-k", "loading_custom")
    clean = verdicts["test_loading_custom_gradients"]
    assert clean.status is Status.CLEAN, (clean.detail, clean.findings)
    assert causes(clean) == {"custom-gradient-registry"}
    assert not any("cut short" in note for note in clean.notes), clean.notes


@pytest.mark.slow
def test_what_is_loaded_and_kept_is_no_known_growth(run_planted: RunPlanted) -> None:
    verdict = run_planted("known", "-k", "keeping_loaded")[
        "test_keeping_loaded_gradients_leaks"
    ]
    assert verdict.status is Status.LEAK
    assert causes(verdict) == {None}
    lead = next(f for f in verdict.failing if f.signal == "tf.graphs")
    assert lead.path is not None and "KEPT_MODELS" in edges_of(lead.path)[0]


@pytest.mark.slow
def test_predict_in_a_loop_is_clean(run_planted: RunPlanted) -> None:
    verdicts = run_planted("known", "-k", "predict")
    verdict = verdicts["test_predict"]
    assert verdict.status is Status.CLEAN, verdict.findings
    assert causes(verdict) == {"tf-data-iterators"}


@pytest.mark.slow
def test_options_and_borders(run_planted: RunPlanted) -> None:
    others = "growth", "fresh", "predict", "loading", "keeping"
    chosen = " and ".join(f"not {name}" for name in others)
    verdicts = run_planted("known", "-k", f"{chosen} or asked")
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
    assert failed.status is Status.INCONCLUSIVE
    assert failed.reason is Reason.NOT_REPEATABLE
    assert any("the body failed (AssertionError" in note for note in failed.notes)
    hurried = verdicts["test_no_time_for_experiments"]
    assert hurried.status is Status.INCONCLUSIVE
    assert hurried.reason is Reason.OUT_OF_TIME
    assert "custom-gradient registry (tensorflow#97697)" in str(hurried.detail)
    assert "diagnose_time" in str(hurried.detail)
    for name in (
        "test_gradient_registered_by_the_user_leaks",
        "test_retracing_with_a_custom_gradient_leaks",
    ):
        assert verdicts[name].status is Status.LEAK
        assert None in {f.known for f in verdicts[name].failing}
