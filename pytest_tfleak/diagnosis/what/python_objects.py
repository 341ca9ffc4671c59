"""Read the facts of Python's own objects: containers, functions, files, threads.

A table has a row for each type, with the function that reads it.
"""

from __future__ import annotations

import functools
import io
import os
import socket
import threading
import types
from collections.abc import Callable
from typing import Any

from pytest_tfleak import object_facts as facts
from pytest_tfleak.diagnosis.safe_read import defines
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.safe_read import read_text
from pytest_tfleak.diagnosis.safe_read import short_module
from pytest_tfleak.diagnosis.safe_read import short_type_name
from pytest_tfleak.diagnosis.safe_read import type_name
from pytest_tfleak.diagnosis.safe_read import types_of
from pytest_tfleak.object_facts import ObjectFacts
from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.reports.held_object import clip
from pytest_tfleak.signals import TypeName

_BUFFERED = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_WRAPPED = 10  # most layers of functools.partial


def facts_of_python(o: object) -> ObjectFacts | None:
    """Return the facts of an object of Python's own types, None for any other."""
    for name, cls in types_of(o):
        read = _TABLE.get(name)
        if read is not None:
            return read(o, cls)
    return None


def thread_target(thread: object) -> str:
    """Return ``module.function`` of what a thread runs, ``""`` if that is unknown.

    A thread forgets its target when it ends.
    """
    target = read_field(thread, "_target")
    if target is None:
        target = read_field(thread, "function")  # the function of a Timer
    if target is not None:
        return name_callable(target)
    if type(thread) is not threading.Thread and read_field(thread, "_name"):
        cls = next((c for _, c in types_of(thread) if defines(c, "run")), None)
        if cls is not None and cls is not threading.Thread:
            return f"{type_name(cls)}.run"
    return ""


def name_callable(o: Any) -> str:
    """Return ``module.function`` of a callable without calling it."""
    for _ in range(_WRAPPED):
        if not issubclass(type(o), functools.partial):
            break
        o = functools.partial.func.__get__(o)
    if type(o) is types.MethodType:
        if type(o.__func__) is not types.FunctionType:
            return type_name(type(o.__self__))
        o = o.__func__
    if type(o) is types.FunctionType:
        module = o.__module__
        named = type(module) is str
        return f"{short_module(module)}.{_local_name(o)}" if named else _local_name(o)
    if type(o) is types.BuiltinFunctionType:
        return str(o.__name__)
    return type_name(type(o))


def address_text(address: object) -> str:
    """Return a socket's address as text: ``127.0.0.1:80``, or a Unix socket's path."""
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    if isinstance(address, bytes):  # an abstract Unix socket
        return "@" + address.strip(b"\0").decode(errors="replace")
    return clip(address) if isinstance(address, str) else ""


def socket_family(family: int, sort: int) -> str:
    """Return ``TCP``, ``UDP``, ``Unix`` or the family's name."""
    if family == getattr(socket, "AF_UNIX", None):
        return "Unix"
    if family in (socket.AF_INET, socket.AF_INET6):
        names = {int(socket.SOCK_STREAM): "TCP", int(socket.SOCK_DGRAM): "UDP"}
        return names.get(int(sort), "IP")
    try:
        return socket.AddressFamily(family).name
    except ValueError:
        return f"family {int(family)}"


def file_name(path: str) -> str:
    """Return the last part of a source file's path; keep ``<string>``."""
    return path if path.startswith("<") else path.rpartition(os.sep)[2]


def _container(o: Any, cls: type) -> ObjectFacts:
    # the base type's own __len__, since a subclass may define another one
    # the type found has a length, which mypy cannot know
    return _sized(o, cls.__len__(o))  # type: ignore[attr-defined]


def _weak_container(o: Any, _: type) -> ObjectFacts:
    data = read_field(o, "data")
    return _sized(o, len(data) if is_exactly(data, dict, set) else None)


def _sized(o: object, length: int | None) -> ObjectFacts:
    return ObjectFacts(type=short_type_name(o), length=length)


def _text(o: Any, _: type) -> ObjectFacts:
    return ObjectFacts(
        type=short_type_name(o), length=str.__len__(o), counts=facts.CHARACTERS
    )


def _bytes(o: Any, cls: type) -> ObjectFacts:
    # as above
    return ObjectFacts(type=short_type_name(o), size=cls.__len__(o))  # type: ignore[attr-defined]


