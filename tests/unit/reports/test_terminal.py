from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.terminal import header_lines
from pytest_tfleak.reports.terminal import summary_lines
from pytest_tfleak.reports.terminal import time_lines
from pytest_tfleak.reports.text import columns
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Ledger
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SecondsByPart
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_report

FINDING = make_finding(total=99, last=100)
LEAK = make_leak(FINDING, iterations=100, confirmation=50, warmup=5)
SIGNALS_IN_ORDER = (
    *("keras.layers", "keras.optimizers", "tf.datasets", "tf.traces", "tf.tensors"),
)


def report(series: tuple[int | None, ...], **more: Any) -> SignalReport:
    return make_report(series=series, **({"status": "measured"} | more))


def ledger_of(*verdicts: Verdict) -> Ledger:
    ledger = Ledger()
    for verdict in verdicts:
        ledger.add(verdict)
    return ledger


def texts(*verdicts: Verdict, verbosity: int = 0, width: int = 80) -> list[str]:
    lines = summary_lines(ledger_of(*verdicts), verbosity, width, True)
    return [line.text for line in lines]


class TestSummary:
    def test_says_one_thing_when_all_is_clean(self) -> None:
        clean = Verdict(nodeid="a", status=Status.CLEAN)
        lines = summary_lines(ledger_of(clean, clean), 0, 80, True)
        assert [tuple(line) for line in lines] == [("2 clean", "clean")]

    def test_says_nothing_about_clean_tests_in_quiet_mode(self) -> None:
        assert texts(Verdict(nodeid="a", status=Status.CLEAN), verbosity=-1) == []

    def test_says_nothing_without_tests(self) -> None:
        assert [texts(verbosity=verbosity) for verbosity in (-1, 0, 1, 2)] == [[]] * 4

    def test_does_not_call_a_run_of_disabled_tests_clean(self) -> None:
        disabled = Verdict(
            nodeid="a", status=Status.NOT_MEASURED, reason=Reason.DISABLED, detail="why"
        )
        lines = summary_lines(ledger_of(disabled), 0, 80, True)
        assert [tuple(line) for line in lines] == [("1 disabled", "plain")]
        assert texts(disabled, verbosity=-1) == []
        assert texts(disabled, verbosity=1) == ["NOT MEASURED  a  disabled: why"]

    def test_folds_tests_that_share_the_reason_why_they_were_not_measured(self) -> None:
        skipped, failed, unsupported = (
            Verdict(nodeid=name, status=Status.NOT_MEASURED, reason=why, detail=detail)
            for name, why, detail in (
                ("s", Reason.BODY_SKIPPED, "the test was skipped in iteration 1"),
                ("f", Reason.BODY_FAILED, "the test ended with ValueError"),
                ("u", Reason.UNSUPPORTED, "tfleak does not support it"),
            )
        )
        verdicts = [skipped, failed, *[unsupported] * 2, *[skipped] * 1_000]
        folded = [
            "2 not measured: tfleak does not support it",
            "1,001 not measured: skipped",
        ]
        one = ["NOT MEASURED  f  failed: the test ended with ValueError"]
        assert texts(*verdicts) == one + folded
        assert texts(*verdicts, verbosity=-1) == one + folded
        assert len(texts(*verdicts, verbosity=1)) == len(verdicts)

    def test_keeps_to_one_line_each_in_quiet_mode(self) -> None:
        long = dataclasses.replace(LEAK, nodeid="n" * 200)
        assert texts(long, LEAK, verbosity=-1, width=60) == [
            "LEAK  " + "n" * 200,
            "LEAK  test_a.py::test_b  tf.tensors +1 per iteration",
        ]

    def test_lists_each_leak_of_a_test(self) -> None:
        found = [
            make_finding(
                signal,
                fingerprint=f"2:{number}",
                origin=Origin(file="app.py", line=number, function="f", text=""),
            )
            for number, signal in enumerate(SIGNALS_IN_ORDER)
        ]
        leak = make_leak(*found[::-1], nodeid="test_a.py::test_b")
        first = "LEAK  test_a.py::test_b  keras.layers +1 per iteration at app.py:0"
        others = [
            "    and keras.optimizers +1 per iteration at app.py:1",
            "    and tf.datasets +1 per iteration at app.py:2",
            "    and tf.traces +1 per iteration at app.py:3",
            "    and tf.tensors +1 per iteration at app.py:4",
        ]
        assert texts(leak) == [first, *others[:3], "    and 1 more, which -v lists"]
        assert texts(leak, verbosity=1) == [first, *others]
        [quiet] = texts(leak, verbosity=-1)
        assert quiet.startswith("LEAK  test_a.py::test_b (4 more leaks)  keras.layers")

    def test_the_line_of_code_follows_a_name_of_any_length(self) -> None:
        origin = Origin(file="deep/" * 30 + "cache.py", line=12, function="f", text="")
        long = dataclasses.replace(
            make_leak(dataclasses.replace(FINDING, origin=origin)), nodeid="n" * 200
        )
        place = "/cache.py:12"
        assert texts(long)[1].endswith(place) and len(texts(long)[1]) <= 80
        [line] = texts(long, verbosity=-1)
        assert line.startswith("LEAK  " + "n" * 200) and line.endswith(place)
        short = dataclasses.replace(long, nodeid="a")
        assert texts(short)[1].endswith(place) and len(texts(short)[1]) <= 80

    @pytest.mark.parametrize(
        ("rate", "allowance", "expected"),
        [
            (0.0, 6_144.0, "nothing grew"),
            (-4.0, 6_144.0, "nothing grew"),
            (1_228.8, 6_144.0, "closest: host.heap 1.2 KiB of 6 KiB (20 %)"),
            (6_143.9, 6_144.0, "closest: host.heap 6,143.9 B of 6,144.0 B (99 %)"),
            (9_000.0, 6_144.0, "closest: host.heap 8.8 KiB of 6 KiB (147 %)"),
            (3.0, 0.0, "closest: host.heap 3 B, none allowed"),
        ],
    )
    def test_says_how_close_a_clean_test_came(
        self, rate: float, allowance: float, expected: str
    ) -> None:
        signal = report((1, 2), per_iteration=rate, allowance=allowance)
        clean = Verdict(
            nodeid="a", status=Status.CLEAN, iterations=50, signals=(signal,)
        )
        assert texts(clean, verbosity=1) == [f"clean  a  50 iterations; {expected}"]

    @pytest.mark.parametrize(
        ("signal", "expected"),
        [
            (
                report((), status="unavailable", reason="no libc"),
                "unavailable: no libc",
            ),
            (report((), status="unavailable"), "unavailable: no reason given"),
            (
                report((1, 9), status="untrusted", reason="no PID", decides=False),
                "untrusted: no PID; 1.2 KiB per iteration; +57.4 KiB in all",
            ),
            (
                report((4, None), per_iteration=None, total=None, decides=False),
                "read once; not judged",
            ),
            (report((7, None, 7), unit="n", total=0), "level at 7"),
        ],
    )
    def test_shows_every_signal_when_asked_twice(
        self, signal: SignalReport, expected: str
    ) -> None:
        verdict = Verdict(nodeid="a", status=Status.CLEAN, signals=(signal,))
        line = texts(verdict, verbosity=2, width=100)[1]
        assert line.startswith("      host.heap  " + expected)

    def test_holds_what_may_be_left_against_the_growth_in_all(self) -> None:
        sessions = report(
            (1, 100),
            name="tf.sessions",
            unit="sessions",
            per_iteration=1.0,
            total=99,
            allowance=110,
        )
        clean = Verdict(nodeid="a", status=Status.CLEAN, signals=(sessions,))
        (brief,) = texts(clean, verbosity=1)
        assert brief.endswith("closest: tf.sessions 99 of 110 in all (90 %)")
        line = texts(clean, verbosity=2, width=100)[1]
        assert "99 of 110 in all (90 %); 1 per iteration" in line

    def test_uses_only_markup_that_the_terminal_knows(self) -> None:
        verdicts = [Verdict(nodeid="a", status=status) for status in Status]
        lines = summary_lines(ledger_of(*verdicts, LEAK), 2, 80, True)
        known = {"leak", "warn", "clean", "dim", "plain"}
        assert {line.markup for line in lines} <= known
        assert set(STATUSES) == set(Status)


