"""Which C++ functions allocate what stays, and the user's line that called them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from array import array
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from pytest_tfleak.diagnosis.origins import origin_of
from pytest_tfleak.verdict import Origin

NOT_HERE = (
    "memray is not installed: pip install pytest-tfleak[native] names the C++ functions"
)
NOT_POSSIBLE = "memray does not run on this platform"
TRACKING = "memray is tracking already (pytest-memray)"
PROFILING = "a profiler is active, and memray would take its place"
NO_TIME = "there was no time to name the C++ functions"
NOTHING_STAYS = (
    "memray saw nothing that stays: what code takes by a pointer to malloc, through "
    "ctypes for one, is out of its sight"
)

#: A body takes up to this many times longer while memray follows each allocation.
SLOWDOWN = 10
#: Seconds that reading a capture takes at least, and its share of all seconds.
_READING, _SHARE = 2.0, 0.5
_FEWEST = 3  # iterations that tell a leak from what one of them left
_MARK = 4096  # bytes: too large for Python's own pools, so that memray sees it
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from pytest_tfleak.diagnosis.capture import main; main(sys.argv[1:])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSite:
    """A place that leaves memory behind in iteration after iteration."""

    frames: tuple[str, ...]  # C and C++ functions, the innermost first
    origin: Origin | None  # the user's line that called them, None in other threads
    python: tuple[Origin, ...]  # the user's lines that called that one, nearest first
    bytes_per_iteration: float
    allocations_per_iteration: float
    python_memory: bool  # Python's objects or NumPy's arrays: not native


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeReport:
    """The places, most bytes first, and why there are none or they have no names."""

    sites: tuple[NativeSite, ...] = ()
    why: str | None = None


class EnoughError(Exception):
    """Raised after an iteration, to end the run of the body when its time is up."""


def is_memray_here() -> bool:
    """Say whether memray can be imported, without importing it."""
    return find_spec("memray") is not None


def watch_native(
    run: Callable[[Callable[[], None]], object], iterations: int, *, seconds: float
) -> NativeReport:
    """Run the body under memray and return what stays, in the seconds there are.

    ``run`` performs the iterations and calls what it is handed after each of them.
    What it raises passes through, but for the EnoughError of that call.
    """
    until = perf_counter() + seconds
    why = _why_not(iterations, seconds)
    if why is not None:
        return NativeReport(why=why)
    with TemporaryDirectory(
        prefix="tfleak-native-", ignore_cleanup_errors=True
    ) as folder:
        file = Path(folder, "capture")
        clock = _Clock(iterations, perf_counter() + _SHARE * seconds)
        why = _track(run, clock, file)
        if why is None and clock.passed < _FEWEST:
            why = NO_TIME
        if why is not None:
            return NativeReport(why=why)
        return _read(file, clock, until)


class _Clock:
    """Marks the end of each iteration in the capture, and ends the run in time."""

    def __init__(self, iterations: int, until: float) -> None:
        self._until = until
        self._kept: list[bytes | None] = [None] * iterations
        self._addresses = array("Q", bytes(8 * iterations))
        self.passed = 0

    def tick(self) -> None:
        """Take a block that memray sees. Raises EnoughError when time is up."""
        if self.passed < len(self._kept):
            mark = bytes(_MARK)
            self._kept[self.passed] = mark
            self._addresses[self.passed] = id(mark)
            self.passed += 1
        if perf_counter() > self._until:
            raise EnoughError

    @property
    def marks(self) -> list[int]:
        """Return the addresses of the blocks."""
        return self._addresses[: self.passed].tolist()


def _why_not(iterations: int, seconds: float) -> str | None:
    if not is_memray_here():
        return NOT_POSSIBLE if sys.platform == "win32" else NOT_HERE
    if sys.getprofile() is not None:
        return PROFILING
    if seconds < 2 * _READING or iterations < _FEWEST or not sys.executable:
        return NO_TIME
    return None


def _track(
    run: Callable[[Callable[[], None]], object], clock: _Clock, file: Path
) -> str | None:
    """Run the body and write the capture; say why where that cannot be."""
    try:
        memray: Any = import_module("memray")
        tracker = memray.Tracker(
            file, native_traces=True, trace_python_allocators=False, follow_fork=False
        )
    except (ImportError, OSError) as error:
        return f"memray failed: {error}"
    memray.set_log_level(logging.CRITICAL)  # it would write to the terminal
    try:
        tracker.__enter__()
    except RuntimeError:  # one tracker at a time
        memray.set_log_level(logging.WARNING)
        return TRACKING
    try:
        with suppress(EnoughError):
            run(clock.tick)
    finally:
        tracker.__exit__(None, None, None)
        memray.set_log_level(logging.WARNING)
    return None


def _read(file: Path, clock: _Clock, until: float) -> NativeReport:
    """Read the capture in another process, which is killed when its time is up."""
    path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
    seconds = max(_READING, until - perf_counter())
    marks = json.dumps(clock.marks)
    arguments = [str(file), marks, str(clock.passed), str(0.8 * seconds)]
    why = None
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PROGRAM, path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        output = done.stdout
        if done.returncode:
            why = f"reading what memray wrote failed: {_last_line(done.stderr)}"
    except subprocess.TimeoutExpired as late:
        output, why = late.stdout or b"", NO_TIME
    except OSError as error:
        return NativeReport(why=f"reading what memray wrote failed: {error}")
    lists = output.decode().split("\n")[:-1]  # the last one may be cut
    sites = json.loads(lists[-1]) if lists else []
    if not sites and why is None:
        why = NOTHING_STAYS
    return NativeReport(sites=tuple(map(_site, sites)), why=why)


def _site(site: dict[str, Any]) -> NativeSite:
    origin, callers = origin_of([(file, line) for file, line in site["lines"]])
    return NativeSite(
        frames=tuple(site["frames"]),
        origin=origin,
        python=callers,
        bytes_per_iteration=site["bytes"],
        allocations_per_iteration=site["allocations"],
        python_memory=site["python_memory"],
    )


def _last_line(text: bytes) -> str:
    lines: Sequence[str] = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
