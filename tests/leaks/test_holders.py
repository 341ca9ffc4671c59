"""Leaks on real TensorFlow name the holder and the allocation site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tfleak import Verdict
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding

RunPlanted = Callable[..., dict[str, Verdict]]

SOURCE = Path(__file__).parent / "planted" / "holders.py"
MODULE = "test_holders"

#: The signal of the leading finding, and the beginning of its holder.
WANTED = {
    "global_list": ("tf.tensors", (f"{MODULE}.HISTORY (list of", "dict['loss']")),
    "attribute": ("tf.tensors", (f"{MODULE}.SERVICE.log['loss'] (list of",)),
    "class_attribute": ("tf.tensors", (f"{MODULE}.Service.losses (list of",)),
    "closure": ("tf.tensors", (f"{MODULE}.STEP", "variable cache of its closure")),
    "lru_cache": ("tf.tensors", (f"{MODULE}.load (lru_cache of",)),
    "fixture": ("tf.tensors", ("fixture service.log['loss'] (list of",)),
    "two_leaks": ("tf.tensors", (f"{MODULE}.HISTORY (list of",)),
    "array": ("host.heap", (f"{MODULE}.ARRAYS (list of", "ndarray float64[4096]")),
    "exception": (
        "tf.tensors",
        (f"{MODULE}.ERRORS (list of", "ValueError", "local variable batch of fail()"),
    ),
    "model": ("keras.layers", (f"{MODULE}.MODELS (list of", "Sequential")),
    "global_session": ("tf.sessions", (f"{MODULE}.SESSION", "Session (open)")),
    "default_graph": ("tf.default_graph.ops", ("TensorFlow's default graph (",)),
    "old_graph": ("tf.graphs.ops", (f"{MODULE}.OLD_GRAPH", "Graph of")),
    "retrace": ("tf.traces", (f"{MODULE}.double._function_cache",)),
    "thread": ("process.threads", ("Python's table of running threads",)),
    "file": ("process.fds", (f"{MODULE}.FILES (list of", "GFile")),
    "callback": ("process.fds", ()),
    "view": ("host.heap", (f"{MODULE}.VIEWS (list of", "ndarray float32[4096]")),
    "block": ("tf.tensors", ("local variable kept of test_block() (list of",)),
    "weak_key": ("tf.tensors", (f"{MODULE}.WEAK",)),
}
#: Tests whose allocation site is in code that they share with another test.
LINES = {"attribute": "fixture"}


def line_of(name: str) -> int:
    lines = SOURCE.read_text().splitlines()
    mark = f"# made: {LINES.get(name, name)}"
    return next(n for n, text in enumerate(lines, 1) if text.endswith(mark))


@pytest.mark.slow
def test_each_leak_names_its_holder_and_its_line(run_planted: RunPlanted) -> None:
    verdicts = run_planted("holders")
    told = {name: lead_of(verdicts[f"test_{name}"]) for name in WANTED}

    holders = {name: (f.signal, begins(f, WANTED[name][1])) for name, f in told.items()}
    assert holders == {name: (signal, True) for name, (signal, _) in WANTED.items()}, {
        name: finding.path for name, finding in told.items()
    }
    lines = {name: f.origin and f.origin.line for name, f in told.items()}
    assert lines == {name: line_of(name) for name in WANTED}

    two = [f for f in verdicts["test_two_leaks"].failing if f.signal == "tf.tensors"]
    assert [f.per_iteration for f in two] == [1, 1]
    assert len({finding.fingerprint for finding in two}) == 2

    of_one = verdicts["test_global_list"].failing
    assert len({finding.fingerprint for finding in of_one}) == 1

    # the same leak has the same fingerprint, in any order and with other tests
    some = "global_list or closure or exception or global_session or retrace or graph"
    again = run_planted("holders", "-k", some, order="reversed")
    assert fingerprints(again) == fingerprints({n: verdicts[n] for n in again})
    assert all(fingerprint for _, _, fingerprint in fingerprints(again))


def fingerprints(verdicts: dict[str, Verdict]) -> set[tuple[str, str, str | None]]:
    return {
        (name, finding.signal, finding.fingerprint)
        for name, verdict in verdicts.items()
        for finding in verdict.failing
        if finding.unit != "B"
    }


def lead_of(verdict: Verdict) -> Finding:
    return ordered(verdict.failing)[0]


def begins(finding: Finding, wanted: tuple[str, ...]) -> bool:
    holder = edges_of(finding.path) if finding.path is not None else ()
    return len(holder) >= len(wanted) and all(
        edge.startswith(start) for edge, start in zip(holder, wanted, strict=False)
    )