class TestHeader:
    def test_says_why_a_probe_is_off(self) -> None:
        probes = [("host", None), ("tensorflow", "not imported yet")]
        assert header_lines(probes) == [
            "tfleak: probes: host",
            "tfleak: off: tensorflow (not imported yet)",
        ]
        assert header_lines([]) == ["tfleak: probes: none"]


WORDS = st.text(max_size=60).filter(lambda text: "/" not in text and ":" not in text)


@given(data=st.data(), width=st.integers(20, 130), unicode=st.booleans())
def test_nothing_is_wider_or_unsafe(
    data: st.DataObject, width: int, unicode: bool
) -> None:
    figures = st.floats(0, 1e15) | st.integers(0, 2**50)
    findings = st.builds(
        Finding,
        signal=WORDS | st.sampled_from(["tf.tensors", "host.heap", "tf.sessions"]),
        unit=st.sampled_from(["B", "sessions", "things"]),
        per_iteration=st.none() | figures,
        total=st.integers(0, 2**50),
        allowance=figures,
        first=st.integers(1, 10),
        last=st.integers(11, 10**6),
        allow=st.sampled_from(["", "tensors", "host_total", "host_per_iteration"]),
        kind=st.none() | WORDS,
        what=st.none() | WORDS,
    )
    signals = st.builds(
        SignalReport,
        name=WORDS | st.just("host.heap"),
        unit=st.sampled_from(["B", "things"]),
        status=st.sampled_from(["measured", "unavailable", "untrusted"]),
        reason=st.none() | WORDS,
        per_iteration=st.none() | figures,
        total=st.none() | st.integers(-(2**50), 2**50),
        allowance=st.none() | figures,
        decides=st.booleans(),
        series=st.lists(st.none() | st.integers(0, 2**50), max_size=30).map(tuple),
    )
    verdict = data.draw(
        st.builds(
            Verdict,
            nodeid=st.just("t"),
            status=st.sampled_from(Status),
            reason=st.none() | st.sampled_from(Reason),
            detail=st.none() | WORDS,
            iterations=st.integers(0, 10**6),
            warmup=st.integers(0, 10),
            signals=st.lists(signals, max_size=3).map(tuple),
            findings=st.lists(findings, max_size=3).map(tuple),
            notes=st.lists(WORDS, max_size=2).map(tuple),
        )
    )
    lines = failure_text(verdict, width, unicode).split("\n")
    for verbosity in (-1, 0, 1, 2):
        shown = summary_lines(ledger_of(verdict), verbosity, width, unicode)
        lines += [line.text for line in shown]
    for line in lines:
        assert columns(line) <= width
        assert line.isprintable()
        assert unicode or line.isascii()
    assert columns(headline(verdict)) <= 80
    assert headline(verdict).isprintable()


