"""TensorFlow's own figures for GPUs, from a fake of its context."""

from __future__ import annotations

import sys
from itertools import count
from typing import Any

import pytest

from pytest_tfleak.measurement import Measurement
from pytest_tfleak.measurement import Setting
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes import allocator
from pytest_tfleak.probes.allocator import AllocatorProbe
from pytest_tfleak.probes.gpu.driver import why_no_gpu
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.verdict import Status

KIB = 1024


@pytest.fixture(autouse=True)
def _fresh_answer() -> Any:
    why_no_gpu.cache_clear()
    yield
    why_no_gpu.cache_clear()


def measure(body: Any, **options: object) -> Any:
    plan = make_plan(iterations=20, warmup=3, diagnose="off", **options)
    probes = [AllocatorProbe()]
    return Measurement(body, plan, Setting(nodeid="x", probes=lambda _: probes)).run()


def test_every_logical_gpu_is_read_with_its_peak(fake_gpus: Any) -> None:
    gpus = fake_gpus.Gpus(1, 2)
    fake_gpus.stand_in(gpus)
    gpus.allocate(4096, "GPU:2")
    gpus.allocate(-1024, "GPU:2")
    readings = fake_gpus.read(AllocatorProbe())
    assert readings == {
        "host.allocator": None,
        "gpu.allocator[GPU:0]": 1280,
        "gpu.peak[GPU:0]": 1280,
        "gpu.allocator[GPU:1]": 1280,
        "gpu.peak[GPU:1]": 1280,
        "gpu.allocator[GPU:2]": 1280 + 3072,
        "gpu.peak[GPU:2]": 1280 + 4096,
    }


def test_a_gpu_that_fills_up_is_a_leak_in_plain_words(fake_gpus: Any) -> None:
    gpus = fake_gpus.Gpus(1)
    fake_gpus.stand_in(gpus)
    verdict = measure(lambda: gpus.allocate(4 * KIB))
    (finding,) = verdict.findings
    assert (verdict.status, finding.signal) == (Status.LEAK, "gpu.allocator[GPU:0]")
    assert (finding.per_iteration, finding.allow) == (4 * KIB, "gpu_per_iteration")
    text = failure_text(verdict)
    assert "GPU memory in TensorFlow's allocator (gpu.allocator[GPU:0])" in text
    assert "gpu_per_iteration=" in text


@pytest.mark.parametrize(
    "options", [{"gpu_per_iteration": "5 KiB"}, {"gpu_per_iteration": "1 MiB"}]
)
def test_growth_within_the_allowance_is_clean(
    fake_gpus: Any, options: dict[str, object]
) -> None:
    gpus = fake_gpus.Gpus(1)
    fake_gpus.stand_in(gpus)
    assert measure(lambda: gpus.allocate(4 * KIB), **options).status is Status.CLEAN


def test_memory_that_is_given_back_is_clean_and_its_peak_is_shown(
    fake_gpus: Any,
) -> None:
    gpus = fake_gpus.Gpus(1)
    fake_gpus.stand_in(gpus)
    sizes = count(4 * KIB, KIB)

    def body() -> None:
        size = next(sizes)
        gpus.allocate(size)
        gpus.allocate(-size)

    verdict = measure(body)
    assert verdict.status is Status.CLEAN
    peak = verdict.signal("gpu.peak[GPU:0]")
    assert (peak.status, peak.decides, peak.allowance) == ("measured", False, None)
    assert peak.per_iteration == KIB


def test_without_statistics_nothing_is_measured_and_the_reason_is_given(
    fake_gpus: Any,
) -> None:
    gpus = fake_gpus.Gpus(1)
    gpus.figures["GPU:0"] = None
    fake_gpus.stand_in(gpus)
    verdict = measure(lambda: None, require_gpu=True)
    report = verdict.signal("gpu.allocator[GPU:0]")
    assert (report.status, report.code) == ("unavailable", "no_statistics")
    assert set(report.series) == {None}
    assert verdict.status is Status.NOT_MEASURED
    assert "the allocator keeps no statistics" in (verdict.detail or "")


def test_nothing_measured_is_not_no_growth(fake_gpus: Any) -> None:
    gpus = fake_gpus.Gpus(1)
    gpus.figures["GPU:0"] = {"current": 0, "peak": 0}
    fake_gpus.stand_in(gpus)
    report = measure(lambda: None).signal("gpu.allocator[GPU:0]")
    assert (report.status, report.code) == ("unavailable", "nothing_allocated")


