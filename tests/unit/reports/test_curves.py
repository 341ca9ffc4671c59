from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.reports.curves import HEIGHT
from pytest_tfleak.reports.curves import MOST_POINTS
from pytest_tfleak.reports.curves import TOP
from pytest_tfleak.reports.curves import WIDTH
from pytest_tfleak.reports.curves import Curve
from pytest_tfleak.reports.curves import describe
from pytest_tfleak.reports.curves import draw_large
from pytest_tfleak.reports.curves import draw_small

LEAK = Curve(
    name="tf.tensors",
    unit="tensors",
    series=range(1, 106),
    warmup=5,
    confirmation=50,
    allowance=0.0,
)
HEAP = Curve(name="host.heap", unit="B", series=range(0, 6_400, 64), allowance=128.0)
counts = st.integers(0, 20)
series = st.lists(st.none() | st.integers(-(2**50), 2**50), min_size=1, max_size=60)


def paths(svg: str) -> dict[str, str]:
    """Return the path of each class in a picture."""
    found = ET.fromstring(svg).iter("path")
    return {path.get("class", ""): path.get("d", "") for path in found}


def points(path: str) -> list[tuple[float, float]]:
    """Return the points that a path visits."""
    x = y = 0.0
    visited = []
    for letter, numbers in re.findall(r"([MLHlh])([^MLHlh]*)", path):
        values = [float(number) for number in re.findall(r"-?\d+", numbers)]
        if letter in "ML":
            x, y = values
        elif letter == "H":
            x = values[0]
        else:
            x, y = x + values[0], y + (values[1] if letter == "l" else 0)
        visited.append((x, y))
    return visited


def ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    visited = points(path)
    return visited[0], visited[-1]


@pytest.mark.parametrize("draw", [draw_small, draw_large])
def test_warm_up_measured_and_confirmation_are_distinguished(
    draw: Callable[[Curve], str],
) -> None:
    drawn = paths(draw(LEAK))
    assert {"w", "m", "c", "a"} <= set(drawn)
    assert ends(drawn["m"])[0] == ends(drawn["w"])[1]
    assert ends(drawn["c"])[0] == ends(drawn["m"])[1]


def test_the_large_picture_names_the_parts_and_counts_judged_iterations() -> None:
    texts = [node.text for node in ET.fromstring(draw_large(LEAK)).iter("text")]
    assert {"measured", "confirmation", "1", "50", "iteration 100"} <= set(texts)
    assert {"+50", "change of tf.tensors since iteration 1"} <= set(texts)


def test_a_mark_too_close_to_the_last_one_is_left_out() -> None:
    short = dataclasses.replace(LEAK, confirmation=5)
    texts = [node.text for node in ET.fromstring(draw_large(short)).iter("text")]
    assert "iteration 100" in texts and "95" not in texts


def test_growth_goes_up_and_to_the_right() -> None:
    (left, low), (right, high) = ends(paths(draw_large(LEAK))["m"])
    assert left < right and high < low  # the y axis of an SVG points down


def test_an_allowance_of_nothing_is_a_level_line() -> None:
    (_, start), (_, end) = ends(paths(draw_small(LEAK))["a"])
    assert start == end


def test_an_allowance_rises_by_as_much_in_each_iteration() -> None:
    half = Curve(name="x", unit="B", series=range(0, 200, 2), allowance=1.0)
    drawn = paths(draw_large(half))
    (_, start), (right, end) = ends(drawn["a"])
    (_, low), (last, high) = ends(drawn["m"])
    assert right == last
    assert start - end == pytest.approx((low - high) / 2, abs=1)


def test_a_steep_allowance_leaves_the_picture_at_the_top() -> None:
    steep = Curve(name="x", unit="B", series=[0, 1] * 25, allowance=6_144.0)
    (_, _), (right, end) = ends(paths(draw_large(steep))["a"])
    assert right < WIDTH / 2 and end == TOP


def test_an_allowance_in_all_is_a_level_line_above_the_start() -> None:
    total = Curve(
        name="x", unit="B", series=range(100), allowance=50.0, in_all=True, warmup=5
    )
    (_, start), (_, end) = ends(paths(draw_large(total))["a"])
    assert start == end
    assert start < points(paths(draw_large(total))["m"])[0][1]