def test_imports_nothing_heavy() -> None:
    heavy = "{'pytest', 'tensorflow', 'numpy', 'psutil'}"
    code = "import sys; import pytest_tfleak.reports.terminal; "
    code += f"print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


class TestTime:
    def measured(self, name: str, seconds: float, **parts: float) -> Verdict:
        return Verdict(
            nodeid=name,
            status=Status.CLEAN,
            seconds=seconds,
            body_seconds=seconds / 4,
            seconds_by_part=SecondsByPart(**parts),
        )

    def lines(self, *verdicts: Verdict, verbosity: int = 0, workers: int = 0) -> str:
        ledger = ledger_of(*verdicts)
        lines = time_lines(ledger, verbosity, workers=workers)
        return "\n".join(line.text for line in lines)

    def test_names_the_slowest_tests(self) -> None:
        verdicts = [self.measured(f"a.py::test_{n}", 4.0 * n) for n in range(1, 6)]
        again = self.measured("a.py::test_1", 130)  # a second check of one test
        assert self.lines(*verdicts, again) == (
            "tfleak: 5 tests in 3 min 10 s, 47.5 s of it bodies; slowest: a.py::test_1 "
            "2 min\n    14 s, a.py::test_5 20 s, a.py::test_4 16 s"
        )

    def test_says_on_how_many_workers_the_tests_ran(self) -> None:
        line = self.lines(self.measured("a", 2.0), workers=4)
        assert line == "tfleak: 1 test in 2 s on 4 workers, 500 ms of it bodies"

    def test_says_what_each_part_took_when_asked(self) -> None:
        parts = {"loop": 2.0, "confirmation": 1.5, "diagnosis": 7.0}
        verdicts = [self.measured("a", 10.5, **parts), self.measured("b", 1, loop=1)]
        lines = self.lines(*verdicts, verbosity=1).splitlines()
        assert lines[-1] == "tfleak: iterations 3 s, confirmation 1.5 s, diagnosis 7 s"
        assert "iterations" not in self.lines(*verdicts)

    def test_says_nothing_if_nothing_was_measured(self) -> None:
        assert self.lines(self.measured("a", 0.0)) == ""
        assert self.lines(self.measured("a", 1.0), verbosity=-1) == ""
