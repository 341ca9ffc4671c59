"""Causes and fingerprints do not depend on the wording of messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_tfleak.diagnosis.diagnose import Insights
from pytest_tfleak.diagnosis.findings import explain_findings
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.structure import Observed
from pytest_tfleak.diagnosis.what.descriptors import RunningThread
from pytest_tfleak.reports import held_by
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.verdict import Finding
from tests.builders import NOBODY
from tests.builders import from_root
from tests.builders import in_frame
from tests.builders import make_finding
from tests.builders import make_group
from tests.builders import make_part
from tests.builders import passing
from tests.builders import path_to

TENSOR = "tensorflow.python.framework.ops.EagerTensor"
FIGURE = Array(type="EagerTensor", dtype="float32", shape=())
PATHS = {
    "list": path_to(TENSOR),
    "loss": path_to(TENSOR, at="app.LOSSES"),
    "cache": path_to(TENSOR, at="app.f", container="lru_cache"),
    "exception": passing("builtins.tuple", EXCEPTION),
    "last exception": from_root("exception", "builtins.ValueError"),
    "frame": in_frame("seen", "fit", thread="loader-1"),
    "threads": from_root("threads", "threading.Thread"),
    "atexit": from_root("atexit", "builtins.function", size=12),
    "gradients": path_to(at="library.registry", store="gradients", is_library=True),
    "keras": path_to(at="library.TRACKER", store="keras-state", is_library=True),
    "functions": path_to(at="library.table", store="py-functions", is_library=True),
    "nobody": NOBODY,
}
TABLES = ("ROOTS", "STEPS", "STORES")
SENTENCES = ("LOCAL", "IN_THREAD", "THREAD", "SIZE", "NATIVE_PART", "MANY")


def group_at(path: RetainingPath, say: Any) -> Group:
    part = make_part(path, TENSOR, say("1 EagerTensor"), arrays=(FIGURE,))
    return make_group(path, {"": part, "tf.tensors": part})


def explained(say: Any) -> dict[str, tuple[Finding, ...]]:
    """Return the findings for each path; ``say`` describes the objects."""
    found = {}
    for name, path in PATHS.items():
        told = replace(path, target=say("EagerTensor float32[]"))
        insights = Insights(groups=[group_at(told, say)], is_complete=True)
        tensors = make_finding("tf.tensors", what=say("2 dict"))
        found[name] = explain_findings([tensors, make_finding("host.heap")], insights)
    graph = RetainingPath(root=Root(kind="default-graph", size=3))
    thread = RunningThread(name="ThreadPoolExecutor-0_0")
    observed = {
        "tf.default_graph.ops": Observed(what=say("3 Const"), path=graph, place=("g",)),
        "process.threads": Observed(what=say("1 thread"), threads=(thread,)),
        "process.fds": Observed(what=say("1 file"), files=("/dev/shm/psm_1",)),
    }
    for signal, seen in observed.items():
        insights = Insights(observed={signal: seen}, is_complete=True)
        found[signal] = explain_findings([make_finding(signal)], insights)
    return found


def reword(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace each display string of a retaining path."""
    for table in TABLES:
        words = {key: f"<{key[::-1]}>" for key in getattr(held_by, table)}
        monkeypatch.setattr(held_by, table, words)
    for sentence in SENTENCES:
        monkeypatch.setattr(held_by, sentence, f"<{sentence.lower()}>")


def test_other_words_change_no_cause_and_no_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = explained(str)
    edges = {name: held_by.edges_of(path) for name, path in PATHS.items()}
    reword(monkeypatch)
    after = explained(lambda words: words[::-1])

    for name, findings in before.items():
        for old, new in zip(findings, after[name], strict=True):
            assert (old.cause, old.fingerprint) == (new.cause, new.fingerprint), name
    assert len({f[0].cause for f in before.values()}) > len(PATHS) // 2
    for name, path in PATHS.items():
        assert held_by.edges_of(path) != edges[name], name


def test_all_display_strings_of_a_path_are_known_to_this_test() -> None:
    texts = {
        name
        for name, value in vars(held_by).items()
        if name.isupper() and not name.startswith("_") and type(value) in (str, dict)
    }
    assert texts - {"TABLES"} == {*TABLES, *SENTENCES}