def _memoryview(o: memoryview, _: type) -> ObjectFacts:
    try:
        return ObjectFacts(type="memoryview", size=o.nbytes)
    except ValueError:
        return ObjectFacts(type="memoryview", states=(facts.RELEASED,))


def _function(o: Any, _: type) -> ObjectFacts:
    return _at(facts.FUNCTION, _local_name(o), o.__code__)


def _method(o: Any, _: type) -> ObjectFacts:
    function = o.__func__
    if type(function) is not types.FunctionType:
        return ObjectFacts(form=facts.METHOD_OF, of=type_name(type(o.__self__)))
    return _at(facts.METHOD, _local_name(function), function.__code__)


def _builtin(o: Any, _: type) -> ObjectFacts:
    return ObjectFacts(form=facts.BUILTIN, of=o.__name__)


def _partial(o: Any, _: type) -> ObjectFacts:
    return ObjectFacts(form=facts.PARTIAL, of=name_callable(o))


def _suspended(field: str) -> Callable[[Any, type], ObjectFacts]:
    def read(o: Any, cls: type) -> ObjectFacts:
        code, frame = getattr(o, f"{field}_code"), getattr(o, f"{field}_frame")
        line = code.co_firstlineno if frame is None else frame.f_lineno
        return ObjectFacts(
            type=cls.__name__,
            form=facts.SUSPENDED,
            of=code.co_name,
            file=_file(code),
            line=line,
            states=(facts.ENDED,) if frame is None else (),
        )

    return read


def _frame(o: types.FrameType, _: type) -> ObjectFacts:
    return _at(facts.FRAME, o.f_code.co_name, o.f_code, o.f_lineno)


def _traceback(o: types.TracebackType, _: type) -> ObjectFacts:
    code = o.tb_frame.f_code
    return _at(facts.TRACEBACK, code.co_name, code, o.tb_lineno)


def _module(o: Any, _: type) -> ObjectFacts:
    return ObjectFacts(type="module", name=read_text(o, "__name__") or "?")


def _class(o: type, _: type) -> ObjectFacts:
    return ObjectFacts(form=facts.CLASS, of=type_name(o))


def _exception(o: object, _: type) -> ObjectFacts:
    return ObjectFacts(type=type_name(type(o)))


def _capsule(o: object, _: type) -> ObjectFacts:
    words = repr(o).split('"')  # safe: a capsule's type cannot be subclassed
    return ObjectFacts(type="PyCapsule", name=words[1] if len(words) > 1 else "")


def _thread(o: Any, _: type) -> ObjectFacts:
    alive = any(thread is o for thread in threading.enumerate())
    states: tuple[str, ...] = ()
    if not alive:
        has_run = read_field(o, "_ident") is not None
        states = (facts.ENDED if has_run else facts.NOT_STARTED,)
    elif read_field(o, "_daemonic") is True:
        states = (facts.DAEMON,)
    return ObjectFacts(
        type=short_type_name(o),
        name=read_text(o, "_name"),
        target=thread_target(o),
        states=states,
    )


def _executor(o: Any, _: type) -> ObjectFacts:
    workers = read_field(o, "_threads")
    if workers is None:
        workers = read_field(o, "_processes")
    count = len(workers) if is_exactly(workers, set, dict) else 0
    down = read_field(o, "_shutdown") or read_field(o, "_shutdown_thread")
    return ObjectFacts(
        type=short_type_name(o),
        length=count or None,
        counts=facts.WORKERS,
        states=(facts.SHUT_DOWN if down is True else facts.NOT_SHUT_DOWN,),
    )


def _pool(o: Any, _: type) -> ObjectFacts:
    workers, state = read_field(o, "_pool"), read_text(o, "_state")
    return ObjectFacts(
        type=short_type_name(o),
        length=(len(workers) or None) if type(workers) is list else None,
        counts=facts.WORKERS,
        states=(facts.NOT_CLOSED if state == "RUN" else facts.CLOSED,),
    )


def _text_file(o: Any, _: type) -> ObjectFacts:
    buffer: Any = o.buffer if type(o) is io.TextIOWrapper else None
    raw = buffer.raw if is_exactly(buffer, *_BUFFERED) else None
    return _opened(o, raw)


def _buffered_file(o: Any, _: type) -> ObjectFacts:
    return _opened(o, o.raw if is_exactly(o, *_BUFFERED) else None)


