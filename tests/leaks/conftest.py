"""Run a test file on real TensorFlow and read its verdicts back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_tfleak import Verdict
from pytest_tfleak.reports.message import failure_text
from tests.figures import contradictions

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
RunAlone = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need TensorFlow if it is not installed."""
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
        # for host.allocator: oneDNN's pool is off by default on some CPUs
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
        source = (HERE / "planted" / f"{name}.py").read_text()
        # a busy machine must not cut the diagnosis short
        how = "--tfleak-diagnose-time=180" if diagnose else "--tfleak-diagnose=off"
        return read_verdicts(pytester, source, how, *arguments, name=name)

    return run


def read_verdicts(
    pytester: pytest.Pytester, source: str, *arguments: str, name: str = "it"
) -> dict[str, Verdict]:
    """Run a test file in a process of its own; return the verdicts by test."""
    pytester.makeconftest(DUMP)
    pytester.makepyfile(**{f"test_{name}": source})
    out = pytester.path / "verdicts.jsonl"
    out.unlink(missing_ok=True)
    result = pytester.runpytest_subprocess("-p", "no:randomly", *arguments)
    assert result.ret in (0, 1), result.stdout.str()
    verdicts = map(Verdict.from_dict, map(json.loads, out.read_text().splitlines()))
    found = {v.nodeid.rpartition("::")[2]: v for v in verdicts}
    for verdict in found.values():
        if any(f.failing or (f.known and not f.accepted) for f in verdict.findings):
            continue  # its figures are of failed calls, or of earlier iterations
        # tests of one file share containers
        assert contradictions(failure_text(verdict), is_fresh=False) == []
    return found


@pytest.fixture
def run_alone(pytester: pytest.Pytester) -> RunAlone:
    """Return a function that runs files of ``alone/`` in a process of their own.

    The test fails unless every test in them passes.
    """

    def run(*names: str, options: Sequence[str] = ()) -> None:
        files = [HERE / "alone" / f"{name}_cases.py" for name in names]
        result = pytester.runpytest_subprocess(*files, "-p", "no:randomly", *options)
        collected = re.search(
            r"^collected (\d+) items?$", result.stdout.str(), re.MULTILINE
        )
        assert collected is not None
        outcomes = result.parseoutcomes()
        outcomes.pop("warnings", None)
        assert outcomes == {"passed": int(collected[1])}

    return run
