"""Shapes together with other plugins of pytest."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

SHAPES = """
import unittest
import unittest.mock
import pytest
KEPT = []

def leak(): KEPT.append([object() for _ in range(200)])

class Test(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def patched(self, mocker):
        mocker.patch("os.getcwd", return_value="here")

    @unittest.mock.patch("os.getpid", return_value=1)
    def test_clean(self, getpid):
        import os
        self.assertEqual((os.getcwd(), os.getpid()), ("here", 1))
        getpid.assert_called_once_with()

    def test_leaky(self): leak()

class Async(unittest.IsolatedAsyncioTestCase):
    async def test_clean(self): pass
    async def test_leaky(self): leak()

def test_clean():
    '''
    >>> 1 + 1
    2
    '''
"""
PLUGINS = [
    ("pytest_cov", "--cov=. --cov-report="),
    ("pytest_randomly", "-p randomly"),
    ("pytest_repeat", "--count=1"),
    ("pytest_rerunfailures", "--reruns=1"),
    ("pytest_timeout", "--timeout=60"),
    ("xdist", "-n2 --dist=loadscope"),
    ("xdist", "-n1 --dist=each"),
    *(
        pytest.param("xdist", f"-n2 --dist={by}", marks=pytest.mark.slow)
        for by in ("load", "loadfile", "loadgroup", "worksteal")
    ),
]


@pytest.mark.parametrize(("module", "more"), PLUGINS)
def test_verdicts_are_the_same_beside_another_plugin(
    pytester: pytest.Pytester, module: str, more: str
) -> None:
    if find_spec(module) is None or find_spec("pytest_mock") is None:
        pytest.skip(f"{module} or pytest_mock is not installed")
    pytester.makepyfile(test_it=SHAPES)
    options = ("--tfleak", "--tfleak-iterations=8", "--tfleak-warmup=2", "-v")
    result = pytester.runpytest_subprocess(
        *options, "--doctest-modules", "--tfleak-diagnose=off", *more.split()
    )
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (4, 2)
    result.stdout.fnmatch_lines_random(
        [
            "LEAK *test_it.py::Test::test_leaky*",
            "LEAK *test_it.py::Async::test_leaky*",
            "clean *test_it.py::Test::test_clean*",
            "clean *test_it.py::Async::test_clean*",
            "clean *test_it.py::test_clean*",
            "clean *test_it.py::test_it.test_clean*",
        ]
    )


def test_a_test_case_that_hangs_fails_by_its_timeout(
    pytester: pytest.Pytester,
) -> None:
    pytest.importorskip("pytest_timeout")
    pytester.makepyfile(
        """
        import asyncio, time, unittest
        import pytest

        @pytest.mark.timeout(2, method="signal")
        class Test(unittest.TestCase):
            def test_hangs(self): time.sleep(60)

        @pytest.mark.timeout(2, method="signal")
        class Async(unittest.IsolatedAsyncioTestCase):
            async def test_hangs(self): await asyncio.sleep(60)
        """
    )
    result = pytester.runpytest_subprocess("--tfleak")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E *Timeout (>2.0s) from pytest-timeout."] * 2)


def test_a_test_case_is_run_again_after_a_failure(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_rerunfailures")
    pytester.makepyfile(
        """
        import unittest
        import pytest

        @pytest.mark.flaky(reruns=2)
        class Test(unittest.TestCase):
            calls = []

            def test_it(self):
                self.calls.append(0)
                assert len(self.calls) > 1
        """
    )
    result = pytester.runpytest_subprocess("--tfleak", "-v")
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    result.stdout.fnmatch_lines(["clean *::test_it*"])


def test_asynchronous_fixtures_are_set_up_for_each_test(
    pytester: pytest.Pytester,
) -> None:
    """With ``repeat="test"``, each iteration has a loop of its own."""
    pytest.importorskip("pytest_asyncio")
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        import pytest_asyncio
        LOOPS, ENDED = [], []

        @pytest_asyncio.fixture
        async def loop_id():
            LOOPS.append(id(asyncio.get_running_loop()))
            yield LOOPS[-1]
            assert id(asyncio.get_running_loop()) == LOOPS[-1]
            ENDED.append(0)

        @pytest.mark.asyncio
        @pytest.mark.tfleak(iterations=5, repeat="test")
        async def test_it(loop_id):
            assert id(asyncio.get_running_loop()) == loop_id

        def test_after():
            assert len(ENDED) == len(LOOPS) >= 10
        """
    )
    result = pytester.runpytest_subprocess("-p", "asyncio", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["clean *"])
