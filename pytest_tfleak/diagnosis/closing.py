"""Why a body failed on a closed session: which line closed it, and what helps.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_tfleak.births import Births
from pytest_tfleak.diagnosis.fields import read_field
from pytest_tfleak.diagnosis.origins import Frame
from pytest_tfleak.diagnosis.origins import origin_of

ADVICE = "run what needs the session before closing it, or open a new one"
_ASKED_TO_STOP = (
    "a hook or the coordinator had asked the session to stop: call run() only while "
    "should_stop() is false"
)
_BEFORE = "the session was closed before this test was measured, by what ran earlier"
_CLOSED = (
    "Attempted to use a closed Session",
    "Session has been closed",  # a callable's, from C++
    "Session is already closed",  # a second close() of a monitored session
)
_STOPPED = "Run called even after should_stop requested"
_MONITORED = "tensorflow.python.training.monitored_session"
_MODULES = ("tensorflow.python.client.session", _MONITORED)
_MOST_RAISED = 8


def after_close(error: BaseException, births: Births) -> str | None:
    """Say which line closed the session that a body could not use, and what helps.

    None where an error is about something else.
    """
    with suppress(Exception):  # an error that cannot be shown, say
        for raised in _chain(error):
            if _STOPPED in str(raised):
                return _ASKED_TO_STOP
            session = _session_behind(raised)
            if _is_about_closed(raised, session):
                where = _where(session, births)
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
    if isinstance(raised, AttributeError):  # of a monitored session's None
        closed = session is not None and read_field(session, "_sess") is None
        return closed and "'NoneType' object has no attribute" in str(raised)
    return any(text in str(raised) for text in _CLOSED)


def _session_behind(raised: BaseException) -> Any:
    """Return the session in whose method an error was raised, or None."""
    session, trace = None, raised.__traceback__
    while trace is not None:
        frame: FrameType = trace.tb_frame
        if frame.f_globals.get("__name__") in _MODULES:
            session = frame.f_locals.get("self")
        trace = trace.tb_next
    return session


def _where(session: object, births: Births) -> str:
    if session is None:  # somebody has written down the error anew
        frames = births.only_closed()
        return "" if frames is None else _place(frames)
    frames = births.closed_at(session)
    if frames is not None:
        return _place(frames)
    made_here = births.frames_of(session) or births.has_forgotten
    return "" if made_here else _BEFORE


def _place(frames: list[Frame]) -> str:
    origin, _ = origin_of(frames)
    if origin is None:
        return "the session was closed where none of your code runs"
    place = f"the session was closed at {_shown(origin.file)}:{origin.line}"
    if not origin.function.startswith("<"):
        place += f" in {origin.function}()"
    if origin.text.startswith(("with ", "async with ")):
        place += ", at the end of its with block"
    return place


def _shown(file: str) -> str:
    """Return a file's name below the working directory, else the whole of it."""
    with suppress(ValueError, OSError):
        return str(Path(file).relative_to(Path.cwd()))
    return file
