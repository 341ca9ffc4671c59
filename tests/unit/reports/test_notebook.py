"""A verdict that is printed is the message; a notebook shows the curve, too."""

from __future__ import annotations

import io
import sys

import pytest

from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.verdict import Status
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_report
from tests.builders import make_verdict

SERIES = tuple(range(20))
LEAK = make_leak(
    make_finding(what="1 <Thing> per iteration"),
    signals=(make_report("tf.tensors", 1.0, series=SERIES),),
    iterations=20,
)


def test_a_printed_verdict_is_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    print(LEAK)  # noqa: T201  # as users do
    assert capsys.readouterr().out == failure_text(LEAK) + "\n"
    assert f"{LEAK}" == str(LEAK)


def test_it_prints_where_no_curve_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert str(LEAK) == failure_text(LEAK, unicode=False)
    print(LEAK)  # noqa: T201  # as users do


def test_a_notebook_shows_the_message_and_the_curve() -> None:
    shown = LEAK._repr_html_()
    assert "LEAK: tf.tensors +1" in shown
    assert "1 &lt;Thing&gt; per iteration" in shown
    assert shown.count("<svg") == 1
    assert "<script" not in shown


def test_a_verdict_without_readings_has_no_curve() -> None:
    shown = make_verdict(Status.CLEAN, iterations=50)._repr_html_()
    assert "<svg" not in shown
    assert "clean" in shown.casefold()
