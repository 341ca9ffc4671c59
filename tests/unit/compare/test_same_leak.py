"""Whether two findings are the same leak, and whether one is clearly worse."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.compare.same_leak import Entry
from pytest_tfleak.compare.same_leak import change_of
from pytest_tfleak.compare.same_leak import change_text
from pytest_tfleak.compare.same_leak import entry_of
from pytest_tfleak.compare.same_leak import find_same
from pytest_tfleak.compare.same_leak import growth_text
from pytest_tfleak.compare.same_leak import largest
from tests.builders import make_finding

KIB = 1024


def rate(value: float, unit: str = "tensors", **more: object) -> Entry:
    fields = {"nodeid": "t.py::t", "signal": "s", "total": 0.0, "unit": unit}
    return Entry(**(fields | {"per_iteration": value} | more))  # type: ignore[arg-type]


def left(value: float, **more: object) -> Entry:
    return replace(rate(0, "sessions", **more), per_iteration=None, total=value)


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (rate(1), rate(1), "same"),
        (rate(1), rate(1.04), "same"),
        (rate(1), rate(1.2), "worse"),
        (rate(1), rate(2), "worse"),
        (rate(2), rate(1), "better"),
        (rate(0.2), rate(0.205), "same"),
        (rate(0.2), rate(0.25), "worse"),
        (rate(1 / 3), rate(0.33), "same"),
        (rate(100), rate(100.4), "same"),
        (rate(100), rate(101), "worse"),
        (rate(12 * KIB, "B", allowance=6 * KIB), rate(14.9 * KIB, "B"), "same"),
        (rate(12 * KIB, "B"), rate(14.9 * KIB, "B"), "same"),
        (rate(12 * KIB, "B", allowance=6 * KIB), rate(18.1 * KIB, "B"), "worse"),
        (rate(12 * KIB, "B"), rate(18 * KIB, "B", allowance=6 * KIB), "same"),
        (rate(900 * KIB, "B"), rate(1100 * KIB, "B"), "same"),
        (rate(900 * KIB, "B"), rate(1200 * KIB, "B"), "worse"),
        (rate(1200 * KIB, "B"), rate(900 * KIB, "B"), "better"),
        (rate(70, "blocks", allowance=64), rate(130, "blocks", allowance=64), "same"),
        (rate(70, "blocks", allowance=64), rate(140, "blocks", allowance=64), "worse"),
        (left(1), left(1), "same"),
        (left(1), left(2), "worse"),
        (left(2), left(1), "better"),
        (left(50), rate(0.1), "worse"),
        (rate(0.1), left(50), "better"),
    ],
)
def test_growth_is_worse_only_beyond_its_margin(
    before: Entry, now: Entry, change: str
) -> None:
    assert change_of(before, now) == change


entries = st.builds(
    rate,
    st.floats(0, 1e12),
    st.sampled_from(["B", "blocks", "tensors"]),
    allowance=st.floats(0, 1e5),
)


@given(entries, entries)
def test_better_is_worse_the_other_way_round(one: Entry, other: Entry) -> None:
    other = replace(other, unit=one.unit)
    opposite = {"worse": "better", "same": "same", "better": "worse"}
    assert change_of(other, one) == opposite[change_of(one, other)]


@given(entries)
def test_nothing_is_worse_than_itself(entry: Entry) -> None:
    assert change_of(entry, entry) == "same"


def test_noise_of_a_tenth_is_no_change() -> None:
    noise = random.Random(7)
    for _ in range(1000):
        heap = rate(40 * KIB * noise.uniform(0.95, 1.05), "B")
        again = rate(40 * KIB * noise.uniform(0.95, 1.05), "B")
        assert change_of(heap, again) == "same"


@pytest.mark.parametrize(
    ("recorded", "found", "is_same"),
    [
        ({}, {}, True),
        ({"fingerprint": "a"}, {"fingerprint": "a"}, True),
        ({"fingerprint": "a"}, {"fingerprint": "b"}, False),
        ({"fingerprint": "a", "kind": "X"}, {"fingerprint": "a", "kind": "Y"}, True),
        ({"kind": "X"}, {"kind": "X"}, True),
        ({"kind": "X"}, {"kind": "Y"}, False),
        ({"kind": "X"}, {}, True),
        ({"fingerprint": "a", "kind": "X"}, {"kind": "X"}, True),
        ({"kind": "X"}, {"fingerprint": "a", "kind": "X"}, True),
        ({"fingerprint": "a", "kind": "X"}, {"kind": "Y"}, False),
        ({"fingerprint": "a"}, {}, True),
        ({"fingerprint": "a"}, {"fingerprint": "2:a"}, True),
        ({"fingerprint": "2:a"}, {"fingerprint": "2:b"}, False),
        (
            {"fingerprint": "1:a", "kind": "X"},
            {"fingerprint": "2:b", "kind": "X"},
            True,
        ),
        (
            {"fingerprint": "1:a", "kind": "X"},
            {"fingerprint": "2:a", "kind": "Y"},
            False,
        ),
        ({"kind": "X", "unit": "B"}, {"kind": "Y", "unit": "B"}, True),
        ({"signal": "other"}, {}, False),
        ({"nodeid": "t.py::other"}, {}, False),
    ],
)
def test_a_leak_is_recognised_by_its_fingerprint_or_else_by_its_kind(
    recorded: dict[str, object], found: dict[str, object], is_same: bool
) -> None:
    before, now = rate(1, **recorded), rate(1, **found)  # type: ignore[arg-type]
    assert find_same(now, [before]) == (before if is_same else None)


def test_of_several_that_may_be_the_same_the_fingerprint_decides() -> None:
    one, other = rate(1, fingerprint="a"), rate(5, fingerprint="b")
    assert find_same(rate(1, fingerprint="a"), [other, one]) is one
    assert find_same(rate(1), [one, other]) is other


def test_of_duplicates_the_largest_is_kept() -> None:
    both = [rate(1), rate(3), rate(2), left(9), rate(1, fingerprint="a")]
    assert largest(both) == [rate(3), rate(1, fingerprint="a")]
    assert largest(reversed(both)) == largest(both)


def test_a_total_allows_no_rate() -> None:
    finding = make_finding("host.heap", 3000.0, allowance=100_000, allow="host_total")
    assert entry_of("t", finding).allowance == 0
    assert entry_of("t", replace(finding, allow="host")).allowance == 100_000


def test_names_are_as_reports_hold_them() -> None:
    finding = make_finding("x\ud800", kind="K\ud800", fingerprint="f\ud800")
    entry = entry_of("t\udc80", finding)
    texts = (entry.nodeid, entry.signal, entry.kind, entry.fingerprint)
    assert texts == ("t\\udc80", "x\\ud800", "K\\ud800", "f\\ud800")


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (rate(1), rate(2), "s +1 -> +2 per iteration"),
        (rate(1, kind="a.b.C"), rate(2, kind="a.b.C"), "s +1 -> +2 per iteration (C)"),
        (
            rate(65_000.0, "B"),
            rate(65_010.0, "B"),
            "s +65,000 B -> +65,010 B per iteration",
        ),
        (left(1), left(2), "s 1 left -> 2 left"),
        (left(1), rate(2), "s 1 left -> +2 per iteration"),
        (rate(0), rate(2), "s 0 -> +2 per iteration"),
    ],
)
def test_figures_that_differ_look_different(
    before: Entry, now: Entry, text: str
) -> None:
    assert change_text(before, now) == text


def test_growth_says_what_grows() -> None:
    assert growth_text(rate(2048.0, "B")) == "s +2 KiB per iteration"
    assert growth_text(left(1, kind="tf.Session")) == "s 1 left (Session)"
