"""The live line on a real terminal: shown while a test runs, erased at its end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from types import MappingProxyType

import pytest

SUITE = """
import pytest

KEPT = []

def test_plain():
    pass

@pytest.mark.tfleak(iterations=20, warmup=2, diagnose="off")
def test_train():
    print("output of the test")

@pytest.mark.tfleak(iterations=20, warmup=2, diagnose="off")
def test_leak():
    KEPT.append(bytearray(20_000))

def test_block(tfleak):
    tfleak.check(lambda: None, iterations=20)
"""
#: A conftest.py that shows every iteration, so that no test has to be slow.
EAGER = """
from pytest_tfleak.run import progress

progress.DELAY = progress.INTERVAL = 0.0
"""
_IGNORED = ("CI", "BUILD_NUMBER", "COLUMNS")
AFTER = r"\x1b7([^\x1b]*)\x1b\[K\x1b8"
BELOW = r"\r\r\n([^\x1b\r\n]+)\x1b\[K\r\x1b\[A"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(EAGER)
    pytester.makepyfile(test_it=SUITE)


def run_on_terminal(
    folder: pytest.Pytester,
    *arguments: str,
    width: int = 80,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Run pytest on a terminal, and return what it writes."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in _IGNORED}
    written = bytearray()
    reader = threading.Thread(target=read_all, args=(ours, written))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--color=no", "--tb=no", *arguments],
        cwd=folder.path,
        env=clean | {"TERM": "xterm", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    reader.start()
    process.wait()
    reader.join()
    os.close(ours)
    return written.decode()


def read_all(descriptor: int, into: bytearray) -> None:
    while True:
        try:
            into += os.read(descriptor, 4096)
        except OSError:  # no process has the terminal open any more
            return


def live_lines(written: str) -> list[str]:
    """Return the text of each live line, after pytest's text or below it."""
    return [a or b for a, b in re.findall(f"{AFTER}|{BELOW}", written)]


def seen(written: str) -> list[str]:
    """Return what a user sees at the end: the lines of the screen."""
    screen, saved, column, row = [""], 0, 0, 0
    control = r"\x1b7|\x1b8|\x1b\[\d*[KAC]|\r|\n"
    for piece in re.findall(rf"{control}|[^\x1b\r\n]+|\x1b.", written):
        line = screen[row]
        if piece == "\n":
            row += 1
            screen += [""] * (row == len(screen))
        elif piece == "\r":
            column = 0
        elif piece == "\x1b7":
            saved = column
        elif piece == "\x1b8":
            column = saved
        elif piece == "\x1b[K":
            screen[row] = line[:column]
        elif piece == "\x1b[A":
            row -= 1
        elif piece.startswith("\x1b["):
            column += int(piece[2:-1])
        else:
            screen[row] = (
                line[:column].ljust(column) + piece + line[column + len(piece) :]
            )
            column += len(piece)
    return [line.rstrip() for line in screen]


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize("flags", [(), ("-v",)], ids=["normal", "verbose"])
def test_a_live_line_is_shown_and_gone_when_done(
    pytester: pytest.Pytester, flags: tuple[str, ...]
) -> None:
    written = run_on_terminal(pytester, *flags)
    lines = live_lines(written)
    shown = r"test_train 9/20  host \S+ (B|KiB)/iter  eta \d+ s"
    assert any(re.match(shown, line) for line in lines)
    assert "test_leak warm-up 1/2" in "\n".join(lines)
    assert re.search(r"test_leak confirming 20/20  host \+19\.\d KiB", "\n".join(lines))
    assert any(line.startswith("test_block 20/20") for line in lines)
    assert not any("test_plain" in line for line in lines)
    screen = seen(written)
    without = seen(run_on_terminal(pytester, *flags, environment={"TERM": "dumb"}))
    assert " eta " not in "\n".join(screen)
    assert results(screen) == results(without)


def results(screen: list[str]) -> list[str]:
    """Return the lines with the tests' results."""
    lines = [line for line in screen if line.startswith("test_it.py")]
    assert lines
    return lines


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (["-q"], {}),
        (["-s"], {}),
        (["--capture=sys"], {}),
        (["--capture=tee-sys"], {}),
        (["-o", "log_cli=true"], {}),
        (["--log-cli-level=INFO"], {}),
        (["-p", "no:terminal"], {}),
        (["-n1"], {}),
        ([], {"TERM": "dumb"}),
        ([], {"CI": "true"}),
    ],
    ids=str,
)
def test_no_live_line_where_it_would_do_harm(
    pytester: pytest.Pytester, flags: list[str], environment: dict[str, str]
) -> None:
    if "-n1" in flags:
        pytest.importorskip("xdist")
    written = run_on_terminal(pytester, "-k", "train", *flags, environment=environment)
    assert live_lines(written) == []
    if "no:terminal" not in flags:
        assert "1 passed" in written


@pytest.mark.usefixtures("suite")
def test_no_live_line_without_a_terminal(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("-k", "train")
    assert "\x1b" not in result.stdout.str()


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, "test_train 20/20  host"),
        (60, "test_train 20/20  host"),  # below pytest's text
        (20, "test_train 20/20"),
        (19, None),
    ],
)
def test_the_line_has_the_name_however_narrow_the_terminal(
    pytester: pytest.Pytester, width: int, shown: str | None
) -> None:
    written = run_on_terminal(pytester, "-k", "train", width=width)
    lines = live_lines(written)
    assert all(line.startswith("test_train ") for line in lines)
    assert all(len(line) < width for line in lines)
    assert any(line.startswith(shown or "-") for line in lines) == (shown is not None)
    screen = seen(written)
    assert "test_train" not in "\n".join(screen)
    assert "test_it.py ." in [line.partition(" [")[0].rstrip() for line in screen]


def test_a_line_below_a_long_name_leaves_it_as_it_is(
    pytester: pytest.Pytester,
) -> None:
    name = "test_that_has_a_name_of_more_than_half_of_the_line"
    pytester.makeconftest(EAGER)
    pytester.makepyfile(
        test_it=f"""
        import pytest

        @pytest.mark.tfleak(iterations=20, warmup=2)
        def {name}(): pass
        """
    )
    written = run_on_terminal(pytester, "-v")
    assert any(line.startswith(f"{name} 20/20  ") for line in live_lines(written))
    screen = seen(written)
    assert results(screen) == [f"test_it.py::{name} PASSED    [100%]"]
    assert " eta " not in "\n".join(screen)


def test_the_line_is_gone_after_an_interrupt(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(EAGER)
    pytester.makepyfile(
        test_it="""
        import pytest

        calls = []

        @pytest.mark.tfleak(iterations=20)
        def test_train():
            calls.append(1)
            if len(calls) == 9:
                raise KeyboardInterrupt
        """
    )
    written = run_on_terminal(pytester)
    assert live_lines(written)
    assert " eta " not in "\n".join(seen(written))
