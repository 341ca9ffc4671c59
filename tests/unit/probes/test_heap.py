"""Which allocator's figure of the heap is used."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from ctypes.util import find_library
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pytest_tfleak.measurement import find_leaks
from pytest_tfleak.probes import heap
from pytest_tfleak.probes.heap import find_heap_reader
from pytest_tfleak.probes.host import HostProbe
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status

CLEAN = Status.CLEAN
MIB = 1 << 20
#: Prints whose heap is read, and by how much it moves when small and large blocks are
#: allocated and freed.
LOOK = """
from pytest_tfleak.probes.heap import find_heap_reader, why_unread
from pytest_tfleak.probes.host import HostProbe
reader = find_heap_reader()
print(HostProbe().remark())
if reader is not None:
    for size in (2_000, 5_000_000):
        kept, before = [], reader.read()
        for _ in range(20):
            kept.append(b"\\1" * size)
        print((reader.read() - before) / size / 20)
        kept.clear()
        print((reader.read() - before) / size / 20)
"""


def preloaded(library: str, code: str) -> list[str]:
    path = find_library(library)
    if path is None or not sys.platform.startswith("linux"):
        pytest.skip(f"{library} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_PRELOAD": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("library", "name"), [("jemalloc", "jemalloc"), ("tcmalloc_minimal", "tcmalloc")]
)
def test_another_allocator_is_read_itself(library: str, name: str) -> None:
    remark, *moves = preloaded(library, LOOK)
    assert remark == f"heap of {name}"
    assert [float(move) for move in moves] == pytest.approx([1, 0, 1, 0], abs=0.3)


def test_without_figures_of_the_allocator_rss_decides() -> None:
    assert preloaded("mimalloc", LOOK) == [
        "mimalloc gives no heap figures: RSS decides"
    ]


@pytest.mark.skipif(heap._mallinfo2() is None, reason="glibc has it since 2.33")
def test_glibc_is_asked_itself_and_tells_what_psutil_tells() -> None:
    read = heap._mallinfo2()
    assert read is not None
    for _ in range(20):  # another thread may allocate memory in between
        if is_same := read() == heap._read_c_library():
            break
    assert is_same
    reader = find_heap_reader()
    assert reader is not None and reader.read.__qualname__ == read.__qualname__


@pytest.mark.skipif(heap._mallinfo2() is None, reason="glibc has it since 2.33")
def test_asking_glibc_leaves_nothing_behind() -> None:
    read = heap._mallinfo2()
    assert read is not None

    def blocks_after(calls: int) -> int:
        for _ in range(calls):
            read()
        return sys.getallocatedblocks()

    blocks_after(2)
    assert blocks_after(1000) - blocks_after(1) < 10


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    heap._mallinfo2.cache_clear()
    yield
    heap._mallinfo2.cache_clear()


@pytest.mark.usefixtures("_asked_anew")
@pytest.mark.parametrize("error", [OSError, AttributeError, ImportError])
def test_without_glibc_s_function_psutil_reads(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(ctypes, "PyDLL", fail)
    assert heap._mallinfo2() is None
    assert next(heap._readers()).read is heap._read_c_library


class Allocator:
    """Fakes an allocator: its figure, and its functions to allocate and free."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        taken: float = 1.0,
        given_back: float = 1.0,
        noise: Callable[[int], int] = lambda asked: 0,
        is_used_up: bool = False,
    ) -> None:
        self.used, self.asked, self.noise = 1000 * MIB, 0, noise

        def take(size: int) -> int:
            if is_used_up:
                return 0
            self.used += int(taken * size)
            return size

        def give_back(size: int) -> None:
            self.used -= int(given_back * size)

        monkeypatch.setattr(heap, "_raw_memory", lambda: (take, give_back))
        monkeypatch.setattr(heap, "_symbol", lambda name: None)
        monkeypatch.setattr(heap, "_mallinfo2", lambda: None)
        monkeypatch.setattr(psutil, "heap_info", self.tell, raising=False)

    def tell(self) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(heap_used=self.used + self.noise(self.asked))


@pytest.mark.parametrize(
    ("figure", "is_believed"),
    [
        ({}, True),
        ({"taken": 0.0, "given_back": 0.0}, False),  # another allocator is at work
        ({"given_back": 0.0}, False),  # its figure keeps freed memory
        ({"noise": lambda asked: asked % 3 * MIB}, False),
        # another thread allocates memory at the same time, once
        ({"noise": lambda asked: -2 * MIB * (asked == 2)}, True),
        ({"is_used_up": True}, True),  # out of memory, so it cannot be tried
    ],
    ids=["exact", "level", "keeps", "noisy", "disturbed", "used up"],
)
def test_a_figure_is_used_if_it_follows_allocations(
    monkeypatch: pytest.MonkeyPatch, figure: dict[str, Any], is_believed: bool
) -> None:
    allocator = Allocator(monkeypatch, **figure)
    assert (find_heap_reader() is not None) == is_believed
    assert allocator.asked < 100


