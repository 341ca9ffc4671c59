"""A body that ends its run early is judged on the iterations until then."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("limits of a process are set as on POSIX", allow_module_level=True)

BEFORE = """
import asyncio, itertools, os, resource, sys, threading
import pytest
from leaks import leak

calls = itertools.count(1)
KEEP = []

def limit(which, soft):
    resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))
"""
DESCRIPTORS = """
@pytest.fixture(autouse=True, scope="module")
def _few():
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit(resource.RLIMIT_NOFILE, 256)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, was)

{mark}
def test_leaks():
    for _ in range({each}):
        KEEP.append(os.open("/dev/null", os.O_RDONLY))

{after}
def test_another(): pass
"""
CLOSES = """
def test_closes():
    while KEEP:
        os.close(KEEP.pop())
"""


def run(
    pytester: pytest.Pytester, source: str, *options: str
) -> tuple[pytest.RunResult, str]:
    pytester.makepyfile(test_it=f"{BEFORE}\n{source}")
    result = pytester.runpytest_subprocess("--tfleak-memory-limit=none", *options)
    text = " ".join(result.stdout.str().split())
    assert "INTERNALERROR" not in text + result.stderr.str()
    return result, text


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "xdist"])
@pytest.mark.parametrize("mark", ["@pytest.mark.tfleak", ""], ids=["marked", "all"])
@pytest.mark.parametrize("each", [3, 7, 20])
def test_a_leak_of_descriptors_is_found_when_they_run_out(
    pytester: pytest.Pytester,
    leaks: None,
    options: tuple[str, ...],
    mark: str,
    each: int,
) -> None:
    if options:
        pytest.importorskip("xdist")
    source = DESCRIPTORS.format(mark=mark, each=each, after=CLOSES)
    result, text = run(pytester, source, "--tfleak", *options)
    result.assert_outcomes(failed=1, passed=2)
    assert f"process.fds +{each} per iteration" in text
    assert "The leak ended the run: out of file descriptors in iteration" in text
    assert "Too many open files" in text


def test_a_run_ends_well_without_a_descriptor_left(
    pytester: pytest.Pytester, leaks: None
) -> None:
    """All reports are written, or an error says why not."""
    source = DESCRIPTORS.format(mark="", each=7, after="")
    result, text = run(
        pytester, source, "--tfleak", "--tfleak-json=r.json", "--junitxml=j.xml"
    )
    result.assert_outcomes(failed=1, passed=1)
    assert "process.fds +7 per iteration" in text
    assert (pytester.path / "r.json").stat().st_size or "not written" in text


def test_a_leak_of_memory_is_found_when_it_runs_out(
    pytester: pytest.Pytester, leaks: None
) -> None:
    result, text = run(
        pytester,
        """
def test_leaks():
    if not KEEP:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        limit(resource.RLIMIT_AS, used + 885_000_000)
    KEEP.append(bytearray(60_000_000))  # so that the last one leaves some room

def test_another(): KEEP.clear()
""",
        "--tfleak",
    )
    result.assert_outcomes(failed=1, passed=1)
    assert "host.heap +57.2 MiB per iteration" in text
    assert "The leak ended the run: out of memory in iteration" in text


def test_without_memory_to_start_a_test_runs_unmeasured(
    pytester: pytest.Pytester, leaks: None
) -> None:
    pytester.makeconftest(
        """
import pytest
from pytest_tfleak.probes.census import Census

@pytest.fixture(autouse=True)
def _no_memory(monkeypatch):
    def fail(self):
        raise MemoryError("no memory")
    monkeypatch.setattr(Census, "freeze", fail)
"""
    )
    result, text = run(
        pytester,
        """
def test_passes(): KEEP.append(1)

def test_fails(): assert KEEP == [2]

@pytest.mark.tfleak
def test_marked(): KEEP.append(2)
""",
        "--tfleak",
        "-v",
    )
    result.assert_outcomes(passed=1, failed=2)
    assert "assert [1] == [2]" in text
    assert "During handling" not in text
    why = "measuring could not start: MemoryError: no memory"
    for name in ("passes", "fails", "marked"):
        assert f"NOT MEASURED test_it.py::test_{name} {why}" in text


ENDINGS = [
    "raise ValueError('late')",
    "sys.exit('late')",
    "raise asyncio.CancelledError('late')",
    "pytest.fail('late')",
    "pytest.skip('late')",
    "pytest.xfail('late')",
]


@pytest.mark.parametrize("mark", ["@pytest.mark.tfleak", ""], ids=["marked", "all"])
@pytest.mark.parametrize(
    ("ending", "call"), [*((ending, 30) for ending in ENDINGS), (ENDINGS[0], 60)]
)
def test_what_a_body_did_until_it_ended_is_judged(
    pytester: pytest.Pytester, leaks: None, mark: str, ending: str, call: int
) -> None:
    result, text = run(
        pytester,
        f"""
{mark}
def test_leaks():
    leak()
    if next(calls) == {call}: {ending}
""",
        "--tfleak",
    )
    result.assert_outcomes(failed=1)
    assert "LEAK: python.blocks +20" in text
    assert f"Judged on what ran before the body ended in iteration {call}:" in text


@pytest.mark.parametrize(("call", "body"), [(30, "pass"), (12, "leak()")])
def test_without_growth_or_with_few_calls_it_is_not_measured(
    pytester: pytest.Pytester, leaks: None, call: int, body: str
) -> None:
    result, text = run(
        pytester,
        f"""
def test_it():
    {body}
    assert next(calls) != {call}
""",
        "--tfleak",
        "--tfleak-depth=full",
    )
    result.assert_outcomes(passed=1)
    assert f"passed at first, AssertionError in iteration {call};" in text
    assert "Judged" not in text


def test_a_full_cache_of_cycles_does_not_leak_when_the_body_ends(
    pytester: pytest.Pytester, leaks: None
) -> None:
    result, _ = run(
        pytester,
        """
from collections import deque

class Cyclic:
    def __init__(self):
        self.me, self.data = self, [0] * 1000

CACHE = deque((Cyclic() for _ in range(48)), maxlen=48)

def test_it():
    CACHE.append(Cyclic())
    assert next(calls) != 40
""",
        "--tfleak",
    )
    result.assert_outcomes(passed=1)