def _raw_file(o: Any, _: type) -> ObjectFacts:
    return _opened(o, o)


def _opened(o: object, raw: Any) -> ObjectFacts:
    if type(raw) is not io.FileIO:
        return ObjectFacts(type=short_type_name(o))
    return ObjectFacts(
        type=short_type_name(o),
        name=read_text(raw, "name"),
        states=(facts.CLOSED if raw.closed else facts.OPEN,),
    )


def _memory_file(o: Any, cls: type) -> ObjectFacts:
    try:
        # the type found has a buffer, which mypy cannot know
        size = cls.getbuffer(o).nbytes  # type: ignore[attr-defined]
    except ValueError:
        return ObjectFacts(type=short_type_name(o), states=(facts.CLOSED,))
    return ObjectFacts(type=short_type_name(o), size=size)


def _temporary_file(o: Any, _: type) -> ObjectFacts:
    file = read_field(o, "file")
    inner = facts_of_python(file)
    states = inner.states if inner else ()
    return ObjectFacts(
        type=short_type_name(o), name=read_text(o, "name"), states=states
    )


def _socket(o: Any, cls: type) -> ObjectFacts:
    kind = short_type_name(o)
    read: Any = cls
    if read.fileno(o) == -1:
        return ObjectFacts(type=kind, states=(facts.CLOSED,))
    family, sort = read.family.__get__(o), read.type.__get__(o)
    ends = []
    for end in (read.getsockname, read.getpeername):
        try:
            ends.append(address_text(end(o)))
        except OSError:  # the socket is not bound or connected
            continue
    return ObjectFacts(
        type=kind,
        family=socket_family(family, sort),
        addresses=tuple(filter(None, ends)),
    )


def _log_record(o: Any, _: type) -> ObjectFacts:
    line, path = read_field(o, "lineno"), read_text(o, "pathname")
    is_known = type(line) is int
    return ObjectFacts(
        type=short_type_name(o),
        name=read_text(o, "name"),
        file=path.rpartition(os.sep)[2] if is_known else "",
        line=line if is_known else 0,
    )


def _local_name(function: types.FunctionType) -> str:
    return function.__qualname__.rpartition("<locals>.")[2]


def _at(form: str, name: str, code: types.CodeType, line: int = 0) -> ObjectFacts:
    """Return the facts of something that runs code; its first line if none is given."""
    where = line or code.co_firstlineno
    return ObjectFacts(form=form, of=name, file=_file(code), line=where)


def _file(code: types.CodeType) -> str:
    return file_name(code.co_filename)


_GENERATORS = {"generator": "gi", "coroutine": "cr", "async_generator": "ag"}
_TABLE: dict[TypeName, Callable[[Any, type], ObjectFacts]] = {
    **{
        ("builtins", name): _container
        for name in ("list", "dict", "set", "frozenset", "tuple")
    },
    **{("builtins", name): _bytes for name in ("bytes", "bytearray")},
    **{("builtins", name): _suspended(field) for name, field in _GENERATORS.items()},
    **{
        ("_io", name): _buffered_file
        for name in ("BufferedReader", "BufferedWriter", "BufferedRandom")
    },
    ("builtins", "str"): _text,
    ("builtins", "memoryview"): _memoryview,
    ("builtins", "function"): _function,
    ("builtins", "method"): _method,
    ("builtins", "builtin_function_or_method"): _builtin,
    ("builtins", "frame"): _frame,
    ("builtins", "traceback"): _traceback,
    ("builtins", "module"): _module,
    ("builtins", "type"): _class,
    ("builtins", "BaseException"): _exception,
    ("builtins", "PyCapsule"): _capsule,
    ("collections", "deque"): _container,
    ("weakref", "WeakKeyDictionary"): _weak_container,
    ("weakref", "WeakValueDictionary"): _weak_container,
    ("_weakrefset", "WeakSet"): _weak_container,
    ("functools", "partial"): _partial,
    ("threading", "Thread"): _thread,
    ("concurrent.futures._base", "Executor"): _executor,
    ("multiprocessing.pool", "Pool"): _pool,
    ("_io", "TextIOWrapper"): _text_file,
    ("_io", "FileIO"): _raw_file,
    ("_io", "BytesIO"): _memory_file,
    ("tempfile", "_TemporaryFileWrapper"): _temporary_file,
    ("_socket", "socket"): _socket,
    ("logging", "LogRecord"): _log_record,
}
