"""Measure what known growth and the diagnosis cost, part by part.

    python benchmarks/diagnosis_cost.py

Runs a few tests in one pytest process. The first two build and fit a new Keras model:
TensorFlow keeps something of each, which is known growth. Their times are compared with
55 bare calls in the same process. The others leak, beside nothing or beside two million
objects; their diagnosis may take 5 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = 18
CASES = f"""
from time import perf_counter

import keras
import numpy as np
import pytest
import tensorflow as tf

X = np.random.rand(32, 4).astype("float32")
Y = (X[:, :1] > 0.5).astype("float32")
KEPT = []
MODEL = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
diagnosed = pytest.mark.tfleak(depth="full", diagnose_time=5)


def fit():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, "relu"),
            layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    model.fit(X, Y, epochs=1, verbose=0)


def test_bare(record_property):
    fit()
    started = perf_counter()
    for _ in range({CALLS}):
        fit()
    record_property("seconds", perf_counter() - started)


@pytest.mark.tfleak(depth="full")
def test_fit():
    fit()


@pytest.mark.tfleak(depth="full")
def test_fit_again():
    fit()


@pytest.mark.tfleak(depth="quick")
def test_fit_quick():
    fit()


@diagnosed
def test_tensor():
    KEPT.append(tf.ones([100]))


@diagnosed
def test_text():
    KEPT.append("x" * 20_000 + str(len(KEPT)))


@diagnosed
def test_prediction():
    KEPT.append(MODEL(X))


@pytest.fixture(scope="module")
def millions():
    return [{{"number": [number]}} for number in range(1_000_000)]


@diagnosed
def test_tensor_beside_millions(millions):
    KEPT.append(tf.ones([100]))


@diagnosed
def test_text_beside_millions(millions):
    KEPT.append("x" * 20_000 + str(len(KEPT)))
"""
CONFTEST = """
import json
import os


def pytest_runtest_logreport(report):
    with open(os.environ["TFLEAK_VERDICTS"], "a") as out:
        for name, seconds in report.user_properties:
            if report.when == "call" and name == "seconds":
                out.write(json.dumps({"bare": seconds}) + "\\n")
        for verdict in getattr(report, "tfleak", []):
            out.write(json.dumps(verdict) + "\\n")
"""


def main() -> None:
    """Run the tests and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_cost.py").write_text(CASES)
        Path(folder, "conftest.py").write_text(CONFTEST)
        out = Path(folder, "verdicts.jsonl")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", folder]
        environment = os.environ | {
            "TFLEAK_VERDICTS": str(out),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        subprocess.run(command, env=environment, check=False, capture_output=True)
        lines = list(map(json.loads, out.read_text().splitlines()))
    bare = next(line["bare"] for line in lines if "bare" in line) / CALLS
    print(f"a bare call of fit(): {bare:.2f} s, 55 of them: {55 * bare:.1f} s\n")
    parts = ("loop", "confirmation", "known_growth", "diagnosis")
    print(f"| test | verdict | seconds | {' | '.join(parts)} |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for verdict in (line for line in lines if "nodeid" in line):
        seconds = verdict["seconds_by_part"]
        figures = " | ".join(f"{seconds[part]:.1f}" for part in parts)
        name = verdict["nodeid"].rpartition("::")[2]
        total = f"{verdict['seconds']:.1f}"
        print(f"| `{name}` | {verdict['status']} | {total} | {figures} |")


if __name__ == "__main__":
    main()
