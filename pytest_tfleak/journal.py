"""Note on disk what a run has measured, in case the process ends without a report.

A journal is a small private file of JSON lines, beside pytest's cache or in the folder
for temporary files. It has a line when a test begins, one for each verdict, packed, and
one when a test ends. A run that ends well removes it. What is left of another run
becomes a report: by ``python -m pytest_tfleak recover``, or when the next run starts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import platform
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from secrets import token_hex
from time import time
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:  # imported when used: each run looks for journals
    from pytest_tfleak.verdict import Verdict

SCHEMA = 1
#: The folder of journals in that of pytest's cache.
IN_CACHE = "tfleak"
_OLD = 7 * 86_400  # seconds
#: After so many seconds without a line, a run on another machine counts as over.
_IDLE = 6 * 3600
_MOST = 64 * 2**20  # bytes of one verdict, unpacked
_LARGEST = 2**29  # bytes of a journal that is read, and of all verdicts, unpacked
_MOST_NAMED = 20  # running tests
_APPEND = os.O_WRONLY | os.O_APPEND
_NEW = _APPEND | os.O_CREAT | os.O_EXCL
#: Not on Windows.
_SAFE: int = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_ENDED = "the process ended while this test was running"


class JournalError(ValueError):
    """A file is no journal; the message names it."""


class Journal:
    """The journal of this run. Errors never matter: a run does without."""

    def __init__(self, folders: Iterable[Path], rootdir: Path) -> None:
        """Begin it in the first folder that can be written to."""
        name = f"run-{_mark_of(rootdir)}-{os.getpid()}-{token_hex(4)}.jsonl"
        self._pid = os.getpid()
        self._is_open = False
        for folder in folders:
            self.path = folder / name
            with contextlib.suppress(OSError):
                os.close(os.open(self.path, _NEW | _SAFE, 0o600))
                self._is_open = True
                break
        if self._is_open:
            _drop_old(self.path.parent)
        self.write(
            {
                "journal": SCHEMA,
                "place": _place(),
                "pid": self._pid,
                "created": _created(self._pid),
                "rootdir": str(rootdir),
            }
        )

    def write(self, entry: dict[str, Any]) -> None:
        """Add a line. No descriptor stays open, which a test could close or reuse."""
        if not self._is_open or os.getpid() != self._pid:  # a fork of the process
            return
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, _APPEND | _SAFE)
            try:
                os.write(descriptor, line.encode("ascii"))
            finally:
                os.close(descriptor)

    def add_verdict(self, data: dict[str, Any]) -> None:
        """Add a verdict as ``Verdict.to_dict`` returns it."""
        packed = zlib.compress(json.dumps(data).encode())
        self.write({"verdict": base64.b64encode(packed).decode("ascii")})

    def remove(self) -> None:
        """Remove the file: the run has reported all itself."""
        if self._is_open and os.getpid() == self._pid:
            self._is_open = False
            with contextlib.suppress(OSError):
                self.path.unlink()


@dataclass(slots=True, kw_only=True)
class LostRun:
    """What a journal says of a run that ended without a report."""

    path: Path
    rootdir: Path = Path()
    place: list[str] = field(default_factory=list)
    pid: int = 0
    created: float = 0.0
    verdicts: list[Verdict] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)  # tests that had not ended

    @property
    def report(self) -> Path:
        """Return where the report is to be made."""
        name = self.path.stem.removeprefix("run-")
        return self.path.with_name(f"recovered-{name}.json")

    def is_over(self, idle: float = _IDLE) -> bool:
        """Return whether the process that wrote it is gone.

        A process of another container or machine cannot be seen from here: it counts as
        gone if the file has been the same for ``idle`` seconds.
        """
        if self.created and self.place == _place():
            now = _created(self.pid)
            if now is None:
                return True
            if abs(now - self.created) <= 1:
                return False
        return time() - _changed(self.path) >= idle

    def results(self) -> list[Verdict]:
        """Return the verdicts, and one on each test that was running."""
        from pytest_tfleak.decide import Ended
        from pytest_tfleak.decide import Grounds
        from pytest_tfleak.decide import decide
        from pytest_tfleak.verdict import Reason

        judged = {verdict.nodeid for verdict in self.verdicts}
        ended = Ended(reason=Reason.INTERRUPTED, detail=_ENDED)
        return [
            *self.verdicts,
            *(
                decide(Grounds(nodeid=nodeid, ended=ended))
                for nodeid in self.running
                if nodeid not in judged
            ),
        ]

    def document(self) -> dict[str, Any]:
        """Return the document of a report, as of a run that was cut short."""
        from pytest_tfleak.reports.document import make_document

        return make_document(self.results(), self.environment, complete=False)

    def describe(self) -> str:
        """Return what is known of the run, as a clause."""
        from pytest_tfleak.verdict import Status

        counts = f"{len(self.verdicts)} test{'s' * (len(self.verdicts) != 1)}"
        leaks = sum(verdict.status is Status.LEAK for verdict in self.verdicts)
        if leaks:
            counts += f", {leaks} of them LEAK"
        named = self.running[:_MOST_NAMED]
        rest = len(self.running) - len(named)
        where = ", ".join([*named, *[f"{rest:,} more"] * (rest > 0)]) or "no test"
        return f"it ended in {where}, after it had measured {counts}"


def folders_to_read(cache: Path | None) -> list[Path]:
    """Return the folders that may have journals, without those of other users."""
    folders = [] if cache is None else [cache]
    with contextlib.suppress(OSError):
        if _is_private(temporary_folder()):
            folders.append(temporary_folder())
    return folders


def folders_to_write(cache: Path | None) -> Iterator[Path]:
    """Yield the folders for a journal, the best first; each is made if need be."""
    if cache is not None:
        yield cache
    with contextlib.suppress(OSError):
        temporary = temporary_folder()
        temporary.mkdir(mode=0o700, exist_ok=True)
        if _is_private(temporary):
            yield temporary


def temporary_folder() -> Path:
    """Return the folder of journals among temporary files, one for each user."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"pytest-tfleak-{user}"


