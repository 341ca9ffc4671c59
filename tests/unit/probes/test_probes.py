"""The built-in probes, without TensorFlow."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pytest_tfleak.measurement import find_leaks
from pytest_tfleak.probes import make_probes
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.host import HostProbe
from pytest_tfleak.probes.process import ProcessProbe
from pytest_tfleak.trace import MISSING
from pytest_tfleak.verdict import Status

no_heap_figures = pytest.mark.skipif(
    not hasattr(psutil, "heap_info"), reason="the C library gives no heap figures"
)
only_on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="folders that Linux has"
)


def read(probe: Probe, *, deep: bool = True) -> dict[str, int | None]:
    signals = probe.signals()
    buffer = array("q", [MISSING]) * len(signals)
    probe.read(buffer, 0, deep)
    return {
        signal.name: None if value == MISSING else value
        for signal, value in zip(signals, buffer, strict=True)
    }


def test_every_probe_has_a_name_and_distinct_signals() -> None:
    probes = make_probes(Census())
    names = [signal.name for probe in probes for signal in probe.signals()]
    assert len(names) == len(set(names))
    assert len({probe.name for probe in probes}) == len(probes)
    for probe in probes:
        probe.close()


@no_heap_figures
def test_heap_shows_what_malloc_took_to_the_page() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    probe = HostProbe()
    before = read(probe)["host.heap"]
    block = libc.malloc(10_000_000)
    during = read(probe)["host.heap"]
    libc.free(block)
    after = read(probe)["host.heap"]
    assert before is not None
    assert during is not None
    assert after is not None
    assert 10_000_000 <= during - before < 10_100_000
    assert after - before < 100_000


def test_uss_is_read_only_on_request() -> None:
    probe = HostProbe()
    assert read(probe, deep=False)["host.uss"] is None
    assert (read(probe)["host.uss"] or 0) > 0


def test_without_heap_figures_rss_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise NotImplementedError

    monkeypatch.setattr("pytest_tfleak.probes.heap._mallinfo2", lambda: None)
    monkeypatch.setattr(psutil, "heap_info", fail)
    verdict = find_leaks(lambda: None, iterations=5, warmup=1)
    heap = verdict.signal("host.heap")
    assert (heap.status, heap.decides) == ("unavailable", False)
    assert heap.reason == "the C library gives no heap figures"
    assert verdict.signal("host.rss").decides


def test_rss_leaves_out_the_pages_of_files(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(8 << 20))
    probe = HostProbe()
    try:
        find_own = read(probe)["host.rss"]
    except OSError:
        pytest.skip("no /proc here")
    if find_own == psutil.Process().memory_info().rss:
        pytest.skip("this system does not tell pages of files from others")
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as pages,
    ):
        before = read(probe)["host.rss"] or 0
        assert pages.find(b"x") == -1  # this reads all pages
        of_file = (read(probe)["host.rss"] or 0) - before
    with mmap.mmap(-1, 8 << 20) as memory:
        memory.write(b"x" * (8 << 20))
        kept = (read(probe)["host.rss"] or 0) - before
    assert of_file < 4 << 20 < kept


def test_uss_of_psutil_8_is_read_from_its_new_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    footprint = SimpleNamespace(uss=123)
    monkeypatch.setattr(
        psutil.Process, "memory_footprint", lambda _: footprint, raising=False
    )
    assert read(HostProbe())["host.uss"] == 123


def test_counts_threads_descriptors_and_children(tmp_path: Path) -> None:
    probe = ProcessProbe()
    before = read(probe)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=True
    )
    with (tmp_path / "file").open("w"):
        during = read(probe)
    stop.set()
    thread.join()
    child.communicate(b"\n")
    after = read(probe)
    assert (during["process.threads"] or 0) - (before["process.threads"] or 0) == 1
    assert (during["process.fds"] or 0) - (before["process.fds"] or 0) == 2
    assert (during["process.children"] or 0) - (before["process.children"] or 0) == 1
    assert (during["process.children.rss"] or 0) > 0
    assert after["process.children"] == before["process.children"]


def counts(probe: Probe) -> tuple[int | None, int | None]:
    found = read(probe, deep=False)
    return found["process.threads"], found["process.fds"]


def told_by_psutil() -> tuple[int, int]:
    own = psutil.Process()
    return own.num_threads(), own.num_fds()


def hide_folders(monkeypatch: pytest.MonkeyPatch, *, links: int | None) -> set[str]:
    """Take the folders of threads and descriptors away, or let one have few links."""
    asked = set()

    def hidden(real: Callable[..., Any]) -> Callable[..., Any]:
        def ask(path: Any, **options: Any) -> Any:
            if path not in ("/proc/self/task", "/proc/self/fd"):
                return real(path, **options)
            asked.add(path)
            if links is None or path == "/proc/self/fd":
                raise FileNotFoundError(2, "No such file or directory", path)
            return SimpleNamespace(st_nlink=links)

        return ask

    monkeypatch.setattr(os, "stat", hidden(os.stat))
    monkeypatch.setattr(os, "listdir", hidden(os.listdir))
    return asked


@only_on_linux
def test_threads_and_descriptors_are_those_that_psutil_counts(tmp_path: Path) -> None:
    probe, stop = ProcessProbe(), threading.Event()
    before = told_by_psutil()
    assert counts(probe) == before
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    with (tmp_path / "a").open("w"), (tmp_path / "b").open("w"):
        assert counts(probe) == (before[0] + 3, before[1] + 2) == told_by_psutil()
    stop.set()
    for thread in threads:
        thread.join()
    for _ in range(100):  # a thread is joined a moment before the system forgets it
        if counts(probe) == before:
            break
        sleep(0.01)
    assert counts(probe) == before


@only_on_linux
def test_psutil_is_not_asked_in_each_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = ProcessProbe()
    before = counts(probe)
    monkeypatch.delattr(psutil.Process, "num_threads")
    monkeypatch.delattr(psutil.Process, "num_fds")
    assert counts(probe) == before


def accept_one(server: socket.socket) -> None:
    server.accept()[0].close()


@only_on_linux
def test_a_thread_that_waits_for_connections_counts_as_psutil_counts_it() -> None:
    probe = ProcessProbe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        thread = threading.Thread(target=accept_one, args=(server,))
        thread.start()
        assert counts(probe) == told_by_psutil()
        socket.create_connection(address).close()
        thread.join()


@only_on_linux
@pytest.mark.parametrize("links", [None, 1, 2], ids=["no /proc", "one", "two"])
def test_where_the_folders_do_not_tell_psutil_counts(
    monkeypatch: pytest.MonkeyPatch, links: int | None
) -> None:
    probe, before = ProcessProbe(), told_by_psutil()
    monkeypatch.setattr(psutil.Process, "num_fds", lambda _: 1234)
    asked = hide_folders(monkeypatch, links=links)
    assert counts(probe) == (before[0], 1234)
    assert asked == {"/proc/self/task", "/proc/self/fd"}


def test_on_windows_handles_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_folders(monkeypatch, links=None)
    monkeypatch.delattr(psutil.Process, "num_fds", raising=False)
    monkeypatch.setattr(psutil.Process, "num_handles", lambda _: 77, raising=False)
    assert counts(ProcessProbe()) == (psutil.Process().num_threads(), 77)


def test_where_nothing_counts_descriptors_the_signal_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_folders(monkeypatch, links=None)
    monkeypatch.delattr(psutil.Process, "num_fds", raising=False)
    monkeypatch.delattr(psutil.Process, "num_handles", raising=False)
    assert counts(ProcessProbe())[1] is None


def test_a_file_left_open_in_each_call_leaks(tmp_path: Path) -> None:
    kept = []
    path = tmp_path / "log"
    verdict = find_leaks(lambda: kept.append(path.open("w")), iterations=10)
    for file in kept:
        file.close()
    assert verdict.status is Status.LEAK
    assert "process.fds" in [finding.signal for finding in verdict.findings]


def test_a_thread_that_never_ends_leaks() -> None:
    stop = threading.Event()
    threads = []

    def start() -> None:
        threads.append(threading.Thread(target=stop.wait))
        threads[-1].start()

    verdict = find_leaks(start, iterations=10)
    stop.set()
    for thread in threads:
        thread.join()
    found = {finding.signal: finding.per_iteration for finding in verdict.findings}
    assert found["process.threads"] == 1
