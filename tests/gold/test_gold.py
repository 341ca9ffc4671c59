"""Compare whole messages with the files in this folder.

``TFLEAK_REGENERATE=1 pytest tests/gold`` rewrites the files; then read the diff.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.terminal import header_lines
from pytest_tfleak.reports.terminal import summary_lines
from pytest_tfleak.tf.access import KERASES
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Ledger
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import path_to
from tests.figures import contradictions
from tests.regenerate import expected_text

HERE = Path(__file__).parent
KIB = 1024
ROWS = 105


def ramp(step: float, start: int = 0, rows: int = ROWS) -> tuple[int, ...]:
    return tuple(int(start + step * row) for row in range(1, rows + 1))


def signal(
    name: str,
    series: tuple[int | None, ...] = (),
    allowance: float | None = 0.0,
    rate: float | None = None,
    unit: str | None = None,
    reason: str | None = None,
    status: str = "measured",
) -> SignalReport:
    judged = [value for value in series[5:] if value is not None]
    total = judged[-1] - judged[0] if len(judged) > 1 else None
    if rate is None and total is not None:
        rate = total / (len(series[5:]) - 1)
    return SignalReport(
        name=name,
        unit=unit or name.rpartition(".")[2],
        status=status,
        reason=reason,
        per_iteration=rate,
        total=total,
        allowance=allowance,
        decides=allowance is not None and bool(series),
        series=series,
    )


def heap(step: float, allowance: float = 6 * KIB, rows: int = ROWS) -> SignalReport:
    return signal(
        "host.heap", ramp(step, 200_000_000, rows), allowance, float(step), "B"
    )


def finding(source: SignalReport, allow: str, **more: object) -> Finding:
    assert source.total is not None and source.allowance is not None
    fields: dict[str, object] = {
        "signal": source.name,
        "unit": source.unit,
        "per_iteration": source.per_iteration,
        "total": source.total,
        "allowance": source.allowance,
        "first": 1,
        "last": len(source.series) - 5,
        "allow": allow,
    }
    return Finding(**(fields | more))  # type: ignore[arg-type]


def leak(name: str, *findings: Finding, **more: object) -> Verdict:
    fields: dict[str, object] = {
        "nodeid": f"tests/test_model.py::{name}",
        "status": Status.LEAK,
        "iterations": 100,
        "confirmation": 50,
        "warmup": 5,
        "seconds": 1.23,
        "body_seconds": 0.81,
        "findings": findings,
    }
    return Verdict(**(fields | more))  # type: ignore[arg-type]


def other(name: str, status: Status, reason: Reason | None, **more: object) -> Verdict:
    fields: dict[str, object] = {
        "nodeid": f"tests/test_model.py::{name}",
        "status": status,
        "reason": reason,
        "iterations": 50,
        "warmup": 5,
        "seconds": 0.61,
        "body_seconds": 0.4,
    }
    return Verdict(**(fields | more))  # type: ignore[arg-type]


def kept_tensor() -> Verdict:
    tensors = signal("tf.tensors", ramp(1))
    memory = heap(7_540)
    blocks = signal("python.blocks", ramp(70, 400_000), 64.0)
    return leak(
        "test_history_grows",
        finding(memory, "host_per_iteration"),
        finding(blocks, "blocks"),
        finding(
            tensors,
            "tensors",
            kind="tensorflow.python.framework.ops.EagerTensor",
            what="1 EagerTensor, 2 dict per iteration",
        ),
        signals=(
            memory,
            signal("host.rss", ramp(9_000, 400_000_000), None, unit="B"),
            blocks,
            tensors,
            signal("tf.variables", ramp(0, 12)),
            signal("host.uss", reason="this system has no smaps", status="unavailable"),
        ),
    )


def kept_session() -> Verdict:
    sessions = signal("tf.sessions", ramp(1))
    graphs = signal("tf.graphs", ramp(1))
    stack = signal("tf.session_stack", ramp(1), unit="sessions")
    return leak(
        "test_interactive_session",
        finding(graphs, "graphs", what="1 Graph per iteration"),
        finding(sessions, "sessions", what="1 InteractiveSession per iteration"),
        finding(stack, ""),
        signals=(sessions, graphs, stack),
        notes=(
            "12 sessions were dropped without close(); Python closed what was dropped.",
            "clear_session() was not called: an InteractiveSession was open",
        ),
    )


def open_session() -> Verdict:
    left = Finding(
        signal="tf.sessions",
        unit="sessions",
        per_iteration=None,
        total=1,
        allowance=0.0,
        first=1,
        last=50,
        allow="sessions",
        kind="tensorflow.python.client.session.Session",
        what="1 Session",
    )
    flat = signal("tf.sessions", (1,) * 55)
    return leak(
        "test_global_session",
        left,
        iterations=50,
        confirmation=0,
        signals=(flat,),
    )


def held(source: SignalReport, at: str, made: int, **more: object) -> Finding:
    """Return a finding on what a container of the module ``app`` gained."""
    fields: dict[str, object] = {
        "kind": "tensorflow.python.framework.ops.EagerTensor",
        "what": "1 EagerTensor float32[2] (8 B) per iteration",
        "path": path_to(
            "tensorflow.python.framework.ops.EagerTensor", at=f"app.{at}", size=105
        ),
        "origin": Origin(file="app.py", line=made, function="make", text="y = f(x)"),
        "stored": Origin(
            file="app.py", line=made + 1, function="keep", text=f"{at}.append(y)"
        ),
        "fingerprint": f"2:{at}",
        "cause": "tensor-kept",
        "why": f"A tensor of each call is put into app.{at} and never removed.",
        "advice": f"Limit it: `del {at}[:-100]` after each append.",
    }
    return finding(source, str(more.pop("allow", "tensors")), **(fields | more))


def two_lists() -> Verdict:
    """Return a leak of two lists, which are two mistakes, in one signal."""
    tensors = signal("tf.tensors", ramp(3))
    return leak(
        "test_two_lists",
        held(
            tensors,
            "OUTPUTS",
            8,
            per_iteration=2.0,
            total=198,
            what="2 EagerTensor float32[2] (8 B each) per iteration",
            path=path_to(
                "tensorflow.python.framework.ops.EagerTensor",
                at="app.OUTPUTS",
                size=210,
            ),
        ),
        held(tensors, "INPUTS", 4, per_iteration=1.0, total=99),
        signals=(tensors,),
    )


def two_kinds() -> Verdict:
    """Return a leak of tensors with their memory, and one of descriptors."""
    tensors, files = signal("tf.tensors", ramp(1)), signal("process.fds", ramp(1, 20))
    memory = heap(7_540)
    return leak(
        "test_two_kinds",
        held(tensors, "OUTPUTS", 8),
        held(
            files,
            "LOGS",
            20,
            allow="fds",
            kind="_io.FileIO",
            what="1 per iteration: app.log",
            path=path_to("_io.FileIO", at="app.LOGS", size=105),
            cause="file-not-closed",
            why="Each call opens a file that is never closed.",
            advice="Use a with statement: `with open(path) as file: ...`.",
        ),
        finding(memory, "host_per_iteration", fingerprint="2:OUTPUTS"),
        signals=(tensors, files, memory),
    )


def native_heap() -> Verdict:
    memory = heap(65_552)
    return leak(
        "test_native_call[float32-batch_size=128]",
        finding(memory, "host_per_iteration"),
        signals=(memory,),
    )


def over_total() -> Verdict:
    memory = heap(3_000, rows=55)
    total = finding(memory, "host_total", allowance=100 * KIB)
    return leak("test_total", total, iterations=50, confirmation=0, signals=(memory,))


def every_fifth() -> Verdict:
    tensors = signal("tf.tensors", ramp(0.2), rate=0.2)
    return leak(
        "test_now_and_then",
        finding(tensors, "tensors", first=4),
        signals=(tensors,),
    )


def at_the_allowance() -> Verdict:
    memory = heap(6_100)
    return leak("test_border", finding(memory, "host_per_iteration"), signals=(memory,))


def third_party() -> Verdict:
    handles = signal("db.handles", ramp(2), 0.0)
    return leak("test_query", finding(handles, ""), signals=(handles,))


REGISTRY = {
    "known": "custom-gradient-registry",
    "accepted": True,
    "experiments": (
        Experiment(
            name="with TensorFlow's custom-gradient registry emptied",
            per_iteration=2_630.4,
        ),
    ),
}


def kernel_cache() -> Verdict:
    memory = heap(36_216)
    return leak(
        "test_new_names",
        finding(
            memory,
            "host_per_iteration",
            known="eager-kernel-cache",
            experiments=(
                Experiment(
                    name="with TensorFlow's cache of eager kernels emptied",
                    per_iteration=-64.0,
                ),
            ),
            advice=name_clear_session(str(KNOWN[-1].remedy), KERASES[0].clear_session),
        ),
        signals=(memory,),
    )


def beside_known_growth() -> Verdict:
    tensors = signal("tf.tensors", ramp(1))
    memory = heap(3_355_331)
    return leak(
        "test_fit",
        finding(memory, "host_per_iteration", **REGISTRY),
        finding(tensors, "tensors", what="1 EagerTensor per iteration"),
        signals=(heap(1_200), tensors),
    )


def released_by_clearing() -> Verdict:
    functions = signal("tf.py_functions", ramp(1), unit="Python functions")
    clearing = "with the Keras session cleared after each iteration"
    return leak(
        "test_closure",
        finding(
            functions,
            "py_functions",
            experiments=(Experiment(name=clearing, per_iteration=0.0),),
            advice="keras.utils.clear_session() releases it: call it after each "
            "iteration",
        ),
        signals=(functions,),
    )


def known_growth() -> Verdict:
    memory = heap(3_355_331, rows=55)
    entries = signal("tf.custom_gradients", ramp(2, rows=55), unit="registry entries")
    return dataclasses.replace(
        clean("test_fresh_model"),
        findings=(
            finding(entries, "custom_gradients", **REGISTRY),
            finding(memory, "host_per_iteration", **REGISTRY),
        ),
    )


def out_of_time() -> Verdict:
    return other(
        "test_slow",
        Status.INCONCLUSIVE,
        Reason.OUT_OF_TIME,
        detail="host.heap grows, but max_time left no time to confirm it",
        iterations=12,
        seconds=300.2,
        body_seconds=299.0,
        signals=(heap(9_000, rows=17),),
    )


def unsupported() -> Verdict:
    return other(
        "TestNet::test_forward",
        Status.NOT_MEASURED,
        Reason.UNSUPPORTED,
        detail="an async test cannot be repeated yet",
        iterations=0,
        warmup=0,
    )


def clean(name: str = "test_predict", step: float = 1_230) -> Verdict:
    return other(
        name,
        Status.CLEAN,
        None,
        signals=(
            heap(step, rows=55),
            signal("tf.tensors", (7,) * 55),
            signal("host.rss", ramp(4_096, 10**9, 55), None, unit="B"),
            signal(
                "gpu.allocator[GPU:0]", unit="B", reason="no GPU", status="unavailable"
            ),
        ),
    )


def whole_run() -> Ledger:
    ledger = Ledger()
    for verdict in (
        clean(),
        other(
            "test_legacy",
            Status.NOT_MEASURED,
            Reason.DISABLED,
            detail="issue 12",
            iterations=0,
        ),
        native_heap(),
        unsupported(),
        out_of_time(),
        clean("test_pure_python", 0),
        other(
            "test_broken",
            Status.NOT_MEASURED,
            Reason.BODY_FAILED,
            detail="the test ended with ValueError in iteration 13",
            iterations=7,
        ),
        open_session(),
        kept_tensor(),
    ):
        ledger.add(verdict)
    return ledger


def clean_run() -> Ledger:
    ledger = Ledger()
    for number in range(12):
        ledger.add(clean(f"test_{number}"))
    return ledger


def run_with_known_growth() -> Ledger:
    ledger = Ledger()
    for verdict in (clean(), known_growth(), clean("test_evaluate")):
        ledger.add(verdict)
    return ledger


def run_with_a_shared_leak() -> Ledger:
    """Return a run in which one list keeps a tensor for each call of 14 tests."""
    held = path_to(
        "tensorflow.python.framework.ops.EagerTensor", at="app.cache.HISTORY"
    )
    line = Origin(file="app/cache.py", line=12, function="remember", text="")
    ledger = Ledger()
    for number in range(14):
        verdict = kept_tensor()
        findings = tuple(
            dataclasses.replace(one, path=held, origin=line, fingerprint="2:1f")
            for one in verdict.findings
        )
        name = f"tests/test_model.py::test_history[{number}]"
        ledger.add(dataclasses.replace(verdict, nodeid=name, findings=findings))
    ledger.add(open_session())
    ledger.add(native_heap())
    ledger.add(clean())
    return ledger


PROBES = [
    ("host", None),
    ("python", None),
    ("tensorflow", "not imported yet"),
    ("nvml", "no NVIDIA driver"),
]
MESSAGES = (
    kept_tensor,
    kept_session,
    open_session,
    two_lists,
    two_kinds,
    native_heap,
    over_total,
    every_fifth,
    at_the_allowance,
    third_party,
    kernel_cache,
    beside_known_growth,
    released_by_clearing,
    known_growth,
    out_of_time,
    unsupported,
    clean,
)


def _message(make: Callable[[], Verdict], unicode: bool) -> str:
    return failure_text(make(), 80, unicode)


def _summary(make: Callable[[], Ledger], verbosity: int, unicode: bool) -> str:
    lines = summary_lines(make(), verbosity, 80, unicode)
    return "\n".join(line.text for line in lines)


GOLD: dict[str, Callable[[bool], str]] = {}
for _make in MESSAGES:
    GOLD[f"message_{_make.__name__}"] = partial(_message, _make)
GOLD["headlines"] = lambda u: "\n".join(headline(make()) for make in MESSAGES)
GOLD["header"] = lambda u: "\n".join(header_lines(PROBES))
for _name, _verbosity in (("quiet", -1), ("default", 0), ("verbose", 1), ("full", 2)):
    GOLD[f"summary_{_name}"] = partial(_summary, whole_run, _verbosity)
GOLD["summary_clean"] = partial(_summary, clean_run, 0)
for _name, _verbosity in (("quiet", -1), ("default", 0), ("verbose", 1)):
    GOLD[f"summary_shared_{_name}"] = partial(
        _summary, run_with_a_shared_leak, _verbosity
    )
GOLD["summary_known"] = partial(_summary, run_with_known_growth, 0)
GOLD["summary_known_verbose"] = partial(_summary, run_with_known_growth, 1)


@pytest.mark.parametrize("encoding", ["utf8", "ascii"])
@pytest.mark.parametrize("name", GOLD)
def test_matches_the_gold_file(name: str, encoding: str) -> None:
    text = GOLD[name](encoding == "utf8") + "\n"
    path = HERE / f"{name}.{encoding}.txt"
    assert text == expected_text(path, text)
    if encoding == "ascii":
        assert text.isascii()


@pytest.mark.parametrize("make", MESSAGES)
def test_the_figures_of_a_gold_message_agree(make: Callable[[], Verdict]) -> None:
    assert contradictions(failure_text(make())) == []


def test_every_gold_file_has_its_message() -> None:
    names = {path.name for path in HERE.glob("*.txt")}
    assert names == {
        f"{name}.{code}.txt" for name in GOLD for code in ("utf8", "ascii")
    }
