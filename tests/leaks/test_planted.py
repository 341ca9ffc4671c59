"""Planted leaks are found by the right signal, and clean code is clean."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict

RunPlanted = Callable[..., dict[str, Verdict]]

#: The signal that must show each leak, and its growth, None if it does not pile up.
LEAKS: dict[str, dict[str, float | None]] = {
    "test_eager_tensor_per_call_leaks": {"tf.tensors": 1},
    "test_session_per_call_leaks": {"tf.sessions": 1},
    "test_closed_session_kept_leaks": {"tf.sessions.closed": 1},
    "test_graph_per_call_leaks": {"tf.graphs": 1},
    "test_operations_in_default_graph_leak": {"tf.default_graph.ops": 3},
    "test_retracing_leaks": {"tf.traces": 1},
    "test_malloc_without_free_leaks": {"host.heap": 65_536},
    "test_big_tensors_leak": {"tf.tensors": 1, "host.allocator": 400_000},
    "test_one_global_session_is_still_there": {"tf.sessions": None},
    "test_interactive_session_per_call_leaks": {
        "tf.sessions": 1,
        "tf.session_stack": 1,
    },
    "test_tensor_of_every_fifth_call_leaks": {"tf.tensors": 0.2},
    "test_session_of_a_fixture_set_up_again_leaks": {"tf.graphs.ops": 1},
    "test_graph_entered_and_never_left_leaks": {"tf.graph_stack": 1},
    "test_tape_entered_and_never_left_leaks": {"tf.tapes": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["file", "reversed"])
def test_first_leaks_in_any_order(run_planted: RunPlanted, order: str) -> None:
    verdicts = run_planted("first", order=order, diagnose=False)
    clean = {name for name in verdicts if name.endswith("_is_clean")}
    assert set(verdicts) == clean | set(LEAKS)
    wrong = {n: verdicts[n] for n in clean if verdicts[n].status is not Status.CLEAN}
    assert not wrong
    for name, signals in LEAKS.items():
        found = {f.signal: f.per_iteration for f in verdicts[name].findings}
        for signal, growth in signals.items():
            assert signal in found, (name, found)
            if growth is None:
                assert found[signal] is None, (name, found)
            else:
                assert found[signal] == pytest.approx(growth, rel=0.02), (name, found)


def test_leak_is_found_while_older_objects_go(run_planted: RunPlanted) -> None:
    verdicts = run_planted("falls", diagnose=False)
    leak = verdicts["test_tensor_per_call_leaks_while_older_ones_go"]
    growth = {f.signal: f.per_iteration for f in leak.findings}
    assert growth["tf.tensors"] == 1
    clean = verdicts["test_buffer_emptied_every_64_calls_is_clean"]
    assert clean.status is Status.CLEAN


def test_dropped_session_is_named_in_a_note(run_planted: RunPlanted) -> None:
    verdicts = run_planted("first", "-k", "dropped or in_with", diagnose=False)
    assert verdicts["test_session_in_with_is_clean"].notes == ()
    (note,) = verdicts["test_dropped_session_is_clean"].notes
    assert note.startswith("55 sessions were dropped without close()")


@pytest.mark.slow
def test_session_that_only_the_last_call_left_is_named_in_a_note(
    run_planted: RunPlanted,
) -> None:
    verdicts = run_planted("first", "-k", "replaces or set_up_again", diagnose=False)
    left = verdicts["test_session_that_replaces_the_last_one_is_clean"]
    assert left.status is Status.CLEAN
    assert left.notes[0].startswith("A session of the last call is still open")
    assert verdicts["test_session_of_a_fixture_set_up_again_leaks"].notes == ()


@pytest.mark.slow
def test_a_fixture_s_seed_ends_with_its_test(run_planted: RunPlanted) -> None:
    verdicts = run_planted("seeds", diagnose=False)
    assert len(verdicts) == 5
    wrong = {n: v for n, v in verdicts.items() if v.status is not Status.CLEAN}
    assert not wrong
