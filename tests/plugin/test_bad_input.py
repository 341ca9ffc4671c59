"""Mistakes end the run before the first test, in pytest's own way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]
BYTES = 'expected 4096 or "4 KiB" (units: B, KB, MB, GB, KiB, MiB, GiB)'
MISTAKES = [
    ("iterations=0", "iterations=0: expected a whole number, 1 or more"),
    (
        "iterations=2147483647",
        "iterations=2147483647: expected a whole number, 100000 or less",
    ),
    ("warmup=-1", "warmup=-1: expected a whole number, 0 or more"),
    ("warmup=True", "warmup=True: expected a whole number, 0 or more"),
    ("host_per_iteration='4 KBs'", f"host_per_iteration='4 KBs': {BYTES}"),
    ("gpu_per_iteration=-5", f"gpu_per_iteration=-5: {BYTES}"),
    ("strict='maybe'", "strict='maybe': expected true or false"),
    ("repeat='twice'", 'repeat=\'twice\': expected one of "body", "test"'),
    (
        "itertions=5",
        "unknown keyword 'itertions' (did you mean 'iterations'?); allowed",
    ),
    ("all_tests=True", "unknown keyword 'all_tests'"),
    ("30", "takes keywords only, got 30; for example: tfleak(iterations=20)"),
    ("reason='slow'", "reason is for enabled=False"),
    ("enabled=False, iterations=5", "enabled=False contradicts iterations"),
]
SOURCE = """
import pathlib, pytest

def test_first():
    pathlib.Path("ran").touch()

@pytest.mark.tfleak({})
def test_bad():
    pathlib.Path("ran").touch()
"""


def assert_usage_error(result: pytest.RunResult, *lines: str) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    everything = result.stdout.str() + result.stderr.str()
    for line in lines:
        assert line in everything
    assert "INTERNALERROR" not in everything
    assert "Traceback" not in everything


@pytest.mark.parametrize(("keywords", "message"), MISTAKES)
def test_a_bad_marker_is_named_with_what_is_allowed(
    pytester: pytest.Pytester, keywords: str, message: str
) -> None:
    path = pytester.makepyfile(SOURCE.format(keywords))
    result = pytester.runpytest()
    assert_usage_error(result, f"{path.name}::test_bad: tfleak marker: {message}")
    assert not (pytester.path / "ran").exists()


def test_all_bad_markers_are_named_at_once(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(
        test_it="""
        import pathlib, pytest
        mark = pytest.mark.tfleak

        @mark(iterations=0)
        def test_a(): pass

        @mark(fdz=1)
        def test_b(): pass

        @mark(blocks=-1)
        @pytest.mark.parametrize("x", range(4))
        def test_c(x): pass

        def test_good(): pathlib.Path("ran").touch()
        """
    )
    result = run("-k", "test_good")  # the mistake is in a test that is not selected
    assert_usage_error(
        result,
        "ERROR: test_it.py::test_a: tfleak marker: iterations=0: expected",
        "ERROR: test_it.py::test_b: tfleak marker: unknown keyword 'fdz' (did you mean",
        "ERROR: test_it.py::test_c[0] (and 3 more): tfleak marker: blocks=-1: expected",
    )
    assert not (pytester.path / "ran").exists()


@pytest.mark.parametrize(
    "decorators",
    [
        "@tfleak(iterations=5)\n@tfleak(iterations=6)\ndef test_it(): pass",
        "@tfleak(iterations=5)\n@tfleak(enabled=False)\ndef test_it(): pass",
        "pytestmark = [tfleak(fds=5), tfleak(fds=6)]\ndef test_it(): pass",
        "@tfleak(fds=5)\n@tfleak(fds=6)\nclass TestIt:\n    def test_it(self): pass",
    ],
    ids=["function", "opted out", "module", "class"],
)
def test_markers_of_one_level_that_contradict_each_other_are_a_mistake(
    pytester: pytest.Pytester, decorators: str
) -> None:
    pytester.makepyfile(f"import pytest\ntfleak = pytest.mark.tfleak\n{decorators}")
    result = pytester.runpytest()
    assert_usage_error(result, "test_it: tfleak marker: two markers contradict each")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--tfleak-iterations=abc",
            "iterations='abc': expected a whole number, 1 or more",
        ),
        (
            "--tfleak-max-time=soon",
            'max_time=\'soon\': expected 30, "30 s" or "5 min"',
        ),
    ],
)
def test_a_bad_value_on_the_command_line_is_named(
    pytester: pytest.Pytester, argument: str, message: str
) -> None:
    pytester.makepyfile(SOURCE.format(""))
    result = pytester.runpytest(argument)
    assert_usage_error(result, f"ERROR: tfleak command line: {message}")
    assert not (pytester.path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("iterations", "abc", "expected"),
        ("iterations", "0", "expected a whole number, 1 or more"),
        ("strict", "maybe", "expected true | false"),
        ("host_total", "4 KBs", BYTES),
    ],
)
def test_a_bad_value_in_the_ini_file_is_named(
    pytester: pytest.Pytester, name: str, value: str, allowed: str
) -> None:
    pytester.makeini(f"[pytest]\ntfleak_{name} = {value}")
    pytester.makepyfile(SOURCE.format(""))
    result = pytester.runpytest()
    assert_usage_error(result, f"tfleak ini: {name}", value, allowed)


def test_a_bad_value_on_the_command_line_is_named_once_under_xdist(
    pytester: pytest.Pytester,
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(SOURCE.format(""))
    result = pytester.runpytest("-n2", "--tfleak-iterations=abc")
    assert_usage_error(result)
    assert result.stderr.str().count("iterations='abc'") == 1


def test_a_bad_marker_that_a_fixture_adds_fails_its_test(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def bad(request):
            request.applymarker(pytest.mark.tfleak(iterations=0))

        def test_it(bad): pass
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["tfleak marker: iterations=0: expected *"])


TWICE = """
    from itertools import repeat
    from pytest_tfleak.testing import FakeProbe

    def pytest_tfleak_probes(census):
        return [FakeProbe({"tf.tensors": repeat(1)})]