def has_journal(folder: Path, rootdir: Path) -> bool:
    """Return whether a run in ``rootdir`` has left a journal, or is writing one."""
    return any(folder.glob(f"run-{_mark_of(rootdir)}-*.jsonl"))


def lost_runs(
    folders: Iterable[Path], rootdir: Path | None = None, idle: float = _IDLE
) -> list[LostRun]:
    """Return the runs that ended without a report, the latest first.

    With ``rootdir``, only those that ran there; ``idle`` as for ``LostRun.is_over``.
    """
    mark = "*" if rootdir is None else _mark_of(rootdir)
    found = [path for folder in folders for path in folder.glob(f"run-{mark}-*.jsonl")]
    runs = []
    for path in sorted(found, key=_changed, reverse=True):
        with contextlib.suppress(JournalError):
            run = read_journal(path)
            if run.is_over(idle):
                runs.append(run)
    return runs


def read_journal(path: Path) -> LostRun:
    """Return what a journal says. Raises JournalError if it is none.

    A line that cannot be read is left out: the last one may have been cut.
    """
    lines = _entries(path)
    head = next(lines, None)
    if head is None or head.get("journal") != SCHEMA:
        raise JournalError(f"{path}: is not a journal of pytest-tfleak")
    keys = ("rootdir", "place", "pid", "created")
    rootdir, place, pid, created = map(head.get, keys)
    run = LostRun(
        path=path,
        rootdir=Path(rootdir) if isinstance(rootdir, str) else Path(),
        place=place if isinstance(place, list) else [],
        pid=pid if type(pid) is int else 0,
        created=created if type(created) is float else 0.0,
    )
    running: dict[str, None] = {}
    room = _LARGEST
    for entry in lines:
        match entry:
            case {"start": str(nodeid)}:
                running[nodeid] = None
            case {"end": str(nodeid)}:
                running.pop(nodeid, None)
            case {"environment": dict(environment)}:
                run.environment.update(_facts(environment))
            case {"verdict": str(packed)}:
                text = _unpacked(packed, min(_MOST, room))
                room -= len(text)
                verdict = _verdict(text)
                if verdict is not None:
                    run.verdicts.append(verdict)
    run.running = list(running)
    return run


def write_report(path: Path, text: str) -> None:
    """Write a private file; a link that is in its place is replaced."""
    new = path.with_name(f".{path.name}-{token_hex(4)}.tmp")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        # a FIFO would never end, and a link may lead anywhere
        is_file = stat.S_ISREG(path.lstat().st_mode)
        if not is_file or path.stat().st_size > _LARGEST:
            raise JournalError(f"{path}: is not a journal of pytest-tfleak")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from None
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def _unpacked(packed: str, most: int) -> bytes:
    """Return at most so many bytes of a verdict: few may unpack to very many."""
    if most <= 0:
        return b""
    try:
        data = base64.b64decode(packed, validate=True)
        return zlib.decompressobj().decompress(data, most)
    except (ValueError, zlib.error):
        return b""


def _verdict(text: bytes) -> Verdict | None:
    """Return a verdict, None for anything else: a file may be damaged, or forged."""
    from pytest_tfleak.verdict import Verdict
    from pytest_tfleak.verdict import has_its_types

    try:
        verdict = Verdict.from_dict(json.loads(text))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
    return verdict if has_its_types(verdict) else None


def _facts(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that are as ``look_up()`` returns them."""
    plain = (str, int, float, type(None))
    return {
        name: value
        for name, value in environment.items()
        if isinstance(value, plain)
        or (isinstance(value, list) and all(isinstance(one, str) for one in value))
    }


def _mark_of(rootdir: Path) -> str:
    """Return what the journals of runs in one folder have in their names."""
    return hashlib.sha256(os.fsencode(os.path.realpath(rootdir))).hexdigest()[:8]


def _place() -> list[str]:
    """Return what tells this machine and container from others: a pid is valid here."""
    place = [platform.node()]
    with contextlib.suppress(OSError):  # only Linux has them
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(str(Path("/proc/self/ns/pid").readlink()))
    return place


def _created(pid: int) -> float | None:
    """Return when a process started, None if there is none of that number.

    On Linux, that is counted from when the machine started: psutil's figure moves when
    the clock is set.
    """
    if sys.platform.startswith("linux"):
        return _started(pid)
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, OSError, OverflowError, ValueError):
        return None


def _started(pid: int) -> float | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else float(rest[18])  # a zombie has ended


def _drop_old(folder: Path) -> None:
    """Remove journals, and what was made of them, that are older than a week."""
    for name in ("run-*.jsonl", "recovered-*.json"):
        for path in folder.glob(name):
            if time() - _changed(path) > _OLD:
                with contextlib.suppress(OSError):
                    path.unlink()


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _is_private(folder: Path) -> bool:
    """Return whether only this user can write to a folder in a public place."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o077
