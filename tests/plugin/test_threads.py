"""Threads beside the body, and a Python that runs without its global lock."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from pytest_tfleak import find_leaks
from pytest_tfleak.run.environment import WITHOUT_GIL
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status

KEPT: list[object] = []


@pytest.fixture
def busy() -> Iterator[None]:
    """Threads that allocate and free at random, while the body is measured."""
    stop = threading.Event()

    def churn(rng: random.Random) -> None:
        held: list[object] = []
        while not stop.wait(0.0002):
            if rng.random() < 0.5:
                held.append([object() for _ in range(rng.randrange(400))])
                held.append(bytearray(rng.randrange(200_000)))
            elif held:
                del held[rng.randrange(len(held)) :]

    threads = [
        threading.Thread(target=churn, args=(random.Random(seed),), name=f"busy-{seed}")
        for seed in range(2)
    ]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
    KEPT.clear()


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("leaks", [False, True])
def test_a_body_beside_busy_threads_is_judged_right_or_not_at_all(leaks: bool) -> None:
    pause = threading.Event()

    def body() -> None:
        if leaks:
            KEPT.append([object() for _ in range(300)])
        pause.wait(0.001)

    verdict = find_leaks(body, iterations=20, diagnose="off")
    if verdict.status is not (Status.LEAK if leaks else Status.CLEAN):
        assert verdict.reason is Reason.UNSTEADY
        assert "moves by" in str(verdict.detail)
        # threads that earlier tests have left may be named, too
        assert any(note.startswith("Other threads ran (") for note in verdict.notes)


@pytest.mark.parametrize("depth", ["quick", "full"])
@pytest.mark.parametrize("leaks", [False, True])
def test_threads_that_wait_change_no_verdict(leaks: bool, depth: str) -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()

    def body() -> None:
        if leaks:
            KEPT.append([object() for _ in range(300)])

    try:
        verdict = find_leaks(body, iterations=20, depth=depth, diagnose="off")
    finally:
        stop.set()
        KEPT.clear()
    assert verdict.status is (Status.LEAK if leaks else Status.CLEAN)
    assert not verdict.notes


@pytest.mark.parametrize("leaks", [False, True])
def test_what_ending_threads_free_hides_no_leak(leaks: bool) -> None:
    ends = [threading.Event() for _ in range(30)]

    def hold(end: threading.Event) -> None:
        held = bytearray(100_000)
        end.wait()
        del held

    threads = [threading.Thread(target=hold, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()
    calls = count()

    def body() -> None:
        if leaks:
            KEPT.append(bytearray(20_000))
        call = next(calls)
        if call % 2 and call < 2 * len(ends):
            ends[call // 2].set()
            threads[call // 2].join()

    try:
        verdict = find_leaks(body, iterations=20, diagnose="off")
    finally:
        for end in ends:
            end.set()
        KEPT.clear()
    if not leaks:
        assert verdict.status is Status.CLEAN
        return
    assert verdict.reason is Reason.UNSTEADY
    assert verdict.detail == (
        "other threads end meanwhile, and what host.heap falls by then may hide a leak"
    )


def test_python_without_its_lock_is_refused_in_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    pytester.makepyfile("def test_a(): pass")
    result = pytester.runpytest_inprocess("--tfleak")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: tfleak: {WITHOUT_GIL}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    with pytest.raises(RuntimeError, match="free-threaded Python is not supported"):
        find_leaks(lambda: None)