"""


def test_a_signal_that_two_probes_read_ends_the_run_before_a_test(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makeconftest(TWICE)
    pytester.makepyfile(
        test_it="""
        import pathlib, pytest

        def test_first(): pathlib.Path("ran").touch()

        @pytest.mark.tfleak(iterations=5)
        def test_it(): pass
        """
    )
    assert_usage_error(
        run(), "tfleak: two probes read a signal named 'tf.tensors': 'tensorflow' and"
    )
    assert not (pytester.path / "ran").exists()


@pytest.mark.parametrize(
    ("field", "mistake"),
    [
        ("allowance='handles'", "allowance='handles'; it must be a number, None, or"),
        ("allowance='2 KiB'", "the name of an option: blocks, children,"),
        ("allowance=-1", "allowance=-1; it must be"),
        ("allowance=['threads']", "allowance=['threads']; it must be"),
        ("total='max_time'", "total='max_time'; it must be None or the name of an"),
        ("nature='certain'", "nature='certain'; it must be 'exact' or 'noisy'"),
    ],
)
def test_a_signal_that_cannot_be_judged_ends_the_run_before_a_test(
    pytester: pytest.Pytester, field: str, mistake: str
) -> None:
    pytester.makeconftest(
        f"""
        from pytest_tfleak.testing import FakeProbe
        from pytest_tfleak.trace import Signal

        class Own(FakeProbe):
            name = "app"

            def signals(self):
                return [Signal(name="app.handles", unit="handles", {field})]

        def pytest_tfleak_probes(census):
            return [Own({{}})]
        """
    )
    pytester.makepyfile(
        """
        import pathlib, pytest

        @pytest.mark.tfleak(iterations=5)
        def test_it(): pathlib.Path("ran").touch()
        """
    )
    result = pytester.runpytest_inprocess()
    start = "tfleak: the probe 'app' has a signal 'app.handles' with "
    assert_usage_error(result, start, mistake)
    assert not (pytester.path / "ran").exists()


def test_probes_matter_only_where_a_test_is_measured(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(TWICE)
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest().assert_outcomes(passed=1)