def test_if_no_figure_follows_allocations_rss_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Allocator(monkeypatch, taken=0, given_back=0)
    kept = []

    def keep() -> None:
        # from the system: earlier tests have left free memory in the heap
        kept.append(mmap.mmap(-1, 2 * MIB))
        kept[-1].write(b"\1" * 2 * MIB)

    verdict = find_leaks(keep, iterations=20, diagnose="off")
    assert verdict.status is Status.LEAK
    assert [finding.signal for finding in verdict.findings] == ["host.rss"]
    reported = verdict.signal("host.heap")
    assert (reported.status, reported.decides) == ("unavailable", False)
    assert reported.reason == "no heap figure follows what is allocated"


@pytest.mark.skipif(sys.platform != "linux", reason="RSS is read as Linux tells it")
def test_memory_outside_of_any_heap_is_a_doubt() -> None:
    kept = []

    def keep() -> None:
        kept.append(mmap.mmap(-1, MIB))
        kept[-1].write(b"\1" * MIB)

    def let_go() -> None:
        with mmap.mmap(-1, MIB) as memory:
            memory.write(b"\1" * MIB)

    verdict = find_leaks(keep, iterations=20)
    assert (verdict.status, verdict.reason) == (
        Status.INCONCLUSIVE,
        Reason.UNEXPLAINED,
    )
    assert verdict.detail is not None
    # other memory of the process may come and go beside it
    assert re.match(r"host\.rss grows by \S+ [MK]iB per iteration", verdict.detail)
    rate = verdict.signal("host.rss").per_iteration
    assert rate is not None and 0.5 * MIB < rate < 2 * MIB
    assert find_leaks(keep, iterations=20, host_per_iteration="2 MiB").status is CLEAN
    assert find_leaks(let_go, iterations=20).status is CLEAN
    for memory in kept:
        memory.close()


def test_the_header_names_who_reads_the_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HostProbe().remark() is None
    Allocator(monkeypatch, taken=0, given_back=0)
    why = "no heap figure follows what is allocated: RSS decides"
    assert HostProbe().remark() == why


class Jemalloc:
    """Fakes jemalloc's ``mallctl``; without statistics, the name is unknown to it."""

    def __init__(self, *, has_statistics: bool) -> None:
        self.used, self.has_statistics = 7 * MIB, has_statistics

    def __call__(self, name: bytes, to: Any, size: Any, new: Any, length: Any) -> int:
        if name != b"stats.allocated":
            return 0
        if not self.has_statistics:
            return 2  # ENOENT
        ctypes.cast(to, ctypes.POINTER(ctypes.c_size_t))[0] = self.used
        return 0


@pytest.mark.parametrize("has_statistics", [True, False])
def test_jemalloc_may_be_built_without_statistics(
    monkeypatch: pytest.MonkeyPatch, has_statistics: bool
) -> None:
    allocator = Allocator(monkeypatch, taken=0, given_back=0)
    control = Jemalloc(has_statistics=has_statistics)

    def take(size: int) -> int:
        control.used += size
        return size

    def give_back(size: int) -> None:
        control.used -= size

    monkeypatch.setattr(heap, "_raw_memory", lambda: (take, give_back))
    monkeypatch.setattr(heap, "_symbol", {"mallctl": control}.get)
    reader = find_heap_reader()
    assert allocator.asked
    if has_statistics:
        assert reader is not None
        assert (reader.name, reader.read()) == ("jemalloc", 7 * MIB)
    else:
        assert reader is None
        assert heap.why_unread() == "jemalloc gives no heap figures"


@pytest.mark.parametrize("sign", [0, 2**31])
def test_figures_of_32_bits_go_on_where_they_begin_again(
    monkeypatch: pytest.MonkeyPatch, sign: int
) -> None:
    """As glibc before 2.33 has them, signed or not."""
    used = 2**32 - 3 * MIB

    def narrow() -> int:
        return (used + sign) % 2**32 - sign

    symbols = {"mallinfo": len}
    monkeypatch.setattr(heap, "_symbol", symbols.get)
    monkeypatch.setattr(heap, "_mallinfo2", lambda: None)
    monkeypatch.setattr(heap, "_read_c_library", narrow)
    reader = next(heap._readers())
    first = reader.read()
    assert first is not None
    for change in (2 * MIB, 2 * MIB, 900 * MIB, -901 * MIB, -5 * MIB, 1024 * MIB):
        used += change
        assert reader.read() == used
    symbols["mallinfo2"] = len
    assert next(heap._readers()).read is narrow
