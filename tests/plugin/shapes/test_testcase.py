"""A TestCase runs as unittest runs it, with the outcome it has without the plugin."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Run
from tests.plugin.shapes.conftest import Measure

OUTCOMES = """
import unittest
import pytest

class Test(unittest.TestCase):
    def test_passed(self): pass
    def test_failed(self): self.fail()
    def test_skipped(self): self.skipTest("why")
    def test_raises_skip(self): raise unittest.SkipTest("why")
    def test_pytest_skip(self): pytest.skip("why")
    @unittest.skip("why")
    def test_marked_skip(self): pass
    @unittest.expectedFailure
    def test_xfailed(self): self.fail()
    @unittest.expectedFailure
    def test_xpassed(self): pass
    @pytest.mark.xfail
    def test_pytest_xfailed(self): self.fail()
    def test_cleanup_fails(self): self.addCleanup(self.fail)
    def test_subtests(self):
        for number in range(4):
            with self.subTest(number=number):
                if number == 2: self.skipTest("why")
                self.assertNotEqual(number, 1)
    def test_skipped_subtest(self):
        with self.subTest("skipped"): self.skipTest("why")

class SetUpFails(unittest.TestCase):
    def setUp(self): self.fail()
    def test_it(self): pass

class SetUpSkips(unittest.TestCase):
    def setUp(self): self.skipTest("why")
    def test_it(self): pass

class TearDownFails(unittest.TestCase):
    def tearDown(self): raise ValueError
    def test_fails(self): self.fail()
    def test_passes(self): pass

@unittest.skip("why")
class Skipped(unittest.TestCase):
    def test_it(self): pass

class SetUpClassFails(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.fail("why")
    def test_it(self): pass
"""
QUICK = ("--tfleak", "--tfleak-iterations=5", "--tfleak-warmup=2")


def test_outcomes_are_those_without_the_plugin(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(OUTCOMES)
    assert run(*QUICK).parseoutcomes() == run().parseoutcomes()


def test_an_iteration_is_what_unittest_does(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import unittest
        from contextlib import contextmanager
        import pytest
        CALLS = []

        def setUpModule(): CALLS.append("module")
        def tearDownModule():
            assert CALLS[:6] == "module class fixture setUp enter test".split()
            each = CALLS[2:-1]
            assert each[:7] == "fixture setUp enter test exit tearDown cleanup".split()
            assert len(each) % 7 == 0
            assert each == each[:7] * (len(each) // 7)
            assert len(each) >= 7 * 7
            assert CALLS[-1] == "end of class"

        class Test(unittest.TestCase):
            @classmethod
            def setUpClass(cls): CALLS.append("class")
            @classmethod
            def tearDownClass(cls): CALLS.append("end of class")

            @pytest.fixture(autouse=True)
            def fixture(self):
                self.made = []
                CALLS.append("fixture")

            def setUp(self):
                CALLS.append("setUp")
                self.addCleanup(CALLS.append, "cleanup")

            def tearDown(self): CALLS.append("tearDown")

            @contextmanager
            def entered(self):
                CALLS.append("enter")
                yield
                CALLS.append("exit")

            @pytest.mark.tfleak(iterations=5, warmup=2, repeat="body")
            def test_it(self):
                with self.entered():
                    self.made.append(0)
                    CALLS.append("test")
                    assert len(self.made) == 1
        """
    )
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["clean *"])


LATER = """
import unittest
import pytest
{marker}
class Test(unittest.TestCase):
    calls, others = [], []

    def test_fails(self):
        self.calls.append(0)
        assert len(self.calls) < 3

    def test_subtest(self):
        self.others.append(0)
        with self.subTest("later"): assert len(self.others) < 3
"""


def test_a_failure_in_a_later_iteration(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LATER.format(marker=""))
    result = pytester.runpytest(*QUICK, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*passed at first, AssertionError in iteration 3",
            "*passed at first, a subtest failed in iteration *",
        ]
    )
    assert 'repeat="test"' not in result.stdout.str()


def test_a_failure_in_a_later_iteration_with_a_marker(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(LATER.format(marker="@pytest.mark.tfleak"))
    result = pytester.runpytest(*QUICK)
    assert result.parseoutcomes()["failed"] == 2
    result.stdout.fnmatch_lines_random(["FAILED *test_fails*", "SUBFAILED*[[]later]*"])


def test_subtests_are_reported_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import unittest

        class Test(unittest.TestCase):
            def test_it(self):
                for number in range(3):
                    with self.subTest(number=number): pass
        """
    )
    result = pytester.runpytest(*QUICK, "-v")
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("SUBPASSED") == 3
    result.stdout.fnmatch_lines(["clean *"])


def test_an_inherited_method_that_skips_itself_is_not_listed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's TestCase has such a method, ``test_session``."""
    installed = pytester.mkdir("site-packages")
    (installed / "library.py").write_text(
        "import unittest\n"
        "class TestCase(unittest.TestCase):\n"
        "    def setUp(self):\n"
        "        if self.id().endswith('.test_session'): self.skipTest('Not a test.')\n"
        "    def test_session(self): pass\n"
    )
    monkeypatch.syspath_prepend(installed)
    pytester.makepyfile(
        """
        import library

        class Test(library.TestCase):
            def test_it(self): self.skipTest("later")
        """
    )
    result = pytester.runpytest(*QUICK)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["NOT MEASURED*Test::test_it*"])
    result.stdout.no_fnmatch_line("*test_session*")


def test_what_another_plugin_keeps_of_the_first_instance_is_no_leak(
    measure: Measure,
) -> None:
    """The plugin ``flaky`` keeps it so while the test runs."""
    conftest = """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(item):
            kept = item.instance
            result = yield
            del kept
            return result
        """
    test = """
        import tensorflow as tf
        import unittest

        class Test(unittest.TestCase):
            def setUp(self):
                self.graph = tf.Graph()
                with self.graph.as_default():
                    self.y = tf.constant(1.0)

            def test_it(self):
                with tf.compat.v1.Session(graph=self.graph) as session:
                    session.run(self.y)
        """
    verdicts = measure({"conftest": conftest, "test_it": test})
    assert verdicts == {"test_it.py::Test::test_it": "clean"}
