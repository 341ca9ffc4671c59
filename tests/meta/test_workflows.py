"""The nightly workflow runs each environment that tox.ini has for a TensorFlow."""

from __future__ import annotations

import configparser
import re
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _expanded(pattern: str) -> set[str]:
    """Return what a line of tox's env_list stands for: one name for each choice."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [
        part.split(",") if inside else [part]
        for part, inside in zip(parts, [False, True] * len(parts), strict=False)
    ]
    return {"".join(chosen) for chosen in product(*choices)}


def _environments() -> set[str]:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    lines = tox["tox"]["env_list"].split()
    return {name for line in lines for name in _expanded(line)}


def test_choices_of_tox_are_expanded() -> None:
    assert _expanded("py3{10,11}-tf{213,214}") == {
        "py310-tf213",
        "py310-tf214",
        "py311-tf213",
        "py311-tf214",
    }
    assert _expanded("lint") == {"lint"}


def test_each_tensorflow_of_tox_runs_at_night_on_its_python() -> None:
    workflow = ROOT.joinpath(".github/workflows/matrix.yml").read_text("utf-8")
    jobs = re.findall(r'\{python: "([\d.]+)", env: ([\w-]+)\}', workflow)
    assert {env for _, env in jobs} == {
        name for name in _environments() if "-tf" in name or name == "lowest"
    }
    for python, env in jobs:
        assert env == "lowest" or env.startswith(f"py{python.replace('.', '')}-")
