"""Memory that C++ keeps is traced to a function and the line that called it."""

from __future__ import annotations

import ctypes
import gc
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from itertools import combinations
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.diagnosis.native.memray_run import NativeReport
from pytest_tfleak.diagnosis.native.memray_run import NativeSite
from pytest_tfleak.diagnosis.native.memray_run import watch_native
from pytest_tfleak.diagnosis.native.stacks import MOST_FRAMES
from pytest_tfleak.diagnosis.what.sizes import explained_bytes

tf: Any = pytest.importorskip("tensorflow")
np: Any = pytest.importorskip("numpy")
pytest.importorskip("memray")

libc = ctypes.CDLL(None)
libc.strdup.restype = ctypes.c_void_p
NUMBERS = count()
KEPT: list[Any] = []
GRAPH = tf.Graph()
with GRAPH.as_default():
    PLACE = tf.compat.v1.placeholder(tf.float32, [64])
    FETCHES = [tf.add(PLACE, float(number)) for number in range(12)]
SESSION = tf.compat.v1.Session(graph=GRAPH)
CHOICES = combinations(FETCHES, 5)
TABLE = tf.range(1000)


def watch(body: Callable[[], object]) -> NativeReport:
    """Watch ten iterations of a warm body."""

    def run(after: Callable[[], None], iterations: int = 10) -> None:
        for _ in range(iterations):
            body()
            gc.collect()
            after()

    run(lambda: None, 3)
    return watch_native(run, 10, seconds=300)


def at(site: NativeSite, text: str) -> bool:
    return site.origin is not None and text in site.origin.text


def test_kernels_tables_and_sessions_have_their_lines() -> None:
    def leak() -> None:
        tf.Variable(TABLE, name=f"own{next(NUMBERS)}")
        initial = tf.lookup.KeyValueTensorInitializer(TABLE, TABLE)
        tf.lookup.StaticHashTable(initial, -1)
        KEPT.append(tf.compat.v1.Session(graph=GRAPH))

    report = watch(leak)
    assert report.why is None
    found = {
        text: {
            name.rpartition("::")[2]
            for site in report.sites
            if at(site, text)
            for name in site.frames
        }
        for text in ("tf.Variable(", "StaticHashTable(", "v1.Session(")
    }
    assert {"Init", "InstantiateFunc"} <= found["tf.Variable("]
    assert "Initialize" in found["StaticHashTable("]
    assert "NewSession" in found["v1.Session("]
    assert not any(site.python_memory for site in report.sites)
    assert all(len(site.frames) <= MOST_FRAMES for site in report.sites)


def test_executors_of_each_set_of_fetches() -> None:
    def run() -> None:
        SESSION.run(list(next(CHOICES)), {PLACE: [1.0] * 64})

    report = watch(run)
    assert all(at(site, "SESSION.run(") for site in report.sites)
    assert "DirectSession::CreateExecutors" in " ".join(report.sites[0].frames)


def duplicate(size: int) -> None:
    libc.strdup(b"x" * (size - 1))


def test_c_library_numpy_and_threads() -> None:
    def leak() -> None:
        duplicate(5_000)
        if next(NUMBERS) % 5 == 0:
            duplicate(60_000)
        KEPT.append(np.zeros(3_000))
        thread = threading.Thread(target=duplicate, args=(7_000,))
        thread.start()
        thread.join()

    numpy, fifth, *each = watch(leak).sites
    assert numpy.python_memory
    assert at(numpy, "np.zeros(3_000)")
    assert numpy.bytes_per_iteration == 24_000
    assert fifth.bytes_per_iteration == pytest.approx(12_000)
    assert fifth.python[0].text == "duplicate(60_000)"
    assert [site.bytes_per_iteration for site in each] == [7_000, 5_000]
    for site in (fifth, *each):
        assert site.frames == ("strdup",)
        assert at(site, "libc.strdup(")
        assert not site.python_memory


def test_clean_body_has_no_sites() -> None:
    def replace() -> None:
        KEPT[:] = [tf.reduce_sum(tf.ones([100, number + 1])) for number in range(10)]

    assert watch(replace).sites == ()


def test_tracemalloc_is_left_on() -> None:
    tracemalloc.start()
    try:
        assert watch(lambda: duplicate(5_000)).sites
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_an_error_of_the_body_passes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = count()

    def fail() -> None:
        tf.ones([next(calls)])
        if next(calls) > 8:
            raise ValueError("in the body")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="in the body"):
        watch(fail)
    assert not list(tmp_path.iterdir())
    assert watch(lambda: duplicate(5_000)).sites
    assert capfd.readouterr().out == ""


def test_bytes_of_tensors_and_variables_are_those_of_the_heap() -> None:
    variable = tf.Variable(tf.ones([50, 50]), name="of50x50")
    tensors = [tf.ones([100, 100]) + number for number in range(4)]
    gc.collect()
    assert explained_bytes(tensors, 4) == pytest.approx(40_000, abs=64)
    assert explained_bytes([variable], 1) == pytest.approx(10_000, abs=64)
