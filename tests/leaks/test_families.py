"""One leak of each family and its mended twin, at each depth, on any TensorFlow.

tox runs this file on each TensorFlow that is supported, to see what an old or a new one
changes; docs/support.md has the outcome.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict

RunPlanted = Callable[..., dict[str, Verdict]]

#: The signal that must show each leak.
LEAKS = {
    "session": "tf.sessions",
    "closed_session": "tf.sessions.closed",
    "session_stack": "tf.session_stack",
    "graph": "tf.graphs",
    "graph_stack": "tf.graph_stack",
    "default_graph": "tf.default_graph.ops",
    "tape_scope": "tf.tapes",
    "tape": "tf.tensors",
    "function": "tf.functions",
    "retracing": "tf.traces",
    "variable": "tf.variables",
    "tensor": "tf.tensors",
    "big_tensor": "host.allocator",
    "dataset": "tf.datasets",
    "iterator": "tf.iterators",
    "thread": "process.threads",
    "file": "process.fds",
    "blocks": "python.blocks",
    "heap": "host.heap",
    "model": "keras.layers",
    "lookup_table": "host.heap",
    "kernel": "host.heap",
    "python_function": "tf.py_functions",
}
#: All of a file, with as few iterations as show each leak.
_AT_DEPTH = ["--tfleak", "--tfleak-iterations=12"]
#: Those that one call shows: it leaves something open.
LEFT_OPEN = ["session", "session_stack", "graph_stack", "tape_scope", "thread", "file"]
#: Those that are explained, too, which takes the longest.
EXPLAINED = ["session", "default_graph", "function", "variable", "model", "kernel"]


@pytest.mark.parametrize(
    ("depth", "explains", "leaks"),
    [
        ("leftovers", False, LEFT_OPEN),
        pytest.param("quick", False, list(LEAKS), marks=pytest.mark.slow),
        pytest.param("full", True, EXPLAINED, marks=pytest.mark.slow),
    ],
)
def test_each_leak_is_found(
    run_planted: RunPlanted, depth: str, explains: bool, leaks: list[str]
) -> None:
    names = [f"test_{leak}_leaks" for leak in leaks]
    how = [*_AT_DEPTH, f"--tfleak-depth={depth}", "-k", " or ".join(names)]
    verdicts = run_planted("families", *how, diagnose=explains)
    assert set(verdicts) == set(names)
    for leak, name in zip(leaks, names, strict=True):
        assert verdicts[name].status is Status.LEAK, verdicts[name]
        found = {finding.signal: finding for finding in verdicts[name].findings}
        assert LEAKS[leak] in found, verdicts[name]
        assert not explains or found[LEAKS[leak]].cause, verdicts[name]


@pytest.mark.parametrize(
    "depth", ["leftovers", pytest.param("quick", marks=pytest.mark.slow)]
)
def test_each_mended_twin_is_clean(run_planted: RunPlanted, depth: str) -> None:
    how = [*_AT_DEPTH, f"--tfleak-depth={depth}", "-k", "clean"]
    verdicts = run_planted("families", *how)
    assert len(verdicts) > len(LEAKS)
    wrong = {n: v for n, v in verdicts.items() if v.status is not Status.CLEAN}
    assert not wrong
