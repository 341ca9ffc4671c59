"""Where the system lacks something, a run measures the rest, and says what is missing.

Each platform is simulated by what it lacks, taken away before the plugin looks.
"""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="takes away what Linux has"
)

TESTS = """
import pytest

pytestmark = pytest.mark.tfleak(iterations=12, diagnose_time=5)
KEPT = []

def test_clean():
    [object() for _ in range(200)]

def test_leaks():
    KEPT.append([object() for _ in range(200)])
"""
#: Of the kernel's figures, psutil still reads its own.
NO_PROC = """
def hide(event, args):
    if event in ("open", "os.listdir", "os.scandir"):
        path = args[0]
        if isinstance(path, str) and path.startswith(("/proc", "/sys/fs/cgroup")):
            frame = sys._getframe(1)
            while frame is not None and "pathlib" in frame.f_code.co_filename:
                frame = frame.f_back
            if frame is not None and "pytest_tfleak" in frame.f_code.co_filename:
                raise FileNotFoundError(2, "No such file or directory", path)

sys.addaudithook(hide)

stat = os.stat
def hiding_stat(path, *args, **kwargs):
    if path in ("/proc/self/task", "/proc/self/fd"):
        raise FileNotFoundError(2, "No such file or directory", path)
    return stat(path, *args, **kwargs)

os.stat = hiding_stat
"""
#: Only psutil may read the heap.
NO_MALLINFO2 = """
open_library = ctypes.PyDLL
def pydll(name, *args, **kwargs):
    if name == "libc.so.6":
        raise OSError
    return open_library(name, *args, **kwargs)

ctypes.PyDLL = pydll
"""
NO_FIGURES = (
    NO_MALLINFO2
    + """
def fail():
    raise NotImplementedError

psutil.heap_info = fail
"""
)
PLATFORMS = {
    "macos": (
        NO_PROC
        + NO_MALLINFO2
        + """
Heap, read = namedtuple("Heap", "heap_used"), psutil.heap_info
psutil.heap_info = lambda: Heap(sum(read()[:2]))
del os.waitid
"""
    ),
    "windows": (
        NO_PROC
        + NO_MALLINFO2
        + """
Heap, read = namedtuple("Heap", "heap_used mmap_used heap_count"), psutil.heap_info
psutil.heap_info = lambda: Heap(sum(read()[:2]), 0, 1)
psutil.Process.num_handles = psutil.Process.num_fds
del psutil.Process.num_fds
for name in "waitid getuid fork mkfifo register_at_fork O_NOFOLLOW O_CLOEXEC".split():
    delattr(os, name)
for name in ("resource", "fcntl", "pwd", "grp"):
    sys.modules[name] = None
find = ctypes.CDLL
def cdll(name, *args, **kwargs):
    if name is None:
        raise TypeError
    return find(name, *args, **kwargs)
ctypes.CDLL = cdll
"""
    ),
    "musl": f"{NO_MALLINFO2}del psutil.heap_info\n",
    "old glibc": NO_FIGURES,
    "nothing": (
        NO_PROC
        + NO_FIGURES
        + """
def denied(*_, **__):
    raise psutil.AccessDenied

for name in ("num_fds", "memory_full_info", "memory_footprint", "net_connections"):
    if hasattr(psutil.Process, name):
        setattr(psutil.Process, name, denied)
psutil.virtual_memory = psutil.swap_memory = denied
sys.modules["resource"] = sys.modules["memray"] = None
"""
    ),
}
HEADERS = {
    "musl": "tfleak: probes: python, host (the C library gives no heap figures: RSS",
    "old glibc": "tfleak: probes: python, host (the C library gives no heap figures",
    "nothing": "tfleak: probes: python, host (the C library gives no heap figures",
}


OFTEN = ("macos", "nothing")  # the others are in parts of these


@pytest.mark.parametrize(
    "platform",
    [
        pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow)
        for name in PLATFORMS
    ],
)
def test_a_leak_is_found_and_clean_code_is_clean(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    imports = "import ctypes, os, subprocess, sys\nfrom collections import namedtuple\n"
    pytester.makepyfile(
        test_it=TESTS,
        simulated=f"{imports}import psutil\n{PLATFORMS[platform]}",
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=":")
    result = pytester.runpytest_subprocess(
        "-p", "simulated", "--tfleak", "-v", "--tfleak-json=r.json"
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*KEPT (list of *"])
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text and "INTERNALERROR" not in text
    assert HEADERS.get(platform, "tfleak: probes: python, host, process") in text
