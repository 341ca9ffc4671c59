"""A finished test leaves little in memory."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from pytest_tfleak.plugin.finished import FinishedTests
from pytest_tfleak.plugin.finished import PackedVerdicts
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import make_report

Run = Callable[..., pytest.RunResult]
REPORTS = ("--tfleak-json=r.json", "--tfleak-html=r.html", "--junitxml=r.xml")
FIRST, TESTS = 4, 24  # what is there once counts little in so many
KIB = 1024

MEASURED = f"""
    import pytest

    @pytest.mark.tfleak(iterations=50)
    @pytest.mark.parametrize("number", range({TESTS}))
    def test_trivial(number): pass
"""
LOOK = f"""
    import gc, pytest, tracemalloc

    HELD = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish():
        HELD.append(0)
        if len(HELD) == {FIRST}:
            tracemalloc.start()
        if len(HELD) == {TESTS}:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
            print("held", held / {TESTS - FIRST})
"""
KEPT = """
    import pytest

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(terminalreporter):
        reports = [
            report
            for reports in terminalreporter.stats.values()
            for report in reports
            if isinstance(report, pytest.TestReport)
        ]
        names = {name for report in reports for name, _ in report.user_properties}
        carried = {name for report in reports for name in vars(report)}
        print(f"kept of {len(reports)}:", *names, *carried & CARRIED, "end")

    CARRIED = {"tfleak", "tfleak_environment"}

    def pytest_sessionfinish(session):
        for item in getattr(session, "items", ()):
            names = [name for name, _ in item.user_properties]
            assert names in ([], ["own"]), names
"""


def test_a_trivial_test_with_three_reports_leaves_less_than_10_kib(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(MEASURED)
    pytester.makeconftest(LOOK)
    result = pytester.runpytest_subprocess("-s", *REPORTS)
    result.assert_outcomes(passed=TESTS)
    held = re.search(r"held (\S+)", result.stdout.str())
    assert held is not None
    assert float(held[1]) < 10 * KIB


def test_pytest_keeps_neither_verdicts_nor_our_properties(
    pytester: pytest.Pytester, leaks: None, run: Run
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from leaks import leak

        measured = pytest.mark.tfleak(iterations=10, warmup=1, diagnose=False)

        @pytest.fixture
        def own(request):
            request.node.user_properties.append(("own", "kept"))

        @measured
        def test_clean(own): pass

        @measured
        def test_leaky(): leak()

        def test_plain(): pass
        """
    )
    pytester.makeconftest(KEPT)
    result = run(*REPORTS)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["kept of 9: own end"])
    xml = (pytester.path / "r.xml").read_text("utf-8")
    assert xml.count('name="tfleak.status"') == 2
    assert xml.count('name="own"') == 1


def test_packed_verdicts_come_back_as_they_were() -> None:
    verdict = Verdict(
        nodeid="t.py::t",
        status=Status.CLEAN,
        signals=(make_report("host.heap", series=(None, 3, 2**40)),),
        notes=("a \N{SNOWMAN}",),
    )
    packed = PackedVerdicts()
    assert packed.ledger() is None
    packed.add(verdict.to_dict())
    packed.add(verdict.to_dict())
    ledger = packed.ledger()
    assert ledger is not None
    assert ledger.verdicts() == (verdict, verdict)
    assert packed.ledger() is ledger  # unpacked once


def test_a_junit_file_of_an_unknown_form_is_left_alone(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = pytest.TestReport(
        nodeid="t.py::t",
        location=("t.py", 1, "t"),
        keywords={},
        outcome="passed",
        longrepr=None,
        when="teardown",
        user_properties=[("own", 1), ("tfleak.status", "clean")],
    )
    monkeypatch.setattr(FinishedTests, "_pack_junit", lambda _: 1 / 0)
    FinishedTests(pytestconfig).pytest_runtest_logreport(report)
    assert report.user_properties == [("own", 1)]


def test_properties_of_any_form_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.tfleak(iterations=5, warmup=1)
        def test_number(record_property): record_property(1, "x")

        def test_mapping(request): request.node.user_properties.append({"a": 1, "b": 2})
        """
    )
    result = pytester.runpytest_subprocess("--junitxml=r.xml")
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    plain = pytester.runpytest_subprocess("--junitxml=r.xml", "-pno:tfleak")
    assert result.ret == plain.ret