def test_a_signal_that_never_decides_has_no_allowance() -> None:
    free = Curve(name="x", unit="B", series=[1, 2, 3])
    assert "a" not in paths(draw_small(free))
    assert "allowed" not in describe(free)


def test_a_missing_reading_is_a_gap() -> None:
    gap = Curve(name="x", unit="B", series=[1, 2, None, 4, 5])
    assert paths(draw_small(gap))["m"].count("M") == 2


def test_a_signal_that_is_read_now_and_then_is_one_line() -> None:
    now_and_then = Curve(name="x", unit="B", series=[1, None, None, 2, None, None, 3])
    assert paths(draw_small(now_and_then))["m"].count("M") == 1


def test_a_curve_without_judged_readings_is_not_drawn() -> None:
    nothing = Curve(name="x", unit="B", series=[1, 2, None], warmup=2)
    assert draw_small(nothing) == draw_large(nothing) == ""
    assert describe(nothing) == "x: no readings"


def test_the_same_steps_are_written_once() -> None:
    flat = Curve(name="x", unit="B", series=[5] * 50 + [6])
    assert len(paths(draw_small(flat))["m"]) < 25


def test_the_parts_of_a_long_series_meet() -> None:
    long = dataclasses.replace(LEAK, series=[n % 17 for n in range(999)])
    for drawn in (paths(draw_small(long)), paths(draw_large(long))):
        assert ends(drawn["c"])[0] == ends(drawn["m"])[1]
        assert ends(drawn["m"])[0] == ends(drawn["w"])[1]


@pytest.mark.parametrize("spike", [0, 777, 4_999])
def test_a_long_series_is_thinned_and_keeps_its_spike(spike: int) -> None:
    readings = [0] * 5_000
    readings[spike] = 1_000
    long = Curve(name="x", unit="B", series=readings)
    drawn = points(paths(draw_large(long))["m"])
    assert len(drawn) <= MOST_POINTS + 2  # with both ends
    assert min(y for _, y in drawn) < max(y for _, y in drawn)
    assert len(draw_small(long)) < 1_000


def test_a_restless_warm_up_does_not_flatten_the_rest() -> None:
    quiet = Curve(name="x", unit="B", series=[10**9, 0, 1, 2, 3, 4], warmup=1)
    visited = points(paths(draw_large(quiet))["m"])[1:]
    assert visited[0][1] - visited[-1][1] > HEIGHT / 4


def test_a_description_has_the_figures_of_the_other_reports() -> None:
    assert describe(HEAP) == (
        "host.heap over 100 measured iterations: from 0 B to 6.2 KiB, lowest 0 B, "
        "highest 6.2 KiB; allowed: 128 B per iteration"
    )
    assert describe(LEAK) == (
        "tf.tensors over 5 warm-up + 50 measured + 50 confirmation iterations: from 6 "
        "to 105, lowest 6, highest 105; no growth is allowed"
    )


def test_a_large_picture_has_a_text_alternative_and_a_small_one_is_hidden() -> None:
    large, small = ET.fromstring(draw_large(HEAP)), ET.fromstring(draw_small(HEAP))
    assert large.get("role") == "img" and large.get("aria-label") == describe(HEAP)
    assert small.get("aria-hidden") == "true"


def test_a_hostile_name_stays_text() -> None:
    name = '"><script>alert(1)</script>\x1b[31m\ud800\u202e'
    svg = draw_large(Curve(name=name, unit="<b>", series=[1, 2, 3], allowance=1.0))
    label = ET.fromstring(svg).get("aria-label", "")
    assert '"><script>alert(1)</script>\\x1b[31m\\ud800\\u202e' in label
    svg.encode("utf-8")


@given(series, counts, counts, st.none() | st.floats(0, 2**40), st.booleans())
def test_whatever_was_read_is_drawn_inside_the_picture(
    readings: list[int | None],
    warmup: int,
    confirmation: int,
    allowance: float | None,
    in_all: bool,
) -> None:
    curve = Curve(
        name="x",
        unit="B",
        series=readings,
        warmup=warmup,
        confirmation=confirmation,
        allowance=allowance,
        in_all=in_all,
    )
    drawn = paths(draw_large(curve) or "<svg/>")
    assert bool(drawn) == bool(curve.judged)
    for path in drawn.values():
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(path))
