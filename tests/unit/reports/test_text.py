from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.text import compared
from pytest_tfleak.reports.text import percent
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.text import shorten
from pytest_tfleak.reports.text import sparkline
from pytest_tfleak.reports.text import wrap


class TestSparkline:
    @pytest.mark.parametrize(
        ("series", "width", "expected"),
        [
            ([], 10, ""),
            ([5], 10, "▁"),
            ([5, 5, 5], 10, "▁▁▁"),
            ([0, 7], 10, "▁█"),
            ([None, 0, None, 7], 10, " ▁ █"),
            ([None, None], 10, "  "),
            ([0] * 50 + [9] * 50, 4, "▁▁██"),
            ([0, 9], 1, "█"),
            ([0, 9], 0, ""),
            ([-(2**62), 2**62], 9, "▁█"),
        ],
    )
    def test_draws(self, series: list[int | None], width: int, expected: str) -> None:
        assert sparkline(series, width, True) == expected

    def test_falls_back_to_ascii(self) -> None:
        assert sparkline(range(8), 8, False) == "_.:-=+*#"

    @given(
        at=st.integers(1, 99), height=st.integers(1, 2**40), width=st.integers(2, 60)
    )
    def test_never_hides_a_step(self, at: int, height: int, width: int) -> None:
        line = sparkline([0] * at + [height] * (100 - at), width, True)
        assert line == "▁" * line.count("▁") + "█" * line.count("█")
        assert line[0] == "▁"
        assert line[-1] == "█"

    @given(at=st.integers(1, 99), width=st.integers(2, 60))
    def test_never_hides_a_single_peak(self, at: int, width: int) -> None:
        assert "█" in sparkline([0] * at + [9] + [0] * (99 - at), width, True)

    @given(
        st.lists(st.none() | st.integers(-(2**63), 2**63)),
        st.integers(-1, 200),
        st.booleans(),
    )
    def test_fits(self, series: list[int | None], width: int, unicode: bool) -> None:
        line = sparkline(series, width, unicode)
        assert len(line) == min(len(series), max(width, 0))
        assert unicode or line.isascii()


class TestText:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain", "plain"),
            ("a\x1b[31mred", "a\\x1b[31mred"),
            ("two\nlines\r\t", "two\\nlines\\r\\t"),
            ("\ud800", "\\ud800"),
            ("\u202eevil", "\\u202eevil"),
            ("Köln 東京", "Köln 東京"),
            ("\x9b1m\u2028", "\\x9b1m\\u2028"),
        ],
    )
    def test_escapes_what_a_terminal_would_act_on(
        self, text: str, expected: str
    ) -> None:
        assert safe(text) == expected
        assert safe(text, unicode=False).isascii()

    @given(st.text(), st.booleans())
    def test_is_safe(self, text: str, unicode: bool) -> None:
        out = safe(text, unicode)
        assert out.isprintable()
        out.encode("utf-8" if unicode else "ascii")

    def test_our_own_symbols_have_ascii_forms(self) -> None:
        assert safe("n: 1 → 2 → …, é", unicode=False) == "n: 1 -> 2 -> ..., \\xe9"

    @given(st.text(st.characters(categories=["L", "M", "N"])), st.integers(0, 50))
    def test_shortens_in_the_middle(self, text: str, width: int) -> None:
        assert columns(shorten(text, width)) <= width
        assert shorten("abcdefghij", 7) == "ab...ij"

    def test_counts_columns(self) -> None:
        assert [columns(text) for text in ("ab", "東京", "e\u0301")] == [2, 4, 1]

    def test_keeps_paths_whole_and_figures_with_their_unit(self) -> None:
        path = "/a/very/long/path/that/is/wider/than/all"
        assert wrap(f"see {path} now", 12) == ["see", path, "now"]
        assert wrap("it grew by 6 KiB", 13) == ["it grew by", "6 KiB"]

    @pytest.mark.parametrize(
        ("value", "limit", "unit", "expected"),
        [
            (6_150, 6_144, "B", ("6,150 B", "6,144 B")),
            (6_144.2, 6_144, "B", ("6,144.2 B", "6,144.0 B")),
            (64.001, 64, "blocks", ("64.001", "64.000")),
            (64, 64, "blocks", ("64", "64")),
            (0, 64, "blocks", ("0", "64")),
        ],
    )
    def test_shows_two_figures_apart(
        self, value: float, limit: float, unit: str, expected: tuple[str, str]
    ) -> None:
        assert compared(value, limit, unit) == expected

    @pytest.mark.parametrize(
        ("share", "expected"),
        [
            (0.0, "0 %"),
            (1e-9, "<1 %"),
            (0.2, "20 %"),
            (0.9999, "99 %"),
            (1.0, "100 %"),
            (1.0001, "101 %"),
            (12.0, "1,200 %"),
        ],
    )
    def test_percent_does_not_round_to_a_lie(self, share: float, expected: str) -> None:
        assert percent(share) == expected


def test_a_huge_share_is_cut_short() -> None:
    assert percent(float("inf")) == percent(10_001) == ">1,000,000 %"
    assert percent(10_000) == "1,000,000 %"
