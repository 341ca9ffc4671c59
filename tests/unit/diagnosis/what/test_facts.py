"""Descriptions of Python's own objects, and of hostile ones."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import io
import logging
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from typing import NoReturn

import pytest

from pytest_tfleak.diagnosis.safe_read import read_attribute
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.what.facts import closers_of
from pytest_tfleak.reports.held_object import clip
from tests.builders import describe_group
from tests.builders import describe_object

CLOSERS = {
    "def close(self): ...": ("close",),
    "def close(self, *, force=False): ...": ("close",),
    "def close(*args): ...": ("close",),
    "close = functools.wraps(len)(lambda *args: None)": ("close",),
    "close: float = 1.0": (),
    "close = None": (),
    "__slots__ = ('close',)": (),
    "close = property(lambda self: 1)": (),
    "async def close(self): ...": (),
    "def close(self): yield": (),
    "def close(self, why): ...": (),
    "def close(self, *, why): ...": (),
    "def close(): ...": (),
    "@staticmethod\n    def close(self): ...": (),
    "@contextlib.contextmanager\n    def close(self): yield": (),
}
RELEASE = threading.Event()


class TouchedError(BaseException):
    """Code of an object ran."""


def touch(*_: object, **__: object) -> NoReturn:
    raise TouchedError


class Hostile:
    """Any way to run this object's code raises an error that nothing catches."""

    __slots__ = ("__dict__", "__weakref__", "name")
    __class__ = property(touch)
    __repr__ = __str__ = __eq__ = __len__ = touch
    __getattr__ = __getattribute__ = touch
    __hash__ = touch
    __bool__ = touch


class Shadowed:
    __dict__ = property(touch)
    _name = property(touch)


class HostileList(list[int]):
    __len__ = __iter__ = __getattribute__ = __repr__ = touch


class HostileError(ValueError):
    __str__ = __repr__ = __getattribute__ = touch


def make_hostile_class() -> type:
    class Meta(type):
        __getattribute__ = __repr__ = __eq__ = touch
        __hash__ = touch

    # in a function, since pytest inspects the globals of a test module
    return Meta("HostileType", (), {"__module__": __name__})


class Worker(threading.Thread):
    def run(self) -> None:
        RELEASE.wait(60)


class Server:
    def serve(self) -> None:
        RELEASE.wait(60)


class Cached:
    def __init__(self, size: int) -> None:
        self.size = size


@pytest.fixture
def release() -> Iterator[list[threading.Thread]]:
    """Return a list for threads that are ended and joined after the test."""
    RELEASE.clear()
    threads: list[threading.Thread] = []
    yield threads
    RELEASE.set()
    for thread in threads:
        thread.join()


