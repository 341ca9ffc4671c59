"""Each finding gets what explains it: holder, line, native functions, types."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pytest_tfleak.diagnosis.diagnose import Insights
from pytest_tfleak.diagnosis.findings import describe_growth
from pytest_tfleak.diagnosis.findings import describe_leftovers
from pytest_tfleak.diagnosis.findings import explain_findings
from pytest_tfleak.diagnosis.native.memray_run import NativeReport
from pytest_tfleak.diagnosis.native.memray_run import NativeSite
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.structure import Observed
from pytest_tfleak.reports.held_by import edges_of
from pytest_tfleak.reports.message import explained_part
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from tests.builders import NOBODY
from tests.builders import make_finding
from tests.builders import make_group
from tests.builders import make_part
from tests.builders import path_to

GRAPH = RetainingPath(root=Root(kind="graph", size=12))


def line(number: int) -> Origin:
    return Origin(file="/app/app.py", line=number, function="f", text="x = f()")


def group(
    name: str, made_at: int | None, counts: dict[str, float], heap: float = 100.0
) -> Group:
    origin = None if made_at is None else line(made_at)
    path = path_to(at=f"app.{name}", size=5)
    parts = {
        signal: make_part(
            path,
            f"lib.{signal or 'Thing'}",
            f"{rate:g} things",
            rate,
            origin=origin,
            stack=(line(99),),
        )
        for signal, rate in {"": sum(counts.values()), **counts}.items()
    }
    return make_group(path, parts, heap)


def lost(kept: Group) -> Group:
    """Return a group as if no Python object held it."""
    parts = {s: replace(part, path=NOBODY) for s, part in kept.parts.items()}
    return replace(kept, path=NOBODY, parts=parts)


def of_type(kept: Group, kind: str) -> Group:
    """Return a group of objects of another type."""
    parts = {**kept.parts, "": replace(kept.whole, kind=kind)}
    return replace(kept, parts=parts)


def edges(finding: Finding) -> tuple[str, ...]:
    return () if finding.path is None else edges_of(finding.path)


def test_a_finding_gets_holder_line_and_fingerprint() -> None:
    insights = Insights(groups=[group("A", 3, {"tf.tensors": 1})], is_complete=True)

    (explained,) = explain_findings([make_finding("tf.tensors", 1)], insights)

    assert edges(explained) == ("app.A (list of 5)", "Thing")
    assert (explained.origin, explained.stack) == (line(3), (line(99),))
    assert explained.kind == "lib.tf.tensors"
    assert explained.fingerprint is not None and re.fullmatch(
        "2:[0-9a-f]{12}", explained.fingerprint
    )


def test_all_signals_of_one_mistake_have_one_fingerprint() -> None:
    insights = Insights(
        groups=[group("A", 3, {"tf.tensors": 2, "tf.variables": 1})], is_complete=True
    )
    findings = [
        make_finding("tf.tensors", 2),
        make_finding("tf.variables", 1),
        make_finding("host.heap", 120.0),
        make_finding("python.blocks", 70),
    ]

    explained = explain_findings(findings, insights)

    assert len({f.fingerprint for f in explained}) == 1
    assert {f.origin for f in explained} == {line(3)}


def test_two_mistakes_on_one_signal_are_two_findings() -> None:
    groups = [group("A", 3, {"tf.tensors": 2}), group("B", 4, {"tf.tensors": 1})]

    explained = explain_findings(
        [make_finding("tf.tensors", 3)], Insights(groups=groups, is_complete=True)
    )

    assert [(f.per_iteration, f.origin) for f in explained] == [
        (2, line(3)),
        (1, line(4)),
    ]
    assert len({f.fingerprint for f in explained}) == 2


def test_what_one_line_makes_is_one_finding_wherever_it_is_held() -> None:
    groups = [group("A", 3, {"tf.tensors": 1}), group("B", 3, {"tf.tensors": 1})]

    explained = explain_findings(
        [make_finding("tf.tensors", 2)], Insights(groups=groups, is_complete=True)
    )

    assert len(explained) == 1


@pytest.mark.parametrize("unit", ["handles", "B", "blocks", "objects"])
def test_a_number_that_a_user_counts_is_not_explained_by_what_others_keep(
    unit: str,
) -> None:
    own = make_finding("app.handles", 1.0, unit=unit, kind="cell", what="1 cell")
    library = group("CACHE", 3, {"": 1}, heap=1.0)
    library = replace(library, path=path_to(at="lib.CACHE", is_library=True))
    native = lost(group("A", 3, {"tf.tensors": 1}, heap=1.0))
    site = NativeSite(
        frames=("malloc",),
        origin=None,
        python=(),
        bytes_per_iteration=1.0,
        allocations_per_iteration=1.0,
        python_memory=False,
    )
    insights = Insights(
        groups=[native, library], native=NativeReport(sites=(site,)), is_complete=True
    )
    others = [make_finding("tf.tensors", 1.0), make_finding("host.heap", 100.0)]

    explained, *_ = explain_findings([own, *others], insights)

    assert explained.signal == "app.handles"
    assert (explained.kind, explained.what) == (None, None)
    assert (explained.path, explained.native) == (None, None)
    assert (explained.cause, explained.why, explained.advice) == (None, None, None)


def test_a_number_that_a_user_counts_belongs_to_what_user_code_keeps() -> None:
    own = make_finding("app.handles", 1.0, unit="handles")
    lists = [lost(group("B", 4, {"": 9})), group("A", 3, {"": 1})]

    (explained,) = explain_findings([own], Insights(groups=lists, is_complete=True))

    assert edges(explained) == ("app.A (list of 5)", "Thing")
    assert explained.cause is not None


def test_what_a_users_probe_watches_explains_its_signal_whoever_holds_it() -> None:
    own = make_finding("app.handles", 1.0, unit="handles")
    watched = lost(group("A", 3, {"app.handles": 1}))

    (explained,) = explain_findings([own], Insights(groups=[watched], is_complete=True))

    assert explained.origin == line(3)


def test_memory_is_attributed_to_the_largest_group() -> None:
    groups = [
        group("SMALL", 3, {"x": 1}, heap=500.0),
        group("LARGE", 4, {"x": 1}, heap=9_000.0),
    ]

    (explained,) = explain_findings(
        [make_finding("host.heap", 10_000.0)], Insights(groups=groups, is_complete=True)
    )

    assert explained.origin == line(4)
    assert explained.python_bytes == 9_000.0


def test_memory_beside_operations_belongs_to_them() -> None:
    seen = Observed(what="3 Const", path=GRAPH, place=("g",), origin=line(7))
    insights = Insights(observed={"tf.default_graph.ops": seen}, is_complete=True)

    ops, heap = explain_findings(
        [make_finding("tf.default_graph.ops", 3), make_finding("host.heap", 9_000.0)],
        insights,
    )

    assert ops.origin == heap.origin == line(7)
    assert ops.fingerprint == heap.fingerprint
    assert (ops.what, ops.path) == ("3 Const", GRAPH)


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

    (explained,) = explain_findings(
        [make_finding("host.heap", 9_500.0, what="2 list")], insights
    )

    assert explained.native == ("Inner", "Outer")
    assert (explained.origin, explained.stack) == (line(8), (line(9),))
    assert explained.what is None  # types that do not grow steadily explain nothing


def test_native_memory_of_the_line_that_makes_an_object_is_that_of_the_object() -> None:
    made, stored = line(8), line(9)
    site = NativeSite(
        frames=("Inner", "Outer"),
        origin=made,
        python=(),
        bytes_per_iteration=9_000.0,
        allocations_per_iteration=1.0,
        python_memory=False,
    )
    kept = group("CONNECTIONS", 8, {"x": 1}, heap=0.0)
    kept = replace(kept, stored=stored)
    found = [make_finding("host.heap", 9_500.0)]

    (explained,) = explain_findings(
        found,
        Insights(groups=[kept], native=NativeReport(sites=(site,)), is_complete=True),
    )
    assert (explained.origin, explained.stored) == (made, stored)
    assert explained.python_bytes == explained.per_iteration
    assert explained_part(explained) == ""

    elsewhere = NativeReport(sites=(replace(site, origin=line(7)),))
    (explained,) = explain_findings(
        found, Insights(groups=[kept], native=elsewhere, is_complete=True)
    )
    assert (explained.origin, explained.stored) == (line(7), None)
    assert "0 B of 9.3 KiB" in explained_part(explained)


def test_data_that_is_far_too_little_does_not_explain_memory() -> None:
    history = of_type(group("HISTORY", 3, {"x": 1}, heap=0.0), "builtins.list")
    history = replace(history, members={"builtins.list": 1.0})
    insights = Insights(groups=[history], is_complete=True)

    (large,) = explain_findings([make_finding("host.heap", 120_000.0)], insights)
    (small,) = explain_findings([make_finding("host.heap", 2_000.0)], insights)

    assert large.path is None
    assert small.path == history.path


def test_accepted_known_growth_gets_no_holder() -> None:
    insights = Insights(groups=[group("A", 3, {"tf.tensors": 1})], is_complete=True)
    known = make_finding(
        "tf.tensors", 1, known="custom-gradient-registry", accepted=True
    )

    (explained,) = explain_findings([known], insights)

    assert explained.path is None
    assert explained.cause == "custom-gradient-registry"
    assert explained.fingerprint is not None


def test_descriptors_belong_to_what_is_kept_whatever_its_type() -> None:
    seen = {"process.fds": Observed(what="1 per iteration: /data/x.bin")}
    kept = group("READERS", 3, {"": 1})
    insights = Insights(groups=[kept], observed=seen, is_complete=True)

    (explained,) = explain_findings([make_finding("process.fds", 1.0)], insights)

    assert explained.what == "1 per iteration: /data/x.bin"
    assert edges(explained) == ("app.READERS (list of 5)", "Thing")
    assert explained.origin == line(3)


def test_descriptors_belong_to_what_is_made_in_the_same_call() -> None:
    groups = [group("OTHERS", 2, {"": 1}), group("READERS", 3, {"": 1})]
    insights = Insights(groups=groups, is_complete=True)
    insights.lines = {"process.fds": (line(8), (line(3), line(1)))}

    (explained,) = explain_findings([make_finding("process.fds", 1.0)], insights)

    assert edges(explained) == ("app.READERS (list of 5)", "Thing")

    insights.lines = {"process.fds": (line(8), (line(1),))}
    (explained,) = explain_findings([make_finding("process.fds", 1.0)], insights)

    assert explained.path is None
    assert explained.origin == line(8)


def test_descriptors_do_not_belong_to_objects_that_native_code_holds() -> None:
    seen = {"process.fds": Observed(what="1 per iteration: /data/x.bin")}
    loose = lost(group("nobody", 3, {"": 1}))
    insights = Insights(
        groups=[loose],
        observed=seen,
        lines={"process.fds": (line(8), ())},
        is_complete=True,
    )

    (explained,) = explain_findings([make_finding("process.fds", 1.0)], insights)

    assert explained.what == "1 per iteration: /data/x.bin"
    assert explained.path is None
    assert explained.origin == line(8)
    assert not insights.has_line(make_finding("process.fds"))
    assert insights.has_line(make_finding("host.heap"))


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

    explained = explain_findings(
        [make_finding("tf.tensors", 1.0), make_finding("host.heap", 10_000.0)], insights
    )

    assert [one.origin for one in explained] == [line(7), line(7)]


def test_objects_held_by_c_belong_to_the_only_kept_object_of_the_library() -> None:
    held = lost(group("nobody", 3, {"tf.tensors": 5}))
    tape = of_type(group("TAPES", 2, {"": 1}), "tensorflow.python.GradientTape")
    tape = replace(tape, stored=line(4))
    found = [make_finding("tf.tensors", 5.0)]

    (explained,) = explain_findings(
        found, Insights(groups=[held, tape], is_complete=True)
    )
    assert edges(explained) == ("app.TAPES (list of 5)", "Thing", "its C++ part")
    assert explained.stored == line(4)

    others = [held, tape, replace(tape, path=path_to(at="app.MORE"))]
    (explained,) = explain_findings(found, Insights(groups=others, is_complete=True))
    assert explained.path == NOBODY  # it is unknown which of them holds it


def test_objects_that_are_still_there_are_found() -> None:
    insights = Insights(groups=[group("SESSION", 3, {"tf.sessions": 0})])

    (explained,) = explain_findings([make_finding("tf.sessions", None)], insights)

    assert edges(explained) == ("app.SESSION (list of 5)", "Thing")
    assert explained.per_iteration is None


def test_a_finding_without_an_explanation_has_a_fingerprint() -> None:
    one, two = explain_findings(
        [make_finding("host.heap", 9.0), make_finding("tf.graphs", 1)], Insights()
    )

    assert one.fingerprint != two.fingerprint
    assert one.path is None and one.origin is None


def signal_of(name: str) -> str | None:
    return {"tf.Tensor": "tf.tensors", "tf.Session": "tf.sessions"}.get(name)


def test_the_type_that_the_signal_counts_is_named() -> None:
    survivors = {"tf.Tensor": 100, "builtins.dict": 300, "app.Model": 100}
    kind, what = describe_growth(make_finding("tf.tensors"), survivors, signal_of, 100)
    assert (kind, what) == ("Tensor", "1 Tensor per iteration")


def test_a_type_of_a_library_does_not_explain_what_a_user_counts() -> None:
    own = make_finding("app.handles", 1.0, unit="handles")
    assert describe_growth(own, {"lib.Thing": 10}, signal_of, 10) == (None, None)


def test_memory_names_what_grew_with_plain_types_last() -> None:
    survivors = {"builtins.dict": 300, "app.Model": 200, "tf.Tensor": 100}
    kind, what = describe_growth(make_finding("host.heap"), survivors, signal_of, 100)
    assert (kind, what) == ("Tensor", "1 Tensor, 2 Model, 3 dict per iteration")


def test_what_one_of_ten_iterations_leaves_is_shown() -> None:
    _, what = describe_growth(
        make_finding("tf.tensors", 0.1), {"tf.Tensor": 10}, signal_of, 100
    )
    assert what == "0.1 Tensor per iteration"


def test_what_came_with_one_call_and_what_is_ours_is_left_out() -> None:
    survivors = {
        "app.Model": 100,
        "app.Config": 20,
        "app.Once": 1,
        "pytest_tfleak.trace.Signal": 100,
    }
    _, what = describe_growth(make_finding("host.heap"), survivors, signal_of, 100)
    assert what == "1 Model per iteration"


def test_a_single_object_of_a_counted_type_explains_no_memory() -> None:
    survivors = {"tf.Tensor": 1, "app.Model": 6}
    found = describe_growth(make_finding("host.heap"), survivors, signal_of, 6)
    assert found == ("Model", "1 Model per iteration")


@pytest.mark.parametrize(
    ("count", "words"),
    [(106, "1 list per iteration"), (130, "1.3 list per iteration")],
    ids=["beside those of running functions", "more"],
)
def test_a_few_plain_objects_that_came_once_are_left_out(
    count: int, words: str
) -> None:
    _, what = describe_growth(
        make_finding("host.heap"), {"builtins.list": count}, signal_of, 100
    )
    assert what == words


def test_plain_types_explain_memory_but_do_not_lead() -> None:
    survivors = {"builtins.dict": 100, "builtins.list": 200}
    blocks = replace(make_finding("python.blocks"), unit="blocks")
    wanted = (None, "2 list, 1 dict per iteration")
    assert describe_growth(blocks, survivors, signal_of, 100) == wanted
    operations = replace(make_finding("tf.graphs.ops"), unit="operations")
    assert describe_growth(operations, survivors, signal_of, 100) == (None, None)


def test_nothing_is_said_where_no_object_grew() -> None:
    assert describe_growth(
        make_finding("host.heap"), {"app.Once": 1}, signal_of, 100
    ) == (
        None,
        None,
    )
    assert describe_leftovers({}) == (None, None)


def test_what_is_still_there_is_named() -> None:
    left = {"tf.Graph": 1, "tf.Session": 2}
    assert describe_leftovers(left) == ("Session", "2 Session, 1 Graph")


def test_parts_of_a_signal_add_up_to_the_whole() -> None:
    """The last iteration of the diagnosis may count in part."""
    groups = [
        replace(group("A", 3, {"tf.tensors": 1.9}), path=path_to(at="app.A")),
        replace(group("B", 7, {"tf.tensors": 1}), path=path_to(at="app.B")),
    ]
    whole = make_finding("tf.tensors", 3.0, total=297)

    parts = explain_findings([whole], Insights(groups=groups, is_complete=True))

    assert [(part.per_iteration, part.total) for part in parts] == [(2, 198), (1, 99)]
    odd = explain_findings(
        [replace(whole, per_iteration=2.5, total=248)],
        Insights(groups=groups, is_complete=True),
    )
    assert sum(part.total for part in odd) == 248


def test_one_line_that_makes_objects_for_two_lists_is_two_findings() -> None:
    groups = [
        replace(group(name, 3, {"tf.tensors": 1}), stored=line(number))
        for name, number in (("A", 10), ("B", 11))
    ]
    parts = explain_findings(
        [make_finding("tf.tensors", 2.0)], Insights(groups=groups, is_complete=True)
    )
    assert [part.stored for part in parts] == [line(10), line(11)]


def test_memory_belongs_to_the_most_important_objects() -> None:
    sessions = group("SESSIONS", 3, {"tf.sessions": 1})
    files = group("FILES", 7, {"process.fds": 1})
    heap = make_finding("host.heap", 100_000.0, unit="B")
    found = explain_findings(
        [make_finding("process.fds", 1.0), make_finding("tf.sessions", 1.0), heap],
        Insights(groups=[sessions, files], is_complete=True),
    )
    assert edges(found[-1])[0].startswith("app.SESSIONS")


def test_the_object_of_user_code_is_named_before_what_it_brings() -> None:
    kept = group("RUNS", 3, {"keras.layers": 4})
    inner = replace(kept.parts["keras.layers"], what="4 Dense per iteration")
    inner = replace(inner, path=path_to("lib.Dense", at="app.RUNS"))
    whole = replace(kept.whole, what="1 History per iteration")
    kept = replace(kept, parts={"": whole, "keras.layers": inner})
    (found,) = explain_findings(
        [make_finding("keras.layers", 4.0)], Insights(groups=[kept], is_complete=True)
    )
    assert found.what == "1 History with 4 Dense per iteration"
