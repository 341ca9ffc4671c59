from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.group import Part
from pytest_tfleak.diagnosis.holders import NOBODY
from pytest_tfleak.diagnosis.inquiry import Insights
from pytest_tfleak.diagnosis.native import NativeReport
from pytest_tfleak.diagnosis.native import NativeSite
from pytest_tfleak.diagnosis.survey import Observed
from pytest_tfleak.diagnosis.telling import tell
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin


def line(number: int) -> Origin:
    return Origin(file="/app/app.py", line=number, function="f", text="x = f()")


def finding(signal: str, rate: float | None, **more: Any) -> Finding:
    unit = "B" if signal.startswith(("host.", "gpu.")) else "objects of a kind"
    fields: dict[str, Any] = {
        "signal": signal,
        "unit": "blocks" if signal == "python.blocks" else unit,
        "per_iteration": rate,
        "total": round(50 * (rate or 1)),
        "allowance": 0.0,
        "first": 1,
        "last": 50,
        "allow": "",
    }
    return Finding(**{**fields, **more})


def group(
    name: str, made_at: int | None, counts: dict[str, float], heap: float = 100.0
) -> Group:
    origin = None if made_at is None else line(made_at)
    made = Group(
        erased=f"app.{name} > Thing",
        clues=frozenset(),
        objects=sum(counts.values()),
        bytes=heap,
        members={"Thing": sum(counts.values())},
    )
    for signal, rate in {"": sum(counts.values()), **counts}.items():
        made.parts[signal] = Part(
            kind=f"lib.{signal or 'Thing'}",
            what=f"{rate:g} things",
            per_iteration=rate,
            edges=(f"app.{name} (list of 5)", "Thing"),
            origin=origin,
            stack=(line(99),),
        )
    return made


def test_a_finding_gets_holder_line_and_fingerprint() -> None:
    insights = Insights(groups=[group("A", 3, {"tf.tensors": 1})], is_complete=True)

    (told,) = tell([finding("tf.tensors", 1)], insights)

    assert told.holder == ("app.A (list of 5)", "Thing")
    assert (told.origin, told.stack) == (line(3), (line(99),))
    assert told.kind == "lib.tf.tensors"
    assert told.fingerprint is not None and len(told.fingerprint) == 12


def test_all_that_one_mistake_moves_has_one_fingerprint() -> None:
    insights = Insights(
        groups=[group("A", 3, {"tf.tensors": 2, "tf.variables": 1})], is_complete=True
    )
    findings = [
        finding("tf.tensors", 2),
        finding("tf.variables", 1),
        finding("host.heap", 120.0),
        finding("python.blocks", 70),
    ]

    told = tell(findings, insights)

    assert len({f.fingerprint for f in told}) == 1
    assert {f.origin for f in told} == {line(3)}


def test_two_mistakes_on_one_signal_are_two_findings() -> None:
    groups = [group("A", 3, {"tf.tensors": 2}), group("B", 4, {"tf.tensors": 1})]

    told = tell([finding("tf.tensors", 3)], Insights(groups=groups, is_complete=True))

    assert [(f.per_iteration, f.origin) for f in told] == [(2, line(3)), (1, line(4))]
    assert len({f.fingerprint for f in told}) == 2


def test_what_one_line_makes_is_one_finding_wherever_it_is_held() -> None:
    groups = [group("A", 3, {"tf.tensors": 1}), group("B", 3, {"tf.tensors": 1})]

    told = tell([finding("tf.tensors", 2)], Insights(groups=groups, is_complete=True))

    assert len(told) == 1


def test_memory_is_put_down_to_the_largest_group() -> None:
    groups = [
        group("SMALL", 3, {"x": 1}, heap=500.0),
        group("LARGE", 4, {"x": 1}, heap=9_000.0),
    ]

    (told,) = tell(
        [finding("host.heap", 10_000.0)], Insights(groups=groups, is_complete=True)
    )

    assert told.origin == line(4)
    assert told.python_bytes == 9_000.0


