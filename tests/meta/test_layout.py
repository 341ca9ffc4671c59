"""The layout of the package: small modules, each named for one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

import pytest_tfleak

PACKAGE = Path(pytest_tfleak.__file__).parent
TESTS = Path(__file__).parents[1]
TESTS_IN_FOLDERS = sorted(TESTS.glob("*/**/test_*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


@each_module
def test_a_module_says_what_it_is(path: Path) -> None:
    assert path.read_text("utf-8").startswith('"""')


def test_no_module_is_named_utils_or_the_like() -> None:
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_every_folder_of_tests_is_run(pytestconfig: pytest.Config) -> None:
    folders = {f"tests/{path.relative_to(TESTS).parts[0]}" for path in TESTS_IN_FOLDERS}
    assert folders == set(pytestconfig.getini("testpaths"))


def test_unit_tests_mirror_the_package() -> None:
    tests = TESTS / "unit"
    folders = {
        path.relative_to(tests).as_posix() for path in tests.rglob("*") if path.is_dir()
    }
    packages = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_dir()
    }
    assert {f for f in folders if "__pycache__" not in f} <= packages
