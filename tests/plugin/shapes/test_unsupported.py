"""Tests that cannot be repeated: they run once, and a marker on them is an error."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Run

MARKER = "@pytest.mark.tfleak"
SOURCE = """
import unittest
import pytest
{0}

class Test(unittest.TestCase):
    {1}
    def test_yields(self): yield

{1}
def test_with_fixture(tfleak):
    assert tfleak.check(lambda: None, iterations=5).status == "clean"
"""


def test_a_marker_on_such_a_test_is_an_error_at_collection(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(test_it=SOURCE.format("", MARKER))
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines_random(
        [
            "*test_it.py::Test::test_yields: the tfleak marker does not support *",
            "*test_it.py::test_with_fixture: the tfleak marker cannot be combined *",
        ]
    )


@pytest.mark.parametrize("marker", ["", "pytestmark = pytest.mark.tfleak"])
@pytest.mark.filterwarnings("ignore:It is deprecated to return a value")
def test_without_a_marker_of_its_own_it_runs_once_and_is_listed(
    pytester: pytest.Pytester, run: Run, marker: str
) -> None:
    pytester.makepyfile(test_it=SOURCE.format(marker, ""))
    result = run("--tfleak", "-v")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines_random(
        [
            "NOT MEASURED*test_it.py::Test::test_yields*",
            "*does not support tests that yield*",
            "NOT MEASURED*test_it.py::test_with_fixture*",
            "*uses the tfleak fixture*",
            "clean*test_it.py::test_with_fixture*",
        ]
    )


def test_an_opted_out_or_skipped_test_need_not_be_measurable(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.tfleak(enabled=False)
        def test_opted_out(tfleak): pass

        @pytest.mark.skip(reason="later")
        @pytest.mark.tfleak
        def test_skipped(tfleak): pass
        """
    )
    pytester.runpytest().assert_outcomes(passed=1, skipped=1)


def test_an_item_of_another_plugin_runs_once(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        class Item(pytest.Item):
            def runtest(self): pass

        class File(pytest.File):
            def collect(self):
                yield Item.from_parent(self, name="item")

        def pytest_collect_file(file_path, parent):
            if file_path.suffix == ".item":
                return File.from_parent(parent, path=file_path)
        """
    )
    pytester.makefile(".item", test_it="")
    result = pytester.runpytest("--tfleak")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["NOT MEASURED*test_it.item::item*", "*type Item*"])


def test_a_benchmark_runs_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pytest_benchmark")
    pytester.makepyfile("def test_it(benchmark): benchmark(len, [])")
    result = pytester.runpytest_subprocess("--tfleak", "--benchmark-disable")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["NOT MEASURED*test_it*", "*the benchmark fixture"])