def test_memory_beside_operations_belongs_to_them() -> None:
    seen = Observed(what="3 Const", edges=("a graph",), erased="g", origin=line(7))
    insights = Insights(observed={"tf.default_graph.ops": seen}, is_complete=True)

    ops, heap = tell(
        [finding("tf.default_graph.ops", 3), finding("host.heap", 9_000.0)], insights
    )

    assert ops.origin == heap.origin == line(7)
    assert ops.fingerprint == heap.fingerprint
    assert (ops.what, ops.holder) == ("3 Const", ("a graph",))


def test_native_memory_gets_its_functions_and_its_line() -> None:
    site = NativeSite(
        frames=("Inner", "Outer"),
        origin=line(8),
        python=(line(9),),
        bytes_per_iteration=9_000.0,
        allocations_per_iteration=1.0,
        python_memory=False,
    )
    insights = Insights(native=NativeReport(sites=(site,)), is_complete=True)

    (told,) = tell([finding("host.heap", 9_500.0, what="2 list")], insights)

    assert told.native == ("Inner", "Outer")
    assert (told.origin, told.stack) == (line(8), (line(9),))
    assert told.what is None  # kinds that came once explain nothing


def test_known_growth_keeps_to_itself() -> None:
    insights = Insights(groups=[group("A", 3, {"tf.tensors": 1})], is_complete=True)
    known = finding("tf.tensors", 1, known="custom-gradient-registry", accepted=True)

    (told,) = tell([known], insights)

    assert told.holder is None
    assert told.cause == "custom-gradient-registry"
    assert told.fingerprint is not None


def test_descriptors_belong_to_what_is_kept_whatever_its_type() -> None:
    seen = {"process.fds": Observed(what="1 per iteration: /data/x.bin")}
    kept = group("READERS", 3, {"": 1})
    insights = Insights(groups=[kept], observed=seen, is_complete=True)

    (told,) = tell([finding("process.fds", 1.0)], insights)

    assert told.what == "1 per iteration: /data/x.bin"
    assert told.holder == ("app.READERS (list of 5)", "Thing")
    assert told.origin == line(3)


def test_findings_about_the_same_objects_share_a_line() -> None:
    site = NativeSite(
        frames=("Allocate",),
        origin=line(7),
        python=(),
        bytes_per_iteration=10_000.0,
        allocations_per_iteration=1.0,
        python_memory=False,
    )
    kept = group("A", None, {"tf.tensors": 1})
    insights = Insights(
        groups=[kept], native=NativeReport(sites=(site,)), is_complete=True
    )

    told = tell([finding("tf.tensors", 1.0), finding("host.heap", 10_000.0)], insights)

    assert [one.origin for one in told] == [line(7), line(7)]


def test_what_c_holds_belongs_to_the_one_thing_of_its_library_that_is_kept() -> None:
    held, tape = group("nobody", 3, {"tf.tensors": 5}), group("TAPES", 2, {"": 1})
    held.clues = frozenset({"native"})
    held.parts["tf.tensors"] = replace(held.parts["tf.tensors"], edges=(NOBODY,))
    tape.parts[""] = replace(tape.whole, kind="tensorflow.python.GradientTape")
    found = [finding("tf.tensors", 5.0)]

    (told,) = tell(found, Insights(groups=[held, tape], is_complete=True))
    assert told.holder == ("app.TAPES (list of 5)", "Thing", "its C++ part")

    others = [held, tape, replace(tape, erased="app.MORE > Thing")]
    (told,) = tell(found, Insights(groups=others, is_complete=True))
    assert told.holder == (NOBODY,)  # which of them, nobody knows


def test_objects_that_are_still_there_are_found() -> None:
    insights = Insights(groups=[group("SESSION", 3, {"tf.sessions": 0})])

    (told,) = tell([finding("tf.sessions", None)], insights)

    assert told.holder == ("app.SESSION (list of 5)", "Thing")
    assert told.per_iteration is None


def test_nothing_found_out_still_has_a_fingerprint() -> None:
    one, two = tell([finding("host.heap", 9.0), finding("tf.graphs", 1)], Insights())

    assert one.fingerprint != two.fingerprint
    assert one.holder is None and one.origin is None
