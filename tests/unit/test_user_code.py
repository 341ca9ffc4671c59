"""User code is distinguished from libraries, and its lines are found in a stack."""

from __future__ import annotations

import json
import sys
import sysconfig
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_tfleak
from pytest_tfleak.user_code import DEPTH
from pytest_tfleak.user_code import frames_of
from pytest_tfleak.user_code import function_at
from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.user_code import register_excerpt

HERE = __file__


class Plain:
    def __init__(self) -> None:
        self.name = "x"


class Slotted:
    __slots__ = ("name",)


class Grown(list[int]):
    pass


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start(DEPTH)
    yield
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("file", "users"),
    [
        (HERE, True),
        ("/home/me/app/train.py", True),
        ("<ipython-input-1-abc>", True),
        ("<string>", False),
        ("<frozen importlib._bootstrap>", False),
        (
            "/home/me/.venv/lib/python3.11/site-packages/keras/layer.py",
            False,
        ),
        ("/usr/lib/python3/dist-packages/six.py", False),
        ("/tmp/__autograph_generated_filecc0z.py", False),
        (f"{sysconfig.get_paths()['stdlib']}/threading.py", False),
        (str(Path(pytest_tfleak.__file__).with_name("loop.py")), False),
    ],
)
def test_libraries_and_this_package_are_not_user_code(file: str, users: bool) -> None:
    assert is_users(file) is users


@pytest.mark.parametrize("name", ["pytest", "py.test", "coverage3", "tool.exe"])
def test_start_scripts_are_not_user_code(name: str) -> None:
    scripts = Path(sysconfig.get_path("scripts"))
    assert not is_users(str(scripts / name))
    assert not is_users(str(Path(sys.executable).parent / name))
    assert is_users(str(scripts / "train.py"))
    assert not is_users(f"C:/Python/Scripts/{name}.exe/__main__.py")


def test_packages_installed_beside_user_code_are_not_user_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "vendor"
    record = target / "keras-3.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.write_text(
        "keras/src/layer.py,sha256=x,1\nkeras_tools.py,,\ntests/__init__.py,,\n"
        '"keras/a,b.py",,\nkeras-3.dist-info/RECORD,,\n'
    )
    nested = target / "keras" / "src"
    monkeypatch.setattr(
        sys, "path", [str(tmp_path), str(target), str(nested), *sys.path]
    )
    installed = ("keras/src/layer.py", "keras_tools.py", "keras/a,b.py")
    assert [name for name in installed if is_users(str(target / name))] == []
    # others share the folders of a wheel
    mine = ("mine/train.py", "tests/test_mine.py", "keras/src/mine.py")
    assert [name for name in mine if not is_users(str(target / name))] == []
    assert is_users(str(tmp_path / "keras" / "src" / "layer.py"))


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize("make", [Plain, Slotted, Grown, lambda: bytes(99)])
def test_the_line_that_made_an_object_is_found(make: type) -> None:
    made = make()

    origin, stack = origin_of(frames_of(made))

    assert origin is not None
    assert origin.file == HERE
    lines = [line.text for line in (origin, *stack)]
    assert "made = make()" in lines


@pytest.mark.usefixtures("tracing")
def test_the_lines_that_led_there_follow() -> None:
    def outer() -> Plain:
        return inner()

    def inner() -> Plain:
        return Plain()

    origin, stack = origin_of(frames_of(outer()))

    assert origin is not None
    assert [origin.text, stack[0].text] == ["return Plain()", "return inner()"]
    assert origin.function.endswith("<locals>.inner") or origin.function.endswith(
        "test_the_lines_that_led_there_follow.inner"
    )


def test_an_older_object_has_no_line() -> None:
    assert frames_of(Plain()) == []
    assert origin_of([]) == (None, ())


def test_frames_of_libraries_are_skipped() -> None:
    library = str(Path(pytest.__file__))

    origin, _ = origin_of([(library, 10), (HERE, 1), (library, 5)])

    assert origin is not None
    assert (origin.file, origin.line) == (HERE, 1)


def test_a_function_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(
        "class A:\n    def f(self):\n        def g():\n            return 1\n"
        "        return g\nx = 1\n"
    )

    names = [function_at(str(file), line) for line in (4, 5, 6)]

    assert names == ["A.f.g", "A.f", ""]


def test_a_file_that_cannot_be_read_has_no_functions(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")

    assert function_at(str(broken), 1) == ""
    assert function_at(str(tmp_path / "missing.py"), 1) == ""


def test_code_compiled_under_another_name_has_the_lines_of_its_file() -> None:
    register_excerpt("<doctest here[0]>", HERE, 3)
    register_excerpt("<doctest json[0]>", json.__file__, 3)
    assert is_users("<doctest here[0]>")
    assert not is_users("<doctest json[0]>")
    origin, _ = origin_of([("<doctest here[0]>", 1)])
    assert origin is not None
    assert (origin.file, origin.line) == (HERE, 3)
    assert origin.text == "from __future__ import annotations"
