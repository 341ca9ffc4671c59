"""Open descriptors and running threads are compared before and after, by name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_tfleak.diagnosis.what.descriptors import find_new
from pytest_tfleak.diagnosis.what.descriptors import open_descriptors
from pytest_tfleak.diagnosis.what.descriptors import rates_of_new
from pytest_tfleak.diagnosis.what.descriptors import threads_among
from pytest_tfleak.diagnosis.what.descriptors import threads_now
from pytest_tfleak.reports.held_object import words_of_names

RELEASE = threading.Event()


class Server:
    def serve(self) -> None:
        RELEASE.wait(60)


class Nameless(threading.Thread):
    name = native_id = property()  # raises when it is read

    def run(self) -> None:
        RELEASE.wait(60)


@pytest.fixture
def release() -> Iterator[list[threading.Thread]]:
    """Return a list for threads that are ended and joined after the test."""
    RELEASE.clear()
    threads: list[threading.Thread] = []
    yield threads
    RELEASE.set()
    for thread in threads:
        thread.join()


def test_opened_files_are_named_with_stars_for_what_differs(tmp_path: Path) -> None:
    before = open_descriptors()
    files = [tmp_path.joinpath(f"run-{n}.log").open("w") for n in range(4)]
    rates = rates_of_new(before, open_descriptors(), 4)
    folder = str(tmp_path)
    for file in files:
        file.close()
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here: psutil names the files as it can")
    assert rates == {f"{folder}/run-*.log": 1}
    assert rates_of_new(before, open_descriptors(), 4) == {}


def test_what_is_closed_and_opened_again_is_not_new() -> None:
    before = {3: "/srv/a", 4: "pipe"}
    assert rates_of_new(before, {5: "/srv/a", 9: "pipe"}, 1) == {}
    after = {5: "/srv/a", 6: "pipe", 7: "pipe", 8: "TCP socket 127.0.0.1:80"}
    rates = rates_of_new(before, after, 2)
    words = "0.5 TCP socket 127.0.0.1:80, 0.5 pipe per iteration"
    assert words_of_names(rates) == words
    assert set(find_new(before, after)) == {"pipe", "TCP socket 127.0.0.1:80"}


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
    words = "1 per iteration: worker-* running "
    module = "test…agnosis.what.test_descriptors"  # shortened in the middle
    words += f"{module}.Server.serve"
    assert words_of_names(rates_of_new(before, threads_now(), 4)) == words
    assert rates_of_new(before, before, 4) == {}
    made = find_new(before, threads_now())
    assert {thread.name for thread in made} == {f"worker-{n}" for n in range(4)}
    assert "MainThread" in map(str, threads_now().values())


def test_a_thread_that_hides_its_name_is_named_all_the_same(
    release: list[threading.Thread],
) -> None:
    before = threads_now()
    release.append(Nameless())
    release[0].start()
    new = threads_now().keys() - before.keys()
    (words,) = (threads_now()[number] for number in new)
    assert str(words).endswith(f"running {__name__}.Nameless.run")


def test_threads_among_objects_are_named(release: list[threading.Thread]) -> None:
    for _ in range(2):
        release.append(threading.Thread(target=Server().serve, name="server"))
        release[-1].start()
    [found] = threads_among([*release, object()])
    assert str(found) == f"server running {__name__}.Server.serve"
