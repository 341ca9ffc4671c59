"""What Python's own objects are, in words: containers, functions, files, threads.

PYTEST_DONT_REWRITE
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

from pytest_tfleak.census import TypeName
from pytest_tfleak.diagnosis.fields import defines
from pytest_tfleak.diagnosis.fields import read_field
from pytest_tfleak.diagnosis.fields import read_text
from pytest_tfleak.diagnosis.fields import short_module
from pytest_tfleak.diagnosis.fields import short_type_name
from pytest_tfleak.diagnosis.fields import type_name
from pytest_tfleak.diagnosis.fields import types_of
from pytest_tfleak.diagnosis.folding import clip
from pytest_tfleak.diagnosis.phrase import Phrase

_BUFFERED = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_WRAPPED = 10  # layers of functools.partial


def _container(o: Any, cls: type) -> Phrase:
    # the base type's own __len__: a subclass may have written another
    return _sized(o, cls.__len__(o))  # type: ignore[attr-defined]


def _weak_container(o: Any, _: type) -> Phrase:
    data = read_field(o, "data")
    return _sized(o, len(data) if type(data) in (dict, set) else None)


def _sized(o: object, length: int | None) -> Phrase:
    spec = "" if length is None else f"of {length:,}"
    return Phrase(kind=short_type_name(o), spec=spec)


def _text(o: Any, _: type) -> Phrase:
    return Phrase(kind=short_type_name(o), spec=f"of {str.__len__(o):,} characters")


def _bytes(o: Any, cls: type) -> Phrase:
    return Phrase(kind=short_type_name(o), size=cls.__len__(o))  # type: ignore[attr-defined]


def _memoryview(o: memoryview, _: type) -> Phrase:
    try:
        return Phrase(kind="memoryview", size=o.nbytes)
    except ValueError:
        return Phrase(kind="memoryview", note="(released)")


def _function(o: Any, _: type) -> Phrase:
    return Phrase(kind=f"function {_local_name(o)}", spec=_line_of(o.__code__))


def _method(o: Any, _: type) -> Phrase:
    function = o.__func__
    if type(function) is not types.FunctionType:
        return Phrase(kind=f"bound method of {type_name(type(o.__self__))}")
    name = f"bound method {_local_name(function)}"
    return Phrase(kind=name, spec=_line_of(function.__code__))


def _builtin(o: Any, _: type) -> Phrase:
    return Phrase(kind=f"builtin function {o.__name__}")


def _partial(o: Any, _: type) -> Phrase:
    return Phrase(kind="partial of " + name_callable(o))


def _suspended(field: str) -> Callable[[Any, type], Phrase]:
    def describe(o: Any, cls: type) -> Phrase:
        code, frame = getattr(o, f"{field}_code"), getattr(o, f"{field}_frame")
        line = code.co_firstlineno if frame is None else frame.f_lineno
        note = "(ended)" if frame is None else ""
        kind = f"{cls.__name__} {code.co_name}"
        return Phrase(kind=kind, spec=f"at {_file(code)}:{line}", note=note)

    return describe


def _frame(o: types.FrameType, _: type) -> Phrase:
    code = o.f_code
    return Phrase(
        kind=f"frame of {code.co_name}", spec=f"at {_file(code)}:{o.f_lineno}"
    )


def _traceback(o: types.TracebackType, _: type) -> Phrase:
    code = o.tb_frame.f_code
    return Phrase(
        kind=f"traceback of {code.co_name}", spec=f"at {_file(code)}:{o.tb_lineno}"
    )


def _module(o: Any, _: type) -> Phrase:
    return Phrase(kind="module " + (read_text(o, "__name__") or "?"))


def _class(o: type, _: type) -> Phrase:
    return Phrase(kind=f"class {type_name(o)}")


def _exception(o: object, _: type) -> Phrase:
    return Phrase(kind=type_name(type(o)))


def _capsule(o: object, _: type) -> Phrase:
    words = repr(o).split('"')  # of the C type, which cannot be subclassed
    return Phrase(kind="PyCapsule", name=words[1] if len(words) > 1 else "")


def _thread(o: Any, _: type) -> Phrase:
    alive = any(thread is o for thread in threading.enumerate())
    ended = "(not started)" if read_field(o, "_ident") is None else "(ended)"
    note = "" if alive else ended
    if alive and read_field(o, "_daemonic") is True:
        note = "(daemon)"
    target = thread_target(o)
    return Phrase(
        kind=short_type_name(o),
        name=read_text(o, "_name"),
        spec=f"running {target}" if target else "",
        note=note,
    )


def _executor(o: Any, _: type) -> Phrase:
    workers = read_field(o, "_threads")
    if workers is None:
        workers = read_field(o, "_processes")
    count = len(workers) if type(workers) in (set, dict) else 0
    down = read_field(o, "_shutdown") or read_field(o, "_shutdown_thread")
    return Phrase(
        kind=short_type_name(o),
        spec=_workers(count),
        note="(shut down)" if down is True else "(not shut down)",
    )


def _pool(o: Any, _: type) -> Phrase:
    workers, state = read_field(o, "_pool"), read_text(o, "_state")
    return Phrase(
        kind=short_type_name(o),
        spec=_workers(len(workers) if type(workers) is list else 0),
        note="(not closed)" if state == "RUN" else "(closed)",
    )


def _workers(count: int) -> str:
    return f"of {count} worker{'s' * (count > 1)}" if count else ""


def _text_file(o: Any, _: type) -> Phrase:
    buffer: Any = o.buffer if type(o) is io.TextIOWrapper else None
    raw = buffer.raw if type(buffer) in _BUFFERED else None
    return _opened(o, raw)


def _buffered_file(o: Any, _: type) -> Phrase:
    return _opened(o, o.raw if type(o) in _BUFFERED else None)


def _raw_file(o: Any, _: type) -> Phrase:
    return _opened(o, o)


def _opened(o: object, raw: Any) -> Phrase:
    if type(raw) is not io.FileIO:
        return Phrase(kind=short_type_name(o))
    return Phrase(
        kind=short_type_name(o),
        name=read_text(raw, "name"),
        note="(closed)" if raw.closed else "(open)",
    )


def _memory_file(o: Any, cls: type) -> Phrase:
    try:
        size = cls.getbuffer(o).nbytes  # type: ignore[attr-defined]
    except ValueError:
        return Phrase(kind=short_type_name(o), note="(closed)")
    return Phrase(kind=short_type_name(o), size=size)


def _temporary_file(o: Any, _: type) -> Phrase:
    file = read_field(o, "file")
    inner = describe_python(file)
    note = inner.note if inner else ""
    return Phrase(kind=short_type_name(o), name=read_text(o, "name"), note=note)


def _socket(o: Any, cls: type) -> Phrase:
    kind = short_type_name(o)
    read: Any = cls
    if read.fileno(o) == -1:
        return Phrase(kind=kind, note="(closed)")
    family, sort = read.family.__get__(o), read.type.__get__(o)
    ends = []
    for end in (read.getsockname, read.getpeername):
        try:
            ends.append(address_text(end(o)))
        except OSError:  # not bound, not connected
            continue
    words = [socket_family(family, sort), " → ".join(filter(None, ends))]
    return Phrase(kind=kind, spec=" ".join(filter(None, words)))


def _log_record(o: Any, _: type) -> Phrase:
    line, path = read_field(o, "lineno"), read_text(o, "pathname")
    where = f"at {path.rpartition(os.sep)[2]}:{line}" if type(line) is int else ""
    return Phrase(kind=short_type_name(o), name=read_text(o, "name"), spec=where)


_GENERATORS = {"generator": "gi", "coroutine": "cr", "async_generator": "ag"}
_TABLE: dict[TypeName, Callable[[Any, type], Phrase]] = {
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


def describe_python(o: object) -> Phrase | None:
    """Return the words for an object of Python's own types, None for any other."""
    for name, cls in types_of(o):
        describe = _TABLE.get(name)
        if describe is not None:
            return describe(o, cls)
    return None


def thread_target(thread: object) -> str:
    """Return ``module.function`` of what a thread runs, ``""`` where it is not known.

    A thread forgets its target when it ends.
    """
    target = read_field(thread, "_target")
    if target is None:
        target = read_field(thread, "function")  # a Timer's
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
        if functools.partial not in (cls for _, cls in types_of(o)):
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
    """Return a socket's address: ``127.0.0.1:80``, or the path of a Unix socket."""
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
    """Return the last part of a source file's path; ``<string>`` stays."""
    return path if path.startswith("<") else path.rpartition(os.sep)[2]


def _local_name(function: types.FunctionType) -> str:
    return function.__qualname__.rpartition("<locals>.")[2]


def _line_of(code: types.CodeType) -> str:
    return f"at {_file(code)}:{code.co_firstlineno}"


def _file(code: types.CodeType) -> str:
    return file_name(code.co_filename)
