from __future__ import annotations

import math
import re
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.quantities import format_bytes
from pytest_tfleak.quantities import format_count
from pytest_tfleak.quantities import format_quantity
from pytest_tfleak.quantities import format_seconds
from pytest_tfleak.quantities import parse_bytes
from pytest_tfleak.quantities import parse_seconds

NOT_QUANTITIES = [
    "4 KBs",
    "KiB",
    "",
    " ",
    "-1",
    "-1 KiB",
    "+1",
    "1,5 KiB",
    "1e3",
    "1_000",
    "nan",
    "inf",
    "1 KiB 2",
    "٤ KiB",
    "9" * 400,
    -1,
    -0.5,
    math.nan,
    math.inf,
    2**62,
    True,
    False,
    None,
    b"4",
    [4],
]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (4096, 4096),
        (2**60 + 1, 2**60 + 1),
        (1.4, 1),
        ("0", 0),
        ("4096", 4096),
        ("12 B", 12),
        ("4 KiB", 4096),
        ("4KiB", 4096),
        ("4 kib", 4096),
        (" 4  KIB ", 4096),
        ("4 KB", 4000),
        ("1.5 MiB", 1_572_864),
        (".5 MB", 500_000),
        ("2 GiB", 2 * 1024**3),
        ("2 GB", 2 * 1000**3),
    ],
)
def test_bytes_are_parsed(value: object, expected: int) -> None:
    parsed = parse_bytes(value)
    assert parsed == expected
    assert type(parsed) is int


@pytest.mark.parametrize("value", [*NOT_QUANTITIES, "4 s", "9999999999 GiB"])
def test_what_is_not_bytes_is_refused_with_an_example(value: object) -> None:
    allowed = 'expected 4096 or "4 KiB" (units: B, KB, MB, GB, KiB, MiB, GiB)'
    with pytest.raises(ValueError, match=re.escape(allowed)):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (30, 30), (0.5, 0.5), ("30", 30), ("30 s", 30), ("250ms", 0.25)]
    + [("5 min", 300), ("1.5 h", 5400)],
)
def test_seconds_are_parsed(value: object, expected: float) -> None:
    parsed = parse_seconds(value)
    assert parsed == pytest.approx(expected)
    assert type(parsed) is float


@pytest.mark.parametrize("value", [*NOT_QUANTITIES, "5 KiB", "5 minutes"])
def test_what_is_not_seconds_is_refused_with_an_example(value: object) -> None:
    allowed = 'expected 30, "30 s" or "5 min" (units: ms, s, min, h)'
    with pytest.raises(ValueError, match=re.escape(allowed)):
        parse_seconds(value)


def test_a_subclass_of_int_is_parsed_to_a_plain_int() -> None:
    class Limit(IntEnum):
        SMALL = 64

    assert type(parse_bytes(Limit.SMALL)) is int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 B"),
        (-0.0, "0 B"),
        (0.2, "<1 B"),
        (-0.2, "-<1 B"),
        (1, "1 B"),
        (-12, "-12 B"),
        (1023, "1023 B"),
        (1023.6, "1 KiB"),
        (1024, "1 KiB"),
        (6 * 1024, "6 KiB"),
        (1024**2 - 1, "1 MiB"),
        (1_572_864, "1.5 MiB"),
        (-3 * 1024**3, "-3 GiB"),
        (5000 * 1024**3, "5000 GiB"),
    ],
)
def test_bytes_are_formatted(value: float, expected: str) -> None:
    assert format_bytes(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (-0.0, "0"),
        (0.001, "<0.01"),
        (-0.001, "-<0.01"),
        (0.2, "0.2"),
        (1, "1"),
        (-1.0, "-1"),
        (1.25, "1.25"),
        (10, "10"),
        (99.999, "100"),
        (100.4, "100"),
        (1024, "1,024"),
        (-1234567, "-1,234,567"),
    ],
)
def test_counts_are_formatted(value: float, expected: str) -> None:
    assert format_count(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 s"),
        (0.0001, "<1 ms"),
        (0.012, "12 ms"),
        (0.9996, "1 s"),
        (1.5, "1.5 s"),
        (59, "59 s"),
        (99.94, "99.9 s"),
        (180, "3 min"),
        (300, "5 min"),
    ],
)
def test_durations_are_formatted(value: float, expected: str) -> None:
    assert format_seconds(value) == expected


def test_a_quantity_is_formatted_by_its_unit() -> None:
    assert format_quantity(2048, "B") == "2 KiB"
    assert format_quantity(2048, "tensors") == "2,048"


@given(st.integers(min_value=0, max_value=2**52))
def test_formatted_bytes_parse_to_nearly_the_same(value: int) -> None:
    # One decimal is shown, so the error is at most 0.05 of the unit.
    assert parse_bytes(format_bytes(value)) == pytest.approx(value, rel=0.05)


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_only_zero_is_shown_as_zero(value: float) -> None:
    shown = (format_bytes(value).split()[0], format_count(value))
    assert all((text in {"0", "-0"}) == (value == 0) for text in shown)


@given(st.integers(0, 2**52), st.integers(0, 2**52))
def test_more_bytes_never_look_like_fewer(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert parse_bytes(format_bytes(small)) <= parse_bytes(format_bytes(large))
