"""Find the C++ functions that allocate what stays, and the line that calls them.

Run the body a few more times under memray, and read the capture in another process.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
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

from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin

NOT_HERE = (
    "memray is not installed: pip install pytest-tfleak[native] names the C++ functions"
)
NOT_POSSIBLE = "memray does not run on this platform"
TRACKING = "memray is tracking already (pytest-memray)"
PROFILING = "a profiler is active, and memray would take its place"
NO_TIME = "there was no time to name the C++ functions"
NOTHING_STAYS = (
    "memray saw nothing that stays: it cannot see memory that code allocates through a "
    "pointer to malloc, such as with ctypes"
)

_READING = 2.0  # seconds that reading a capture takes at least
_RUNNING = 0.5  # the share of the time for running the body; the rest is for reading
_FEWEST = 3  # with fewer iterations, a leak looks like what one iteration left
_MARK = 4096  # bytes: too many for Python's own pools, so that memray sees the block
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from pytest_tfleak.diagnosis.native.memray_read import main; main(sys.argv[1:])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSite:
    """A place in native code that leaves memory behind in each iteration."""

    frames: tuple[str, ...]  # C and C++ functions, innermost first
    origin: Origin | None  # the line of user code that called them, None without one
    python: tuple[Origin, ...]  # the lines of user code above it, innermost first
    bytes_per_iteration: float
    allocations_per_iteration: float
    python_memory: bool  # whether it is of Python objects or NumPy arrays, not native


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeReport:
    """The places, largest first, and why there are none or some are incomplete."""

    sites: tuple[NativeSite, ...] = ()
    why: str | None = None


class EnoughError(Exception):
    """Raised after an iteration, to end the run because time is up."""


def is_memray_here() -> bool:
    """Return whether memray can be imported, without importing it."""
    return find_spec("memray") is not None


def watch_native(
    run: Callable[[Callable[[], None]], object], iterations: int, *, seconds: float
) -> NativeReport:
    """Run the body under memray for some seconds, and return what stays.

    ``run`` performs the iterations and calls its argument after each of them. Errors
    pass through, except the EnoughError that this call raises.
    """
    until = perf_counter() + seconds
    why = _why_not(iterations, seconds)
    if why is not None:
        return NativeReport(why=why)
    with TemporaryDirectory(
        prefix="tfleak-native-", ignore_cleanup_errors=True
    ) as folder:
        file = Path(folder, "capture")
        clock = _Clock(iterations, perf_counter() + _RUNNING * seconds)
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
        """Allocate a block as a mark in the capture. Raises EnoughError."""
        if self.passed < len(self._kept):
            mark = bytes(_MARK)
            self._kept[self.passed] = mark
            self._addresses[self.passed] = id(mark)
            self.passed += 1
        if perf_counter() > self._until:
            raise EnoughError

    @property
    def marks(self) -> list[int]:
        """Return the addresses of the marks."""
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
    """Run the body and write the capture; return why not if that fails."""
    try:
        memray: Any = import_module("memray")
        tracker = memray.Tracker(
            file, native_traces=True, trace_python_allocators=False, follow_fork=False
        )
    except (ImportError, OSError) as error:
        return f"memray failed: {error}"
    try:
        tracker.__enter__()
    except RuntimeError:  # memray allows only one tracker at a time
        return TRACKING
    try:
        with suppress(EnoughError):
            run(clock.tick)
    finally:
        tracker.__exit__(None, None, None)
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
    lists = output.decode().split("\n")[:-1]  # the last line may be incomplete
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
