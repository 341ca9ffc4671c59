"""What one call leaves: threads, descriptors and processes, without TensorFlow."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak import find_leaks
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc to list descriptors"
)
KEPT: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    for kept in KEPT:
        if isinstance(kept, threading.Event):
            kept.set()
        elif isinstance(kept, subprocess.Popen):
            kept.kill()
            kept.wait()
        elif isinstance(kept, int):
            os.close(kept)
        else:
            kept.close()
    KEPT.clear()


def verdict_on(body: Callable[[], object], **options: object) -> Verdict:
    return find_leaks(body, depth="leftovers", **options)


def finding_on(body: Callable[[], object]) -> Finding:
    verdict = verdict_on(body)
    assert verdict.status is Status.LEAK
    (finding,) = verdict.failing
    return finding


def start_a_thread() -> None:
    stop = threading.Event()
    KEPT.append(stop)
    threading.Thread(target=stop.wait, name="worker", daemon=True).start()


def test_the_body_runs_once() -> None:
    calls: list[int] = []
    verdict = verdict_on(lambda: calls.append(1))
    assert (len(calls), verdict.status) == (1, Status.CLEAN)
    assert (verdict.iterations, verdict.warmup, verdict.depth) == (1, 0, "leftovers")


def test_a_thread_that_runs_on_is_found_with_its_line() -> None:
    finding = finding_on(start_a_thread)
    assert (finding.signal, finding.total) == ("process.threads", 1)
    assert finding.origin is not None
    assert finding.origin.function == "start_a_thread"
    assert finding.cause is not None and finding.advice is not None


def test_a_thread_that_ends_a_moment_later_is_not_left() -> None:
    def body() -> None:
        threading.Thread(target=time.sleep, args=(0.2,)).start()

    assert verdict_on(body).status is Status.CLEAN


@on_linux
def test_a_file_that_stays_open_is_found_with_holder_and_line(tmp_path: Path) -> None:
    def body() -> None:
        KEPT.append((tmp_path / "log.txt").open("w"))

    finding = finding_on(body)
    assert (finding.signal, finding.total) == ("process.fds", 1)
    assert finding.what is not None and "log.txt" in finding.what
    assert finding.path is not None and not finding.path.is_native
    assert finding.origin is not None and finding.origin.function.endswith("body")


@on_linux
def test_a_descriptor_without_an_object_is_found_with_its_line(tmp_path: Path) -> None:
    def body() -> None:
        KEPT.append(os.open(tmp_path / "log.txt", os.O_CREAT | os.O_WRONLY))

    finding = finding_on(body)
    assert finding.what is not None and "log.txt" in finding.what
    assert finding.origin is not None and finding.origin.function.endswith("body")


@on_linux
def test_a_file_that_is_closed_is_not_left(tmp_path: Path) -> None:
    def body() -> None:
        with (tmp_path / "log.txt").open("w") as file:
            file.write("x")

    assert verdict_on(body).status is Status.CLEAN


@on_linux
def test_a_socket_that_stays_open_is_found_with_its_line() -> None:
    finding = finding_on(lambda: KEPT.append(socket.socket()))
    assert finding.signal == "process.fds"
    assert finding.origin is not None


@on_linux
def test_a_process_that_runs_on_is_found_with_its_line() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    finding = finding_on(lambda: KEPT.append(subprocess.Popen(command)))
    assert (finding.signal, finding.total) == ("process.children", 1)
    assert finding.origin is not None


def test_as_many_as_the_options_allow_may_be_left() -> None:
    assert verdict_on(start_a_thread, threads=1).status is Status.CLEAN


def test_what_a_module_starts_while_it_is_imported_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading\n"
        "stop = threading.Event()\n"
        "threading.Thread(target=stop.wait, daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def body() -> None:
        import starts_a_thread  # type: ignore[import-not-found]  # made above

        KEPT.append(starts_a_thread.stop)

    assert verdict_on(body).status is Status.CLEAN


def test_the_interpreter_is_as_it_was_afterwards() -> None:
    start, popen = threading.Thread.start, subprocess.Popen.__init__
    frozen = gc.get_freeze_count()
    verdict_on(start_a_thread)
    assert threading.Thread.start is start
    assert subprocess.Popen.__init__ is popen
    assert gc.get_freeze_count() == frozen


def test_a_body_sees_what_it_froze_itself() -> None:
    seen: list[int] = []

    def body() -> None:
        seen.append(gc.get_freeze_count())
        gc.freeze()
        seen.append(gc.get_freeze_count())
        gc.unfreeze()

    verdict_on(body)
    assert seen[0] == 0
    assert seen[1] > 0


def test_the_error_of_a_body_passes_through() -> None:
    def body() -> None:
        start_a_thread()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        verdict_on(body)


@on_linux
def test_a_file_without_a_name_is_found(tmp_path: Path) -> None:
    def body() -> None:
        KEPT.append(tempfile.TemporaryFile(dir=tmp_path))  # noqa: SIM115 (it is left)

    finding = finding_on(body)
    assert finding.signal == "process.fds"


@on_linux
def test_a_file_that_is_deleted_and_open_is_found(tmp_path: Path) -> None:
    def body() -> None:
        KEPT.append((tmp_path / "log.txt").open("w"))
        (tmp_path / "log.txt").unlink()

    assert finding_on(body).signal == "process.fds"


def test_a_call_from_the_top_of_a_script_is_judged_as_any_other(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import threading\n"
        "from pytest_tfleak import find_leaks\n"
        "stop = threading.Event()\n"
        "def body():\n"
        "    threading.Thread(target=stop.wait, daemon=True).start()\n"
        "print(find_leaks(body, depth='leftovers').status.value)\n"
    )
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "leak\n"
