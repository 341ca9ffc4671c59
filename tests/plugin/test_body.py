"""How often the body runs, and which fixtures are set up for it."""

from __future__ import annotations

import pytest

MARKED = "@pytest.mark.tfleak(iterations=6, warmup=2)"


def run_source(pytester: pytest.Pytester, source: str, *args: str) -> pytest.RunResult:
    pytester.makepyfile(f"import pytest\nevents = []\n{source}")
    return pytester.runpytest(*args)


def test_the_body_runs_warmup_and_iterations_times(pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.parametrize("x", "ab")
@pytest.mark.tfleak(iterations=6, warmup=2)
def test_it(x): events.append(x)

@pytest.mark.tfleak(iterations=1, warmup=0)
def test_once(): events.append("once")

def test_plain(): events.append("plain")

def test_after():
    assert events == ["a"] * 8 + ["b"] * 8 + ["once", "plain"]
"""
    run_source(pytester, source).assert_outcomes(passed=5)


def test_a_suspected_body_runs_as_often_again(
    pytester: pytest.Pytester, leaks: None
) -> None:
    source = """
from leaks import leak

@pytest.mark.tfleak(iterations=20, warmup=2, diagnose="off")
def test_it(): leak(); events.append(0)

def test_after(): assert len(events) == 2 + 20 + 20
"""
    run_source(pytester, source).assert_outcomes(failed=1, passed=1)


def test_fixtures_are_set_up_once_for_all_bodies(pytester: pytest.Pytester) -> None:
    source = """
@pytest.fixture
def value():
    events.append("up")
    yield object()
    events.append("down")

@pytest.mark.tfleak(iterations=3, warmup=1)
class TestClass:
    @pytest.fixture(scope="class", autouse=True)
    def classy(self): events.append("class")

    def setup_method(self): events.append("setup_method"); self.number = 0

    def test_it(self, value, request):
        self.number += 1
        events.append(self.number)
        assert request.node.name == "test_it"

def test_after():
    assert events == ["class", "setup_method", "up", 1, 2, 3, 4, "down"]
"""
    run_source(pytester, source).assert_outcomes(passed=2)


REPEAT_TEST = """
@pytest.fixture(scope="module", autouse=True)
def once(): events.append("module")

@pytest.fixture
def value(tmp_path):
    (tmp_path / "made").mkdir()
    events.append("up")
    yield len(events)
    events.append("down")
"""


def test_repeat_test_sets_its_own_fixtures_up_for_each_iteration(
    pytester: pytest.Pytester,
) -> None:
    source = f"""{REPEAT_TEST}
@pytest.mark.tfleak(iterations=2, warmup=1, repeat="test")
class TestClass:
    def setup_method(self): events.append("setup_method"); self.fresh = True
    def teardown_method(self): events.append("teardown_method")

    def test_it(self, value, monkeypatch, recwarn, capsys, subtests):
        assert self.fresh
        self.fresh = False
        monkeypatch.setenv("TFLEAK_TEST", "1")
        events.append("body")

def test_after():
    once = ["setup_method", "up", "body", "down", "teardown_method"]
    assert events == ["module"] + 3 * once
"""
    if pytest.version_tuple < (9,):
        source = source.replace(", subtests", "")
    run_source(pytester, source).assert_outcomes(passed=2)


def test_repeat_test_reports_a_fixture_that_fails_in_a_later_setup(
    pytester: pytest.Pytester,
) -> None:
    source = """
@pytest.fixture
def flaky():
    events.append("up")
    assert len(events) < 5, "third setup"
    yield
    events.append("down")

@pytest.mark.tfleak(iterations=6, warmup=1, repeat="test")
def test_it(flaky): pass

@pytest.mark.tfleak(iterations=6, warmup=1)
def test_after(): pass
"""
    result = run_source(pytester, source)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*third setup*", "NOT MEASURED*test_it*"])
    result.stdout.fnmatch_lines(["*first, AssertionError in iteration 3*"])


def test_repeat_test_reports_a_fixture_that_fails_in_teardown(
    pytester: pytest.Pytester,
) -> None:
    source = """
@pytest.fixture
def flaky():
    yield
    raise OSError("teardown")

@pytest.mark.tfleak(iterations=6, warmup=1, repeat="test")
def test_it(flaky): pass

@pytest.mark.tfleak(iterations=6, warmup=1, repeat="test")
def test_after(tmp_path): pass
"""
    result = run_source(pytester, source)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*OSError: teardown*"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_repeat_test_fails_a_fixture_that_piles_up(
    pytester: pytest.Pytester, leaks: None
) -> None:
    source = """
from leaks import leak

@pytest.fixture
def leaky(): leak()

@pytest.mark.tfleak(iterations=20, warmup=2, repeat="test")
def test_leaky(leaky): pass

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_body_alone(leaky): pass
"""
    pytester.makepyfile(test_it=f"import pytest\n{source}")
    result = pytester.runpytest_subprocess()  # in process, pytester records hooks
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["LEAK*test_it.py::test_leaky*python.blocks*"])


def test_a_returned_value_warns_as_in_pytest(pytester: pytest.Pytester) -> None:
    source = f"{MARKED}\ndef test_it(): return 4"
    result = run_source(pytester, source, "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*PytestReturnNotNoneWarning*"])


def test_a_body_that_patches_what_we_use_is_measured(
    pytester: pytest.Pytester,
) -> None:
    source = f"""
import gc, sys, time
{MARKED}
def test_it(monkeypatch):
    def fail(*args): raise OSError
    monkeypatch.setattr(time, "perf_counter", fail)
    monkeypatch.setattr(gc, "collect", fail)
    monkeypatch.setattr(sys, "getallocatedblocks", fail)
    monkeypatch.setitem(sys.modules, "tensorflow", object())
"""
    result = run_source(pytester, source, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["clean*::test_it*"])


def test_what_a_fixture_records_in_all_calls_is_no_leak_of_the_test(
    pytester: pytest.Pytester,
) -> None:
    source = """
class Call:
    pass

class Recorder:
    def __init__(self):
        self.calls = []

    def send(self):
        self.calls.append(Call())

@pytest.fixture
def own(): return Recorder()

@pytest.fixture(scope="module")
def shared(): return Recorder()

@pytest.mark.tfleak(iterations=20)
def test_own(own): own.send()

@pytest.mark.tfleak(iterations=20)
class TestIt:
    def setup_method(self): self.recorder = Recorder()

    def test_instance(self): self.recorder.send()

@pytest.mark.tfleak(iterations=20)
def test_shared(shared): shared.send()
"""
    pytester.makepyfile(test_it=f"import pytest\n{source}")
    result = pytester.runpytest_subprocess("-rA")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*_ test_shared _*", "LEAK: python.objects *"])
