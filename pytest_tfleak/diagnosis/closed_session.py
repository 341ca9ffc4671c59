"""Explain a body that failed: who made and closed its session, what is still open.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_tfleak.diagnosis.origin.naming import naming_of
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.run.isolation import Leftover
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.run.system_log import SystemLog
from pytest_tfleak.signals import row_of
from pytest_tfleak.tf import names
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import is_import
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin

ADVICE = "run what needs the session before closing it, or open a new one"
_ASKED_TO_STOP = (
    "a hook or the coordinator had asked the session to stop: call run() only while "
    "should_stop() is false"
)
_BEFORE = "the session was closed before this test was measured, by what ran earlier"
_CLOSED = (
    "Attempted to use a closed Session",
    "Session has been closed",  # raised by a callable of make_callable, from C++
    "Session is already closed",  # raised by a second close() of a monitored session
)
_STOPPED = "Run called even after should_stop requested"
_MODULES = {
    module
    for session in (names.SESSION, names.MONITORED_SESSION)
    for module, _ in session.types
}
#: What user code does, by signal; it makes everything else.
_VERBS = {
    "process.threads": "started",
    "process.fds": "opened",
    "process.children": "started",
}
_MOST_RAISED = 8
_MOST_PLACES = 5


def after_close(error: BaseException, log: SessionLog) -> str | None:
    """Return which line closed the session that a body tried to use, and what helps.

    Return None if the error is not about a closed session.
    """
    with suppress(Exception):  # for example, the error's __str__ may fail
        for raised in _chain(error):
            if _STOPPED in str(raised):
                return _ASKED_TO_STOP
            session = _session_behind(raised)
            if _is_about_closed(raised, session):
                where = _where(session, log)
                return f"{where}; {ADVICE}" if where else ADVICE
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_MOST_RAISED):
        if error is None:
            return
        yield error
        error = error.__cause__ or (
            None if error.__suppress_context__ else error.__context__
        )


def _is_about_closed(raised: BaseException, session: object) -> bool:
    if isinstance(raised, AttributeError):  # a closed monitored session holds None
        closed = (
            session is not None and read_field(session, names.MONITORED_INNER) is None
        )
        return closed and "'NoneType' object has no attribute" in str(raised)
    return any(text in str(raised) for text in _CLOSED)


def _session_behind(raised: BaseException) -> Any:
    """Return the session whose method raised an error, or None."""
    session, trace = None, raised.__traceback__
    while trace is not None:
        frame: FrameType = trace.tb_frame
        if frame.f_globals.get("__name__") in _MODULES:
            session = frame.f_locals.get("self")
        trace = trace.tb_next
    return session


def _where(session: object, log: SessionLog) -> str:
    if session is None:  # other code raised an error with the same text
        frames = log.only_closed()
        return "" if frames is None else _place(frames)
    frames = log.closed_at(session)
    if frames is not None:
        return _place(frames) + _made(session, log)
    created_here = log.created_at(session) or log.has_forgotten
    return "" if created_here else _BEFORE


def still_open(log: SessionLog, system: SystemLog) -> str:
    """Return what is open, with the lines that opened it, "" if nothing is.

    For a file of which that line is not known, it is the path, with the line that names
    the file.
    """
    made: list[tuple[str, Sequence[Frame]]] = [
        ("tf.sessions", log.created_at(made))
        for made, is_session in log.left_open()
        if is_session
    ]
    files: dict[str, list[object]] = {}
    with suppress(Exception):  # for example, no descriptor is free to list them
        for left in system.left():
            if not left.lines and left.path:
                files.setdefault(_file(left.path), []).append(left.made)
            elif not is_import(left.lines):
                made.append((left.signal, left.lines))
    places = Counter((signal, _line(frames)) for signal, frames in made)
    parts = [
        f"{_several(signal, count)} {_VERBS.get(signal, 'made')} at {line}"
        for (signal, line), count in places.most_common(_MOST_PLACES)
        if line
    ]
    return ", ".join([*parts, *_files(files)])


def never_left(leftovers: Iterable[Leftover]) -> Iterator[str]:
    """Yield notes on scopes that a body which failed had entered and not left."""
    for left in leftovers:
        if left.leak:
            line = "" if left.origin is None else f" (made at {_in_code(left.origin)})"
            yield f"{left.text[0].upper()}{left.text[1:]}{line}."


def _files(files: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """Yield the files that are open, the first few of them by name."""
    for file, made in [*files.items()][:_MOST_PLACES]:
        text = file + _named(made[-1])
        yield f"{text} ({len(made)} times)" if len(made) > 1 else text
    more = len(files) - _MOST_PLACES
    if more > 0:
        yield f"{more} more file{'s' if more > 1 else ''}"


def _file(path: str) -> str:
    if path.endswith(" (deleted)"):  # many have no other name than a number
        return f"a deleted file in {_shown(str(Path(path).parent))}"
    return f"the file {_shown(path)}"


def _named(made: object) -> str:
    """Return which line names the object that has opened a file, "" if none does."""
    naming = None if isinstance(made, str) else naming_of(made)
    line = naming and _line([naming.line])
    if naming is None or not line:
        return ""
    how = "put into" if naming.adds else "assigned to"
    return f" ({how} `{naming.name}` at {line})"


def _several(signal: str, count: int) -> str:
    row = row_of(signal)
    return f"a {row.one}" if count == 1 else f"{count} {row.many}"


def _made(session: object, log: SessionLog) -> str:
    line = _line(log.created_at(session))
    return f"; it was made at {line}" if line else ""


def _line(frames: Sequence[Frame]) -> str:
    origin, _ = origin_of(frames)
    return "" if origin is None else _in_code(origin)


def _in_code(origin: Origin) -> str:
    """Return ``app/pool.py:12 in take()``, which also says whose code that is."""
    place = f"{_shown(origin.file)}:{origin.line}"
    inside = origin.function.startswith("<")
    return place if inside else f"{place} in {origin.function}()"


def _place(frames: list[Frame]) -> str:
    origin, _ = origin_of(frames)
    if origin is None:
        return "the session was closed outside of your code"
    place = f"the session was closed at {_line(frames)}"
    if origin.text.startswith(("with ", "async with ")):
        place += ", at the end of its with block"
    return place


def _shown(file: str) -> str:
    """Return a file's path, relative to the working directory if it lies below."""
    with suppress(ValueError, OSError):
        return str(Path(file).relative_to(Path.cwd()))
    return file
