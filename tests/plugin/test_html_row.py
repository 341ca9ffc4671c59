from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from tests.plugin.conftest import Run

pytest.importorskip("pytest_html")


def results_of(pytester: pytest.Pytester) -> dict[str, Any]:
    """Return what pytest-html's report has of each test."""
    page = (pytester.path / "report.html").read_text("utf-8")
    match = re.search(r'data-jsonblob="([^"]*)"', page)
    assert match is not None
    tests: dict[str, Any] = json.loads(unescape(match[1]))["tests"]
    return tests


def rows(pytester: pytest.Pytester) -> dict[str, list[str]]:
    """Return the HTML that the plugin added to each test in pytest-html's report."""
    return {
        name.partition("::")[2]: [
            extra["content"]
            for result in results
            for extra in result["extras"]
            if extra["name"] == "tfleak"
        ]
        for name, results in results_of(pytester).items()
    }


def log_of(pytester: pytest.Pytester, name: str) -> str:
    (log,) = (
        result["log"]
        for test, results in results_of(pytester).items()
        for result in results
        if test.endswith(name)
    )
    return str(log)


def report(run: Run, *more: str) -> pytest.RunResult:
    return run("--html=report.html", "--self-contained-html", *more)


@pytest.mark.usefixtures("leaks")
def test_a_leaking_test_has_its_curve_beside_its_message(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from leaks import leak

        @pytest.mark.tfleak(iterations=10, diagnose=False)
        def test_leaky():
            leak()

        @pytest.mark.xfail
        @pytest.mark.tfleak(iterations=10, diagnose=False)
        def test_expected():
            leak()

        @pytest.mark.tfleak
        def test_broken():
            assert False

        def test_plain():
            pass
        """
    )
    report(run).assert_outcomes(failed=2, passed=1, xfailed=1)
    found = rows(pytester)
    for name in ("test_leaky", "test_expected"):
        (row,) = found[name]
        assert 'class="chart"' in row
        assert (row + log_of(pytester, name)).count("to allow it") == 1
    assert found["test_broken"] == found["test_plain"] == []
    assert "not measured: " in log_of(pytester, "test_broken")


def test_each_check_of_a_test_has_its_own_part(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest_html

        def test_two(tfleak, extras):
            extras.append(pytest_html.extras.text("mine"))
            tfleak.check(int, iterations=10)
            tfleak.check(int, iterations=11)
        """
    )
    report(run).assert_outcomes(passed=1)
    (parts,) = rows(pytester).values()
    assert ["in 10 iterations" in part for part in parts] == [True, False]
    assert ["in 11 iterations" in part for part in parts] == [False, True]


def test_hostile_text_is_text_in_the_row(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.tfleak(iterations=10)
        def test_skipping():
            pytest.skip("<script>alert(1)</script>")

        @pytest.mark.tfleak(enabled=False, reason="<script>alert(2)</script>\\x1b[31m")
        def test_disabled():
            pass
        """
    )
    report(run)
    (row,) = rows(pytester)["test_disabled"]
    assert "&lt;script&gt;alert(2)" in row
    for parts in rows(pytester).values():
        assert not any("<script" in part for part in parts)


def test_without_a_report_of_pytest_html_nothing_is_added(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        def test_plain(pytestconfig):
            assert not pytestconfig.pluginmanager.hasplugin("tfleak-html-rows")
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_it_works_without_pytest_html(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(tfleak): tfleak.check(int, iterations=10)")
    pytester.runpytest_inprocess("-p", "no:html").assert_outcomes(passed=1)
