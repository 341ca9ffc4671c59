"""Explain why a body failed on a closed session: which line closed it, what helps.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.tf import names
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import origin_of

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
_MOST_RAISED = 8


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
        return _place(frames)
    created_here = log.created_at(session) or log.has_forgotten
    return "" if created_here else _BEFORE


def _place(frames: list[Frame]) -> str:
    origin, _ = origin_of(frames)
    if origin is None:
        return "the session was closed outside of your code"
    place = f"the session was closed at {_shown(origin.file)}:{origin.line}"
    if not origin.function.startswith("<"):
        place += f" in {origin.function}()"
    if origin.text.startswith(("with ", "async with ")):
        place += ", at the end of its with block"
    return place


def _shown(file: str) -> str:
    """Return a file's path, relative to the working directory if it lies below."""
    with suppress(ValueError, OSError):
        return str(Path(file).relative_to(Path.cwd()))
    return file