def line_of(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno


def generate() -> Generator[int, None, None]:
    yield 1
    yield 2


@pytest.mark.parametrize(
    ("o", "words"),
    [
        ([0] * 55, "list of 55"),
        ({}, "dict of 0"),
        ({1, 2}, "set of 2"),
        ((1,), "tuple of 1"),
        (collections.deque([1]), "deque of 1"),
        (collections.OrderedDict(a=1), "OrderedDict of 1"),
        (weakref.WeakKeyDictionary(), "WeakKeyDictionary of 0"),
        (b"x" * 5000, "bytes (4.9 KiB)"),
        (bytearray(9), "bytearray (9 B)"),
        (memoryview(b"abc"), "memoryview (3 B)"),
        ("word" * 500, "str of 2,000 characters"),
        (io.BytesIO(b"abc"), "BytesIO (3 B)"),
        (print, "builtin function print"),
        (sys, "module 'sys'"),
        (int, "class int"),
        (Cached, f"class {__name__}.Cached"),
        (ValueError("of a user"), "ValueError"),
        (Cached(3), f"{__name__}.Cached"),
        (
            logging.LogRecord("app", 10, "/srv/app.py", 12, "hi", (), None),
            "LogRecord 'app' at app.py:12",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_object_says_what_it_is(o: object, words: str) -> None:
    assert describe_object(o) == words


def test_functions_say_where_they_are_written() -> None:
    def inner() -> None:
        pass

    file = Path(__file__).name
    method = Server().serve
    alone = lambda: None  # noqa: E731
    assert describe_object(inner) == f"function inner at {file}:{line_of(inner)}"
    assert describe_object(alone) == f"function <lambda> at {file}:{line_of(alone)}"
    at = f"{file}:{line_of(Server.serve)}"
    assert describe_object(method) == f"bound method Server.serve at {at}"
    assert describe_object(functools.partial(inner)) == f"partial of {__name__}.inner"
    generator = generate()
    next(generator)
    line = line_of(generate) + 1
    assert describe_object(generator) == f"generator generate at {file}:{line}"
    generator.close()
    assert describe_object(generator).endswith("(ended)")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Hostile, f"{__name__}.Hostile"),
        (Shadowed, f"{__name__}.Shadowed"),
        (lambda: HostileList([1, 2]), "HostileList of 2"),
        (HostileError, f"{__name__}.HostileError"),
        (lambda: object.__new__(make_hostile_class()), f"{__name__}.HostileType"),
        (make_hostile_class, f"class {__name__}.HostileType"),
    ],
    ids=["slots", "dict", "list", "exception", "metaclass", "class"],
)
def test_no_code_of_an_object_runs(make: Callable[[], object], words: str) -> None:
    hostile = make()
    assert describe_object(hostile) == words
    assert describe_group([hostile], 1) == f"1 {words} per iteration"
    assert read_field(hostile, "_name") is None
    assert read_attribute(hostile, "name") is None


def test_fields_are_read_from_slots_and_dicts() -> None:
    hostile = Hostile()
    object.__setattr__(hostile, "name", "in a slot")
    object.__setattr__(hostile, "other", "in the dict")
    assert read_field(hostile, "name") == "in a slot"
    assert read_field(hostile, "other") == "in the dict"
    assert read_field(Hostile(), "name") is None


def test_threads_say_what_they_run(release: list[threading.Thread]) -> None:
    plain = threading.Thread(target=Server().serve, name="worker-3", daemon=True)
    release += [plain, Worker(name="own")]
    target = f"{__name__}.Server.serve"
    words = f"Thread 'worker-3' running {target}"
    assert describe_object(plain) == f"{words} (not started)"
    for thread in release:
        thread.start()
    assert describe_object(plain) == f"{words} (daemon)"
    assert describe_object(release[1]) == f"Worker 'own' running {__name__}.Worker.run"
    RELEASE.set()
    plain.join()
    assert describe_object(plain) == "Thread 'worker-3' (ended)"


def test_executors_say_whether_they_are_shut_down() -> None:
    with ThreadPoolExecutor(2) as executor:
        executor.submit(int).result()
        open_words = describe_object(executor)
    assert open_words == "ThreadPoolExecutor of 1 worker (not shut down)"
    assert describe_object(executor) == "ThreadPoolExecutor of 1 worker (shut down)"


def test_files_say_which_and_whether_open(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("w") as text, path.open("rb") as binary:
        assert describe_object(text) == f"TextIOWrapper '{clip(str(path))}' (open)"
        assert describe_object(binary).endswith("x.log' (open)")
        assert describe_object(binary.raw).startswith("FileIO '")
    assert describe_object(text).endswith("x.log' (closed)")


def test_sockets_say_family_and_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert describe_object(server) == f"socket TCP {address}"
        with socket.create_connection(server.getsockname()) as client:
            assert describe_object(client).endswith(f" → {address}")
    assert describe_object(server) == "socket (closed)"


def test_no_objects_are_no_words() -> None:
    assert describe_group([], 1) == ""


@pytest.mark.parametrize(("body", "found"), CLOSERS.items())
def test_a_closer_is_a_method_that_needs_no_argument(
    body: str, found: tuple[str, ...]
) -> None:
    names: dict[str, Any] = {"contextlib": contextlib, "functools": functools}
    names["__name__"] = __name__
    exec(f"class Feed:\n    {body}", names)
    assert closers_of(names["Feed"]()) == found


def test_a_task_that_waits_is_cancelled() -> None:
    async def find() -> list[tuple[str, ...]]:
        waits = asyncio.create_task(asyncio.Event().wait())
        done = asyncio.create_task(asyncio.sleep(0))
        await done
        try:
            return [closers_of(waits), closers_of(done)]
        finally:
            waits.cancel()

    assert asyncio.run(find()) == [("cancel",), ()]


def test_the_last_definition_of_a_closer_counts() -> None:
    names: dict[str, Any] = {"__name__": __name__}
    exec("class A:\n    def close(self): ...\nclass B(A):\n    close = None", names)
    assert closers_of(names["B"]()) == ()
    assert closers_of(names["A"]()) == ("close",)
