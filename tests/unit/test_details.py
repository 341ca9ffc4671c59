"""What an object is, in words: Python's own ones, and ones that fight back."""

from __future__ import annotations

import collections
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

from pytest_tfleak.diagnosis.descriptors import new_descriptors
from pytest_tfleak.diagnosis.descriptors import new_threads
from pytest_tfleak.diagnosis.descriptors import open_descriptors
from pytest_tfleak.diagnosis.descriptors import threads_now
from pytest_tfleak.diagnosis.details import describe_group
from pytest_tfleak.diagnosis.details import describe_object
from pytest_tfleak.diagnosis.fields import read_attribute
from pytest_tfleak.diagnosis.fields import read_field
from pytest_tfleak.diagnosis.folding import clip
from pytest_tfleak.diagnosis.folding import fold_names
from pytest_tfleak.diagnosis.phrase import Phrase
from pytest_tfleak.diagnosis.phrase import describe_alike

RELEASE = threading.Event()


class TouchedError(BaseException):
    """Code of an object ran."""


def touch(*_: object, **__: object) -> NoReturn:
    raise TouchedError


class Hostile:
    """Every way to run an object's code raises what nothing catches."""

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

    # in a function: pytest looks into what a test module holds
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
    """Return a list of threads, which are let go and joined after the test."""
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
        (sys, "module sys"),
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


def test_like_objects_are_one_group() -> None:
    same = Phrase(kind="EagerTensor", spec="float32[128,128]", size=65536)
    words = "EagerTensor float32[128,128] (64 KiB"
    assert describe_alike([same] * 9, 1) == f"1 {words}) per iteration"
    assert describe_alike([same] * 9, 2) == f"2 {words} each) per iteration"
    assert describe_alike([same], None) == f"1 {words})"


def test_objects_of_many_shapes_are_shown_by_examples() -> None:
    mixed = [
        Phrase(kind="EagerTensor", spec=f"float32[{n}]", size=4 * n)
        for n in range(64, 69)
    ]
    assert describe_alike(mixed, 1) == (
        "1 EagerTensor per iteration (264 B): float32[64], float32[65], float32[66], …"
    )
    small = Phrase(kind="EagerTensor", spec="int32[]", size=4)
    shown = describe_alike([small, *mixed], 1)
    assert shown.index("float32[64]") < shown.index("…")
    assert "int32[]" not in shown


def test_names_that_differ_by_a_number_are_one() -> None:
    kernels = [Phrase(kind="Variable", name=f"k{n}/v:0") for n in range(5)]
    assert describe_alike(kernels, 1) == "1 Variable 'k*/v:0' per iteration"
    names = [f"/tmp/run-{n}/events.out.tfevents.17{n}.host.{n}.v2" for n in range(3)]
    assert fold_names(names) == {"/tmp/run-*/events.out.tfevents.*": 3}
    assert fold_names(["/srv/a1.db", "/srv/a1.db"]) == {"/srv/a1.db": 2}
    made = ["/tmp/tmpab12cd_x/f", "/tmp/tmpqqwwee_y/f"]
    assert fold_names(made) == {"/tmp/tmp*/f": 2}


def test_objects_of_several_kinds_are_shared_out() -> None:
    session = Phrase(kind="Session", note="(open)")
    graph = Phrase(kind="Graph", spec="of 12 operations")
    words = describe_alike([session, session, graph, graph], 2)
    assert words == "1 Session (open), 1 Graph of 12 operations per iteration"
    words = describe_alike([session, graph], None)
    assert words == "1 Session (open), 1 Graph of 12 operations"


def test_a_long_name_is_cut_in_the_middle_and_shows_no_control_codes() -> None:
    short = clip("a" * 100 + "/log.txt\x1b[31m")
    assert len(short) == 64
    assert short.endswith("log.txt?[31m")
    assert "…" in short
    assert describe_group([], 1) == ""


def test_what_was_opened_is_named_with_what_differs_erased(tmp_path: Path) -> None:
    before = open_descriptors()
    files = [tmp_path.joinpath(f"run-{n}.log").open("w") for n in range(4)]
    words = new_descriptors(before, open_descriptors(), 4)
    folder = str(tmp_path)
    for file in files:
        file.close()
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here: psutil names the files as it can")
    assert words == f"1 per iteration: {clip(folder + '/run-*.log')}"
    assert new_descriptors(before, open_descriptors(), 4) is None


def test_what_is_closed_and_opened_again_is_not_new() -> None:
    before = {3: "/srv/a", 4: "pipe"}
    assert new_descriptors(before, {5: "/srv/a", 9: "pipe"}, 1) is None
    after = {5: "/srv/a", 6: "pipe", 7: "pipe", 8: "TCP socket 127.0.0.1:80"}
    words = "0.5 TCP socket 127.0.0.1:80, 0.5 pipe per iteration"
    assert new_descriptors(before, after, 2) == words


def test_sockets_among_the_descriptors_have_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = open_descriptors().get(server.fileno())
        assert found == f"TCP socket 127.0.0.1:{server.getsockname()[1]}"


def test_threads_that_did_not_end_are_named(release: list[threading.Thread]) -> None:
    before = threads_now()
    for number in range(4):
        target = Server().serve
        release.append(threading.Thread(target=target, name=f"worker-{number}"))
        release[-1].start()
    words = f"1 per iteration: worker-* running {__name__}.Server.serve"
    assert new_threads(before, threads_now(), 4) == words
    assert new_threads(before, before, 4) is None
    assert "MainThread" in threads_now().values()


def test_a_star_in_a_name_is_no_number() -> None:
    assert fold_names(["a*b", "a1b"]) == {"a*b": 1, "a1b": 1}
