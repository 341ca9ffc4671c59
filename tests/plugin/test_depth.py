"""How often a test is called at each depth, and how the depth is chosen."""

from __future__ import annotations

import pytest

#: Writes how often each test was called.
CALLS = """
import collections, pathlib

calls = collections.Counter()

def count(name):
    calls[name] += 1
    text = " ".join(f"{name}={count}" for name, count in sorted(calls.items()))
    pathlib.Path("calls.txt").write_text(text)
"""
SUITE = """
import pytest
from counting import count

KEPT = []

def test_plain():
    count("plain")

@pytest.mark.tfleak
def test_marked():
    count("marked")

@pytest.mark.tfleak(depth="quick")
def test_quick():
    count("quick")

@pytest.mark.tfleak(iterations=12, warmup=1)
def test_twelve():
    count("twelve")

def test_growing():
    count("growing")
    KEPT.append([object() for _ in range(200)])
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(counting=CALLS, test_it=SUITE)
    return pytester


def calls(suite: pytest.Pytester, *options: str) -> dict[str, int]:
    # not in this process, where pytester keeps an object for each call of a hook
    suite.runpytest_subprocess("--tfleak-diagnose=off", *options)
    pairs = (pair.split("=") for pair in (suite.path / "calls.txt").read_text().split())
    return {name: int(count) for name, count in pairs}


def test_tfleak_alone_is_quick_and_a_marker_full(suite: pytest.Pytester) -> None:
    found = calls(suite, "--tfleak")
    assert found["plain"] == found["quick"] == 2 + 6
    assert found["marked"] == 5 + 50
    assert found["twelve"] == 1 + 12
    assert found["growing"] >= 5 + 50 + 50


def test_without_tfleak_only_marked_tests_are_repeated(suite: pytest.Pytester) -> None:
    found = calls(suite)
    assert (found["plain"], found["marked"], found["quick"]) == (1, 55, 8)


@pytest.mark.parametrize("is_ini", [False, True])
def test_a_depth_that_is_set_is_that_of_markers_without_one(
    suite: pytest.Pytester, is_ini: bool
) -> None:
    if is_ini:
        suite.makeini("[pytest]\ntfleak_depth = quick")
    found = calls(suite, *([] if is_ini else ["--tfleak-depth=quick"]))
    assert (found["plain"], found["marked"], found["twelve"]) == (1, 8, 7)


def test_full_measures_every_test_to_the_end(suite: pytest.Pytester) -> None:
    found = calls(suite, "--tfleak", "--tfleak-depth=full", "-k", "not growing")
    assert (found["plain"], found["marked"], found["quick"]) == (55, 55, 8)


def test_a_number_of_iterations_on_the_command_line_is_exact(
    suite: pytest.Pytester,
) -> None:
    options = ["--tfleak", "--tfleak-iterations=9", "-k", "not growing"]
    found = calls(suite, *options)
    assert (found["plain"], found["marked"], found["quick"]) == (14, 14, 14)
    assert found["twelve"] == 13  # a marker overrides the command line
    found = calls(suite, *options, "--tfleak-depth=leftovers")
    assert (found["plain"], found["marked"], found["quick"]) == (9, 9, 14)


def test_leftovers_calls_each_test_once(suite: pytest.Pytester) -> None:
    found = calls(suite, "--tfleak", "--tfleak-depth=leftovers")
    assert found == {"plain": 1, "marked": 1, "twelve": 1, "quick": 8, "growing": 1}


def test_a_verdict_says_on_how_many_iterations_it_stands(
    suite: pytest.Pytester,
) -> None:
    result = suite.runpytest_subprocess("--tfleak", "-v", "-k", "plain or marked")
    result.stdout.fnmatch_lines_random(["*6 iterations; *", "*50 iterations; *"])
    result = suite.runpytest_inprocess(
        "--tfleak", "-v", "--tfleak-depth=leftovers", "-k", "plain"
    )
    line = "clean *test_plain*1 call; nothing is left open past its allowance"
    result.stdout.fnmatch_lines([line])


def test_what_is_left_open_as_allowed_is_noted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import threading
        import pytest

        @pytest.mark.tfleak(depth="leftovers", threads=1)
        def test_it():
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        """
    )
    result = pytester.runpytest_subprocess("-vv")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*process.threads: 1 left open, which threads=1 allows.*"]
    )


def test_an_unknown_depth_is_a_usage_error(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--tfleak", "--tfleak-depth=deep")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*depth='deep'*leftovers*quick*full*"])


