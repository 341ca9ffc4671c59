"""How the package is cut: small modules, each named for one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

import pytest_tfleak

PACKAGE = Path(pytest_tfleak.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


@each_module
def test_a_module_has_350_lines_at_most(path: Path) -> None:
    lines = path.read_text("utf-8").count("\n")
    assert lines <= 350


@each_module
def test_a_module_says_what_it_is(path: Path) -> None:
    assert path.read_text("utf-8").startswith('"""')


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "util", "helpers", "common", "misc"}
