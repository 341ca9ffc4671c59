"""The judge on traces that the loop recorded, each in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.record import Recording
from benchmarks.record import built_in_signals
from benchmarks.record import judge_recording
from benchmarks.record import read_recordings
from benchmarks.record import write_recordings
from pytest_tfleak.plan import Plan
from pytest_tfleak.verdict import Status

FOLDER = Path(__file__).with_name("recorded")
FILES = sorted(FOLDER.glob("*.jsonl"))
RECORDINGS = [recording for file in FILES for recording in read_recordings(file)]
PLAN = Plan()
#: The signal that must show each leak; other signals may show it as well.
FOUND_BY = {
    "leaky_tensor_kept": "tf.tensors",
    "leaky_session_kept": "tf.sessions",
    "leaky_retracing": "tf.traces",
    "leaky_malloc": "host.heap",
    "leaky_operations_in_default_graph": "tf.default_graph.ops",
    "leaky_big_tensors_in_a_queue": "host.allocator",
    "leaky_every_fifth_iteration": "tf.tensors",
}
each_recording = pytest.mark.parametrize(
    "recording", RECORDINGS, ids=lambda recording: recording.name
)


def of_truth(truth: str) -> list[Recording]:
    return [recording for recording in RECORDINGS if recording.truth == truth]


@pytest.mark.parametrize("recording", of_truth("leak"), ids=lambda r: r.name)
def test_a_recorded_leak_is_found_by_its_signal(recording: Recording) -> None:
    verdict = judge_recording(recording, PLAN)
    assert verdict.status is Status.LEAK
    assert FOUND_BY[recording.name] in {finding.signal for finding in verdict.findings}


@pytest.mark.parametrize("recording", of_truth("clean"), ids=lambda r: r.name)
def test_recorded_clean_code_is_clean(recording: Recording) -> None:
    assert judge_recording(recording, PLAN).status is Status.CLEAN


def test_a_cache_that_is_still_filling_is_confirmed_and_clean() -> None:
    named = {recording.name: recording for recording in RECORDINGS}
    small = judge_recording(named["clean_cache_fills_in_the_first_look"], PLAN)
    large = judge_recording(named["clean_cache_fills_in_the_confirmation"], PLAN)
    assert (small.confirmation, large.confirmation) == (0, PLAN.iterations)


@each_recording
def test_a_recording_holds_signals_that_are_read_today(recording: Recording) -> None:
    assert recording.series.keys() <= built_in_signals().keys()
    rows = recording.warmup + 2 * recording.iterations
    assert {len(series) for series in recording.series.values()} == {rows}


def test_what_was_seen_between_the_iterations_is_written_and_judged() -> None:
    (leak,) = (r for r in RECORDINGS if r.name == "leaky_malloc")
    seen = replace(leak, collected={"host.heap": -64}, kept={"host.heap": 0.0})
    assert Recording.from_line(seen.to_line()) == seen
    # it was freed after the confirmation
    assert judge_recording(seen, PLAN).status is Status.CLEAN


@each_recording
def test_a_recording_survives_being_written(recording: Recording) -> None:
    assert Recording.from_line(recording.to_line()) == recording


def test_a_recording_replaces_that_of_its_name_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "recordings.jsonl"
    write_recordings(file, RECORDINGS)
    write_recordings(file, [RECORDINGS[1]])
    assert read_recordings(file) == RECORDINGS


def test_a_recording_of_another_schema_is_refused() -> None:
    line = RECORDINGS[0].to_line().replace('"schema":1', '"schema":2')
    with pytest.raises(ValueError, match="not a recording of schema 1"):
        Recording.from_line(line)


def test_the_recordings_stay_small() -> None:
    assert sum(file.stat().st_size for file in FILES) < 400_000
