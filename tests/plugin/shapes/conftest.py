from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Mapping
from importlib.util import find_spec

import pytest

#: Measures the tests in some files and returns the verdicts, by the names of the tests.
Measure = Callable[..., Mapping[str, str]]


@pytest.fixture
def measure(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Measure:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider")

    def measure(files: Mapping[str, str], *args: str) -> Mapping[str, str]:
        if find_spec("tensorflow") is None:
            pytest.skip("TensorFlow is not installed")
        pytester.makepyfile(**files)
        options = ("--tfleak", "--tfleak-iterations=6", "--tfleak-warmup=2")
        pytester.runpytest_subprocess(
            *options, "--tfleak-diagnose=off", "--tfleak-json=report.json", *args
        )
        report = json.loads((pytester.path / "report.json").read_text())
        return {
            test["nodeid"]: test["reason"] or test["status"] for test in report["tests"]
        }

    return measure
