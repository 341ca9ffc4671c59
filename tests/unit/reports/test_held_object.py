"""Words for objects; names that differ by a number are merged."""

from __future__ import annotations

import pytest

from pytest_tfleak.object_facts import CLOSED
from pytest_tfleak.object_facts import OPEN
from pytest_tfleak.object_facts import OPERATIONS
from pytest_tfleak.object_facts import ObjectFacts
from pytest_tfleak.object_facts import fold_name
from pytest_tfleak.object_facts import fold_names
from pytest_tfleak.object_facts import rates_of
from pytest_tfleak.reports.held_object import clip
from pytest_tfleak.reports.held_object import words_of
from pytest_tfleak.reports.held_object import words_of_group
from pytest_tfleak.reports.held_object import words_of_rates
from pytest_tfleak.retaining_path import Array


def tensor(dtype: str, shape: tuple[int, ...], size: int) -> ObjectFacts:
    array = Array(type="EagerTensor", dtype=dtype, shape=shape)
    dims = tuple(map(str, shape))
    return ObjectFacts(type="EagerTensor", array=array, dims=dims, size=size)


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("/dev/shm/psm_3aa8b863", "/dev/shm/psm_*"),
        ("/srv/run-0f1e2d3c4b5a/log", "/srv/run-*/log"),
        ("3aa8b863.ckpt", "*.ckpt"),
        ("/srv/deadbeef/x", "/srv/deadbeef/x"),  # a word
        ("/srv/facade12x", "/srv/facade*x"),
    ],
)
def test_a_hash_is_what_may_differ(name: str, folded: str) -> None:
    assert fold_name(name) == folded


def test_segments_of_shared_memory_are_one_name() -> None:
    names = ["/dev/shm/psm_3aa8b863", "/dev/shm/psm_4e4fcfbf", "/dev/shm/psm_00000000"]
    assert fold_names(names) == {"/dev/shm/psm_*": 3}


def test_a_star_in_a_name_is_no_number() -> None:
    assert fold_names(["a*b", "a1b"]) == {"a*b": 1, "a1b": 1}


def test_like_objects_are_one_group() -> None:
    same = tensor("float32", (128, 128), 65536)
    words = "EagerTensor float32[128,128] (64 KiB"
    assert words_of_group([same] * 9, 1) == f"1 {words}) per iteration"
    assert words_of_group([same] * 9, 2) == f"2 {words} each) per iteration"
    assert words_of_group([same], None) == f"1 {words})"


def test_objects_of_many_shapes_are_shown_by_examples() -> None:
    mixed = [tensor("float32", (n,), 4 * n) for n in range(64, 69)]
    assert words_of_group(mixed, 1) == (
        "1 EagerTensor per iteration (264 B): float32[64], float32[65], float32[66], …"
    )
    small = tensor("int32", (), 4)
    shown = words_of_group([small, *mixed], 1)
    assert shown.index("float32[64]") < shown.index("…")
    assert "int32[]" not in shown


def test_names_that_differ_by_a_number_are_one() -> None:
    kernels = [ObjectFacts(type="Variable", name=f"k{n}/v:0") for n in range(5)]
    assert words_of_group(kernels, 1) == "1 Variable 'k*/v:0' per iteration"
    names = [f"/tmp/run-{n}/events.out.tfevents.17{n}.host.{n}.v2" for n in range(3)]
    assert fold_names(names) == {"/tmp/run-*/events.out.tfevents.*": 3}
    assert fold_names(["/srv/a1.db", "/srv/a1.db"]) == {"/srv/a1.db": 2}
    made = ["/tmp/tmpab12cd_x/f", "/tmp/tmpqqwwee_y/f"]
    assert fold_names(made) == {"/tmp/tmp*/f": 2}


def test_each_kind_of_object_has_its_share() -> None:
    session = ObjectFacts(type="Session", states=(OPEN,))
    graph = ObjectFacts(type="Graph", length=12, counts=OPERATIONS)
    words = words_of_group([session, session, graph, graph], 2)
    assert words == "1 Session (open), 1 Graph of 12 operations per iteration"
    words = words_of_group([session, graph], None)
    assert words == "1 Session (open), 1 Graph of 12 operations"


def test_a_long_name_is_cut_in_the_middle_and_shows_no_control_codes() -> None:
    short = clip("a" * 100 + "/log.txt\x1b[31m")
    assert len(short) == 64
    assert short.endswith("log.txt?[31m")
    assert "…" in short


def test_what_came_with_one_call_is_not_called_growth() -> None:
    made = {"Const": 40, "Mul": 10, "Pack": 8, "Rank": 5, "Once": 1}
    rates = rates_of(made, 12)
    assert "Once" not in rates
    assert words_of_rates(rates) == "3.33 Const, 0.83 Mul, 0.67 Pack, … per iteration"
    assert words_of_rates({"Const": 1.0}) == "1 Const per iteration"


def test_counts_are_listed_with_the_first_three() -> None:
    parts = (("Const", 1_200), ("Mul", 4), ("Pack", 3), ("Rank", 2))
    graph = ObjectFacts(type="Graph", length=1, counts=OPERATIONS, parts=parts[:2])
    assert words_of(graph) == "Graph of 1 operation: 1,200 Const, 4 Mul"
    graph = ObjectFacts(type="Graph", length=1_209, counts=OPERATIONS, parts=parts)
    words = "Graph of 1,209 operations: 1,200 Const, 4 Mul, 3 Pack, …"
    assert words_of(graph) == words


def test_words_come_in_one_order() -> None:
    known = ObjectFacts(
        type="Thing", name="a", length=2, file="app.py", line=3, states=(CLOSED,)
    )
    assert words_of(known) == "Thing 'a' of 2 at app.py:3 (closed)"
