"""A test's own failure, skip or xfail wins, and does not affect the next test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]
#: Each case is followed by a test that checks the state of the garbage collector, and
#: by two measured tests.
BEFORE = """
import gc, itertools
import pytest
from leaks import leak
from pytest_tfleak import LeakFailed

frozen = gc.get_freeze_count()
measured = pytest.mark.tfleak(iterations=20, warmup=2)
calls = itertools.count(1)
"""
AFTER = """
def test_collector(): assert gc.get_freeze_count() <= frozen and gc.isenabled()

@measured
def test_clean(): pass

@measured
def test_leaky(): leak()
"""
AFTERWARDS = {"passed": 2, "failed": 1}


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    kept = ("passed", "failed", "skipped", "xfailed", "xpassed", "errors")
    return {k: v for k, v in result.parseoutcomes().items() if k in kept}


@pytest.mark.parametrize(
    ("body", "own", "listed"),
    [
        ("assert next(calls) != 7", "failed", "*first, Assert* in iteration 7;*"),
        ("pytest.skip('no net')", "skipped", "*the test was skipped in iteration 1"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("assert next(calls) < 1", "failed", "failed*Asser* in iteration 1"),
                ("pytest.xfail('known')", "xfailed", "*with XFailed in iteration 1"),
                ("raise SystemExit(3)", "failed", "*interrupted in iteration 1"),
                ("leak(); raise OSError", "failed", "failed*OSError in iteration 1"),
            )
        ),
    ],
)
def test_the_outcome_of_the_body_wins(
    pytester: pytest.Pytester, leaks: None, body: str, own: str, listed: str
) -> None:
    source = f"{BEFORE}\n@measured\ndef test_it(): {body}\n{AFTER}"
    pytester.makepyfile(test_own=source)
    result = pytester.runpytest_inprocess()
    expected = dict(AFTERWARDS)
    expected[own] = expected.get(own, 0) + 1
    assert outcomes(result) == expected
    lines = ["LEAK *::test_leaky*", "NOT MEASURED*::test_it*", "1 clean"]
    result.stdout.fnmatch_lines(lines)
    text = " ".join(result.stdout.str().split())
    pytest.LineMatcher([text]).fnmatch_lines([f"*NOT MEASURED*{listed}*"])


XFAILS = f"""{BEFORE}
@pytest.mark.xfail
@measured
def test_not_strict(): leak()

@pytest.mark.xfail(raises=LeakFailed, strict=True)
@measured
def test_strict(): leak()

@pytest.mark.xfail(raises=OSError)
@measured
def test_raises_something_else(): leak()

@pytest.mark.xfail(raises=LeakFailed)
@measured
def test_clean(): pass

@pytest.mark.xfail(raises=LeakFailed, strict=True)
@measured
def test_clean_strict(): pass

@pytest.mark.xfail(run=False)
@measured
def test_not_run(): leak()

@pytest.mark.skip
@measured
def test_skipped(): leak()
"""


def test_xfail_knows_a_leak(leaks: None, pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(test_it=XFAILS)
    result = run("-rA")
    assert outcomes(result) == {"xfailed": 3, "xpassed": 1, "failed": 2, "skipped": 1}
    result.stdout.fnmatch_lines_random(
        [
            "*test_it.py::test_strict  python.blocks*",
            "LEAK test_it.py::test_raises_something_else - python.blocks*",
            "XPASS test_it.py::test_clean*",
            "FAILED test_it.py::test_clean_strict*",
            "?XPASS(strict)?*",
        ]
    )


@pytest.mark.parametrize(
    "stop", ["-x", pytest.param("--maxfail=1", marks=pytest.mark.slow)]
)
def test_a_leak_stops_the_run_on_demand(
    pytester: pytest.Pytester, leaks: None, stop: str
) -> None:
    pytester.makepyfile(f"{BEFORE}{AFTER}\ndef test_never(): pass")
    result = pytester.runpytest(stop)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["LEAK *::test_leaky*", "*stopping after 1 failures*"])


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "pytest.exit('enough')"])
def test_an_interrupted_run_says_what_it_was_measuring(
    pytester: pytest.Pytester, how: str
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import gc, itertools, pytest
        calls = itertools.count(1)

        @pytest.fixture(scope="session", autouse=True)
        def collector():
            before = gc.get_freeze_count()
            yield
            print("THAWED", gc.get_freeze_count() <= before)

        @pytest.mark.tfleak(iterations=9, warmup=0)
        def test_it():
            if next(calls) == 4:
                {how}
        """
    )
    result = pytester.runpytest_subprocess("-s")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*THAWED True*"])
    result.stdout.fnmatch_lines(["NOT MEASURED  test_it.py::test_it*iteration 4"])


def test_a_failing_iteration_does_not_pile_up_in_the_next_test(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest
        measured = pytest.mark.tfleak(iterations=20, warmup=2)

        @measured
        def test_fails():
            data = [object() for _ in range(10_000)]
            assert not data

        @measured
        def test_next(): pass
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["1 clean"])