def test_every_shape_of_test_can_be_judged_by_what_it_leaves(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it="""
        import threading, unittest
        import pytest

        stop = threading.Event()

        def start_thread():
            threading.Thread(target=stop.wait, daemon=True).start()

        class TestCase(unittest.TestCase):
            def test_leaves(self):
                start_thread()

            def test_clean(self):
                pass

            def test_fails(self):
                self.fail("on its own")

            def test_skips(self):
                self.skipTest("not here")

        @pytest.fixture(scope="module")
        def pool():
            threads = []
            yield threads

        def test_a_module_fixture_holds_it(pool):
            pool.append(threading.Thread(target=stop.wait, daemon=True))
            pool[-1].start()

        @pytest.fixture
        def closing():
            own = threading.Event()
            yield own
            own.set()

        def test_the_teardown_ends_it(closing):
            threading.Thread(target=closing.wait).start()

        def test_tmp_path_is_there(tmp_path):
            start_thread()
            assert tmp_path.exists()

        def test_end():
            stop.set()
        """
    )
    result = pytester.runpytest_inprocess("--tfleak", "--tfleak-depth=leftovers", "-v")
    result.assert_outcomes(passed=4, failed=3, skipped=1)
    result.stdout.fnmatch_lines_random(
        [
            "*TestCase::test_leaves LEAK*",
            "*TestCase::test_clean PASSED*",
            "*TestCase::test_fails FAILED*",
            "*TestCase::test_skips SKIPPED*",
            "*test_tmp_path_is_there LEAK*",
            "LEAK*test_leaves*1 running (process.threads)",
            "NOT MEASURED*test_fails*",
        ]
    )


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    found = result.parseoutcomes()
    found.pop("warnings", None)
    return found


@pytest.mark.parametrize("depth", ["leftovers", "full"])
def test_a_testcase_that_calls_the_library_has_its_own_outcome(
    pytester: pytest.Pytester, depth: str
) -> None:
    pytester.makepyfile(
        """
        import unittest
        from pytest_tfleak import find_leaks

        class TestCase(unittest.TestCase):
            def test_passes(self):
                find_leaks(lambda: None, iterations=5)

            def test_fails(self):
                find_leaks(lambda: None, iterations=5)
                self.assertEqual(1, 2)
        """
    )
    result = pytester.runpytest_inprocess("--tfleak", f"--tfleak-depth={depth}")
    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.no_fnmatch_line("*NestedMeasurementError*")


def test_what_dies_with_the_test_is_not_left(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import threading
        import pytest

        stop = threading.Event()

        class Server:
            def __init__(self):
                self.itself = self  # a cycle, which only the collector frees

        KEPT = []

        class TestIt:
            def test_instance(self, tmp_path):
                self.log = open(tmp_path / "log.txt", "w")

            def test_global(self):
                self.kept = KEPT  # it outlives the instance
                self.kept.append(threading.Thread(target=stop.wait, daemon=True))
                KEPT[-1].start()

        @pytest.fixture
        def server():
            return Server()

        def test_fixture(server):
            server.thread = threading.Thread(target=print)

        @pytest.fixture
        def failing():
            yield
            raise OSError("on teardown")

        def test_teardown_fails(failing):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        """
    )
    # not in this process, where a later test would be blamed for the file
    options = ["--tfleak", "--tfleak-depth=leftovers", "-v"]
    result = pytester.runpytest_subprocess(*options)
    assert outcomes(result) == {"passed": 2, "failed": 2, "errors": 1}
    result.stdout.fnmatch_lines(
        [
            "*test_instance PASSED*",
            "*test_global LEAK*",
            "*test_fixture PASSED*",
            "*test_teardown_fails LEAK*",
            "*test_teardown_fails ERROR*",
            "*OSError: on teardown*",
        ]
    )


def test_several_calls_at_leftovers_are_made_as_the_shape_of_the_test_demands(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it="""
        import unittest

        def double(number):
            '''
            >>> double(2)
            4
            '''
            return 2 * number

        class TestCase(unittest.TestCase):
            def test_new_instance(self):
                assert not hasattr(self, "called")
                self.called = True

        def test_once(tmp_path):
            (tmp_path / "new").mkdir()
        """
    )
    result = pytester.runpytest_inprocess(
        "--tfleak",
        "--tfleak-depth=leftovers",
        "--tfleak-iterations=3",
        "--doctest-modules",
        "-v",
    )
    assert outcomes(result) == {"passed": 3}
    result.stdout.fnmatch_lines(["*NOT MEASURED *", "*FileExistsError in iteration 2*"])


def test_options_on_memory_do_not_matter_at_leftovers(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess(
        "--tfleak",
        "--tfleak-depth=leftovers",
        "--tfleak-gpu-process=1MiB",
        "--tfleak-require-gpu",
    )
    assert outcomes(result) == {"passed": 1}