@pytest.mark.parametrize(
    ("context", "code", "words"),
    [
        ("not imported", "tf_not_imported", "until the tests import TensorFlow"),
        ("not started", "tf_not_initialised", "tf.config.list_logical_devices() does"),
        ("no gpu", "no_gpu", "TensorFlow has found no GPU (CUDA_VISIBLE_DEVICES"),
    ],
)
def test_without_a_gpu_one_signal_says_why(
    fake_gpus: Any,
    monkeypatch: pytest.MonkeyPatch,
    context: str,
    code: str,
    words: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if context != "not imported":
        fake_gpus.stand_in(fake_gpus.Gpus() if context == "no gpu" else None)
    verdict = measure(lambda: None, require_gpu=True)
    report = verdict.signal("gpu.allocator")
    assert (report.status, report.code) == ("unavailable", code)
    assert words in (report.reason or "")
    assert words in (verdict.detail or "")


@pytest.mark.parametrize(
    ("gpus", "environment", "note"),
    [
        ({}, {}, "GPU:0: allocator BFC, memory is taken at once."),
        ({"grows": True}, {}, "GPU:0: allocator BFC, memory grows on demand."),
        (
            {},
            {"TF_FORCE_GPU_ALLOW_GROWTH": "true"},
            "GPU:0: allocator BFC, memory grows on demand.",
        ),
        (
            {},
            {"TF_GPU_ALLOCATOR": "cuda_malloc_async"},
            "GPU:0: allocator cuda_malloc_async, memory is taken at once.",
        ),
        ({}, {"TF_GPU_ALLOCATOR": "cuda_malloc"}, "GPU:0: allocator cuda_malloc."),
        (
            {"limit": 512},
            {},
            (
                "GPU:0: allocator BFC, memory is taken at once, a virtual device of "
                "512 MiB, one of 1 on physical GPU 0."
            ),
        ),
    ],
)
def test_ways_to_manage_memory_are_distinguished(
    fake_gpus: Any,
    monkeypatch: pytest.MonkeyPatch,
    gpus: dict[str, Any],
    environment: dict[str, str],
    note: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fake_gpus.stand_in(fake_gpus.Gpus(1, **gpus))
    assert measure(lambda: None).notes == (note,)


def test_a_context_that_counts_cards_differently_can_be_read(
    fake_gpus: Any,
) -> None:
    gpus = fake_gpus.Gpus(1)
    gpus.figures["GPU:1"] = {"current": 7, "peak": 9}  # a device without a card
    fake_gpus.stand_in(gpus)
    assert fake_gpus.read(AllocatorProbe())["gpu.allocator[GPU:1]"] == 7


class Deferred:
    """Frees that show only some readings later."""

    def __init__(self, gpus: Any, readings: int) -> None:
        self._gpus, self._info = gpus, gpus.get_memory_info
        self.pending, self.readings = 0, readings
        gpus.get_memory_info = self

    def free(self, size: int) -> None:
        self.pending, self._size = self.readings, size

    def __call__(self, device: str) -> dict[str, int]:
        figures: dict[str, int] = self._info(device)
        if device == "GPU:0" and self._gpus.synced and self.pending:
            self.pending -= 1
            self._gpus.allocate(-(self._size // self.readings))
        return figures


def test_deferred_frees_have_arrived_when_the_figure_is_read(fake_gpus: Any) -> None:
    gpus = fake_gpus.Gpus(1)
    fake_gpus.stand_in(gpus)
    frees = Deferred(gpus, readings=4)

    def body() -> None:
        gpus.allocate(4 * KIB)
        frees.free(4 * KIB)

    verdict = measure(body)
    assert set(verdict.signal("gpu.allocator[GPU:0]").series) == {1280}
    assert gpus.synced == verdict.iterations + verdict.warmup


def test_settling_ends_after_50_ms_and_says_so(
    fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = fake_gpus.Gpus(1)
    fake_gpus.stand_in(gpus)
    info = gpus.get_memory_info

    def moving(device: str) -> dict[str, int]:
        if device == "GPU:0":
            gpus.allocate(256)
        figures: dict[str, int] = info(device)
        return figures

    gpus.get_memory_info = moving
    clock = [0.0]
    monkeypatch.setattr(allocator, "perf_counter", lambda: clock[0])
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(allocator, "sleep", sleep)
    probe = AllocatorProbe()
    probe.signals()
    probe.settle()
    assert 0.05 <= sum(pauses) <= 0.051
    assert any("In 1 of the readings" in note for note in probe.notes())


def test_an_error_of_the_devices_is_a_note_and_no_crash(fake_gpus: Any) -> None:
    gpus = fake_gpus.Gpus(1)
    fake_gpus.stand_in(gpus)

    def fail() -> None:
        raise RuntimeError("an operation failed.")

    sys.modules[fake_gpus.TEST_UTIL].sync_devices = fail  # type: ignore[attr-defined]
    verdict = measure(lambda: None)
    assert verdict.status is Status.CLEAN
    assert (
        "The devices could not be synchronised: RuntimeError: an operation "
        in (verdict.notes[-1])
    )


@pytest.mark.parametrize(("appears", "leak"), [(2, True), (8, True), (8, False)])
def test_a_context_that_appears_during_the_test_is_the_baseline(
    fake_gpus: Any, appears: int, leak: bool
) -> None:
    gpus = fake_gpus.Gpus(1)
    fake_gpus.stand_in(None)
    calls = count(1)

    def body() -> None:
        call = next(calls)
        if call == appears:
            fake_gpus.stand_in(gpus)
        if call >= appears and leak:
            gpus.allocate(4 * KIB)

    verdict = measure(body)
    report = verdict.signal("gpu.allocator[GPU:0]")
    late = max(appears, 3 + (appears > 3))  # the first row with a column for it
    assert report.series[:late].count(None) == late
    assert report.series[late] is not None
    assert verdict.status is (Status.LEAK if leak else Status.CLEAN)
    assert (
        f"TensorFlow initialised its devices in iteration {appears} (warm-up "
        "included); the figures of its allocators start there."
    ) in verdict.notes


def test_nothing_settles_if_no_device_works_asynchronously(
    fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = fake_gpus.Gpus()
    fake_gpus.stand_in(gpus)
    pauses: list[float] = []
    monkeypatch.setattr(allocator, "sleep", pauses.append)
    AllocatorProbe().settle()
    assert (gpus.synced, pauses) == (0, [])
