"""Run a test file on real TensorFlow and read its verdicts back."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_tfleak import Verdict

HERE = Path(__file__).parent
DUMP = """
import json, os

def pytest_runtest_logreport(report):
    for verdict in getattr(report, "tfleak", []):
        with open("verdicts.jsonl", "a") as out:
            out.write(json.dumps(verdict) + "\\n")

def pytest_collection_modifyitems(items):
    order = os.environ.get("ORDER", "file")
    if order == "reversed":
        items.reverse()
"""

RunPlanted = Callable[..., dict[str, Verdict]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs TensorFlow where there is none."""
    if find_spec("tensorflow") is not None:
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="TensorFlow is not installed"))


@pytest.fixture
def run_planted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> RunPlanted:
    """Return a function that runs a file of ``planted/`` in a process of its own."""

    def run(
        name: str, *arguments: str, order: str = "file", diagnose: bool = True
    ) -> dict[str, Verdict]:
        monkeypatch.setenv("ORDER", order)
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        # oneDNN's pool, which host.allocator is about: off by default on some CPUs
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
        pytester.makeconftest(DUMP)
        source = (HERE / "planted" / f"{name}.py").read_text()
        pytester.makepyfile(**{f"test_{name}": source})
        out = pytester.path / "verdicts.jsonl"
        out.unlink(missing_ok=True)
        # no diagnosis is to run out of time because the machine is busy
        how = "--tfleak-diagnose-time=180" if diagnose else "--tfleak-diagnose=off"
        options = ("-p", "no:randomly", how)
        result = pytester.runpytest_subprocess(*options, *arguments)
        assert result.ret in (0, 1), result.stdout.str()
        verdicts = map(Verdict.from_dict, map(json.loads, out.read_text().splitlines()))
        return {v.nodeid.rpartition("::")[2]: v for v in verdicts}

    return run
