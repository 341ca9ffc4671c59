"""A run ends before the machine runs out of memory, descriptors or threads."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("limits are set and read as on Linux", allow_module_level=True)

KEEPS = """
import numpy, os, pytest, resource, threading

KEEP = []

def limit(which, soft):
    resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))

def keep(size=20_000_000):
    KEEP.append(numpy.ones(size, "uint8"))
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests themselves may run on one of several workers, which share."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)


def run(pytester: pytest.Pytester, source: str, *options: str) -> tuple[str, str]:
    pytester.makepyfile(test_it=f"{KEEPS}\n{source}")
    result = pytester.runpytest_subprocess("-p", "no:randomly", *options)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    return str(result.parseoutcomes()), " ".join(result.stdout.str().split())


def test_a_large_leak_ends_early_with_its_holder_and_line(
    pytester: pytest.Pytester, untraced: None
) -> None:
    pytest.importorskip("numpy")
    source = """
@pytest.mark.tfleak(memory_limit="150 MB")
def test_leaks():
    keep()
"""
    outcome, text = run(pytester, source)
    assert outcome == "{'failed': 1}"
    assert "LEAK: host.heap +19.1 MiB per iteration at test_it.py:9" in text
    assert "held by test_it.KEEP" in text
    assert "memory grew by" in text
    assert "memory_limit is" in text


def test_half_of_what_ulimit_leaves_is_the_default(
    pytester: pytest.Pytester, untraced: None
) -> None:
    pytest.importorskip("numpy")
    source = """
@pytest.fixture(scope="module", autouse=True)
def _limited():
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit(resource.RLIMIT_AS, used + 1_200_000_000)
    yield
    KEEP.clear()

def test_leaks():
    keep()
"""
    outcome, text = run(pytester, source, "--tfleak")
    assert outcome == "{'failed': 1}"
    assert "LEAK: host.heap +19.1 MiB per iteration at test_it.py:9" in text
    assert "address space grew by" in text
    assert "that RLIMIT_AS had left; set memory_limit to allow more" in text


@pytest.mark.parametrize("options", [(), ("-n1",)], ids=["one process", "xdist"])
def test_descriptors_end_at_half(
    pytester: pytest.Pytester, options: tuple[str, ...], untraced: None
) -> None:
    pytest.importorskip("numpy")
    if options:
        pytest.importorskip("xdist")
    source = """
@pytest.fixture(scope="module", autouse=True)
def _limited():
    limit(resource.RLIMIT_NOFILE, 256)

def test_leaks():
    KEEP.extend(open("/dev/null") for _ in range(4))
"""
    outcome, text = run(pytester, source, "--tfleak", *options)
    assert outcome == "{'failed': 1}"
    assert "process.fds +4 per iteration" in text
    assert "at test_it.py:17" in text
    assert "that RLIMIT_NOFILE had left" in text


FEW_THREADS = """
import threading

from pytest_tfleak.probes import room

room._free_pids = lambda _: [room.Free(60 - threading.active_count(), "pids.max")]
"""


def test_threads_end_at_half(pytester: pytest.Pytester, untraced: None) -> None:
    pytest.importorskip("numpy")
    pytester.makeconftest(FEW_THREADS)
    source = """
@pytest.fixture(scope="module")
def end():
    end = threading.Event()
    yield end
    end.set()

def test_leaks(end):
    KEEP.append(threading.Thread(target=end.wait))
    KEEP[-1].start()
"""
    outcome, text = run(pytester, source, "--tfleak")
    assert outcome == "{'failed': 1}"
    assert "LEAK: process.threads +1 per iteration" in text
    assert "that pids.max had left" in text


@pytest.mark.parametrize("buffers", [5, 7])
def test_a_pool_that_fills_in_the_warm_up_is_no_leak(
    pytester: pytest.Pytester, buffers: int, untraced: None
) -> None:
    pytest.importorskip("numpy")
    source = f"""
@pytest.mark.tfleak(memory_limit="95 MB", strict=True)
def test_pool():
    if len(KEEP) < {buffers}:
        keep(30_000_000)
"""
    outcome, text = run(pytester, source)
    assert outcome == "{'passed': 1}", text


def test_growth_that_may_be_a_warm_up_is_not_judged(
    pytester: pytest.Pytester, untraced: None
) -> None:
    pytest.importorskip("numpy")
    pytester.makeconftest(LITTLE_MEMORY)
    source = """
@pytest.mark.tfleak
def test_pool():
    if len(KEEP) < 9:
        keep(30_000_000)
"""
    outcome, text = run(pytester, source)
    assert outcome == "{'passed': 1}", text
    assert "INCONCLUSIVE test_it.py::test_pool out of room" in text


LITTLE_MEMORY = """
from pytest_tfleak.probes import room

used = room.make_memory_reader()
total = []

def free_memory(root):
    total[:] = total or [used() + 290_000_000]
    return room.Free(total[0] - used(), "the machine")

room.free_memory = free_memory
"""


def test_what_a_fixture_frees_is_no_leak(
    pytester: pytest.Pytester, untraced: None
) -> None:
    pytest.importorskip("numpy")
    source = """
@pytest.fixture
def store():
    yield KEEP
    KEEP.clear()

@pytest.mark.tfleak(memory_limit="400 MB")
def test_clean(store):
    keep(20_000_000)
"""
    outcome, text = run(pytester, source)
    assert outcome == "{'passed': 1}", text
    assert "out of room" not in text


def test_a_cache_that_cannot_be_filled_is_no_leak(
    pytester: pytest.Pytester, untraced: None
) -> None:
    pytest.importorskip("numpy")
    source = """
import functools, itertools
calls = itertools.count()

@functools.lru_cache(maxsize=40)
def load(number):
    return numpy.ones(20_000_000, "uint8")

@pytest.mark.tfleak(memory_limit="300 MB", iterations=10)
def test_cached():
    load(next(calls))
"""
    outcome, text = run(pytester, source)
    assert outcome == "{'passed': 1}", text


def test_one_large_step_is_no_leak(pytester: pytest.Pytester, untraced: None) -> None:
    pytest.importorskip("numpy")
    source = """
@pytest.mark.tfleak(memory_limit="100 MB")
def test_steps():
    KEEP.append(len(KEEP))
    if len(KEEP) == 9:
        keep(150_000_000)
"""
    outcome, text = run(pytester, source)
    assert outcome == "{'passed': 1}", text
    assert "out of room" not in text


def test_with_nothing_free_no_run_ends_early(
    pytester: pytest.Pytester, untraced: None
) -> None:
    pytester.makeconftest(LITTLE_MEMORY.replace("total[0] - used()", "0"))
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("--tfleak", "--tfleak-strict")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("value", ["0", "-1", "3 parsecs", "50%", "lots"])
def test_nonsense_is_one_usage_error(pytester: pytest.Pytester, value: str) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess(f"--tfleak-memory-limit={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.stderr.lines if line]
    assert f"tfleak command line: memory_limit={value!r}: expected" in line
    assert line.endswith(', "half", or "none"')
