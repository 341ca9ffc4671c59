"""Run workloads on a real card, in each mode of managing its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak import Verdict

HERE = Path(__file__).parent
PROBE = (
    "import tensorflow as tf; "
    "print(len(tf.config.list_physical_devices('GPU')), tf.test.is_built_with_cuda())"
)
#: Environment and set-up of each mode in which TensorFlow manages a card's memory.
MODES: dict[str, dict[str, str]] = {
    "growth": {"TF_FORCE_GPU_ALLOW_GROWTH": "true"},
    "preallocation": {"TF_FORCE_GPU_ALLOW_GROWTH": "false"},
    "async": {"TF_GPU_ALLOCATOR": "cuda_malloc_async"},
    "virtual": {"TFLEAK_TEST_VIRTUAL": "2"},
    "malloc": {"TF_GPU_ALLOCATOR": "cuda_malloc"},
}
DUMP = """
import json

def pytest_runtest_logreport(report):
    for verdict in getattr(report, "tfleak", []):
        with open("verdicts.jsonl", "a") as out:
            out.write(json.dumps(verdict) + "\\n")
"""
RunOnCard = Callable[..., dict[str, Verdict]]


@cache
def why_no_card() -> str | None:
    """Return why there is no card to test on, None if there is one."""
    if not [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]:
        return "the machine shows no NVIDIA device"
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        return "TensorFlow cannot be imported"
    cards, has_cuda = done.stdout.split()[-2:]
    if int(cards):
        return None
    built = "" if has_cuda == "True" else ", and is not built with CUDA"
    return f"TensorFlow finds no GPU{built}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a card if there is none, and say why."""
    own = [item for item in items if HERE in item.path.parents]
    why = why_no_card() if own else None
    for item in own if why else ():
        item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {why}"))


@pytest.fixture
def run_on_card(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> RunOnCard:
    """Return a function that runs the workloads in a mode, in their own process."""

    def run(mode: str, *arguments: str) -> dict[str, Verdict]:
        for name in ("TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in MODES[mode].items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        pytester.makeconftest(DUMP)
        pytester.makepyfile(test_card=(HERE / "workloads.py").read_text())
        out = pytester.path / "verdicts.jsonl"
        result = pytester.runpytest_subprocess("-p", "no:randomly", *arguments)
        assert result.ret in (0, 1), result.stdout.str()
        lines: list[Any] = [json.loads(line) for line in out.read_text().splitlines()]
        verdicts = map(Verdict.from_dict, lines)
        return {v.nodeid.rpartition("::")[2]: v for v in verdicts}

    return run
