"""The JSON report, read back from real runs: whole, cut short, and full of bad text."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pytest_tfleak.reports.json import read_schema

Run = Callable[..., pytest.RunResult]
SUITE = """
import pytest
from leaks import leak

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_leaky(): leak()

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_clean(): pass

@pytest.mark.tfleak(iterations=3)
def test_short(): pass

@pytest.mark.tfleak(enabled=False, reason="slow")
def test_opted_out(): pass

@pytest.mark.tfleak
def test_fails(): assert 0

@pytest.mark.xfail(strict=True)
@pytest.mark.tfleak(iterations=20)
def test_known(): leak()

def test_twice(tfleak):
    tfleak.check(lambda: None, iterations=10)
    tfleak.check(lambda: None, iterations=11)

def test_plain(): pass
"""
STATUSES = {
    "test_leaky": ["leak"],
    "test_clean": ["clean"],
    "test_short": ["inconclusive"],
    "test_opted_out": ["not_measured"],
    "test_fails": ["not_measured"],
    "test_known": ["leak"],
    "test_twice": ["clean", "clean"],
}
CUT = """
import os, signal, time, pytest
pytestmark = pytest.mark.tfleak(iterations=10)

def test_first(): pass

def test_cut():
    {how}

def test_last():
    time.sleep(0.05)
"""
#: Ways to end a run in the middle of a test.
WAYS = {
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT)",
    "exit": "pytest.exit('enough')",
    "first failure": "assert 0",
}
hears_interrupts = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="Ctrl-C is ignored here, as under nohup",
)
EACH_WAY = [
    pytest.param(way, marks=[hears_interrupts] if way == "Ctrl-C" else [])
    for way in WAYS
]
EVIL = "<script>alert(1)</script>\x1b[31m`|]]>&\udcff\r\n::error::x\x00%0A,:\ufffe"


def strict(schema: Any) -> Any:
    """Return a copy of a schema that allows no unknown keys."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema:
            schema["additionalProperties"] = False
        return schema
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


def read(pytester: pytest.Pytester, name: str = "report.json") -> dict[str, Any]:
    """Read a report strictly as JSON, and check it against its schema."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    text = (pytester.path / name).read_text("ascii")
    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    Draft202012Validator(strict(read_schema())).validate(document)
    return document


def statuses(document: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for test in document["tests"]:
        found.setdefault(test["nodeid"].rpartition("::")[2], []).append(test["status"])
    return found


@pytest.fixture
def suite(pytester: pytest.Pytester, leaks: None) -> pytest.Pytester:
    pytester.makepyfile(test_it=SUITE)
    return pytester


@pytest.fixture(params=["one process", "xdist"])
def run_apart(request: pytest.FixtureRequest, pytester: pytest.Pytester) -> Run:
    """Run pytest in a process of its own, which may be interrupted."""
    if request.param == "one process":
        return pytester.runpytest_subprocess
    pytest.importorskip("xdist")
    return partial(pytester.runpytest_subprocess, "-n2")


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(read_schema())


def test_a_report_holds_every_measured_test(suite: pytest.Pytester, run: Run) -> None:
    result = run("--tfleak-json=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*tfleak: JSON report written to *report.json*"])
    document = read(suite)
    assert document["complete"] is True
    assert document["baseline"] is None
    assert statuses(document) == STATUSES
    assert document["environment"]["pytest"] == pytest.__version__
    assert document["tests"][0]["status"] == "leak"  # the worst first
    leak = document["tests"][0]
    blocks = next(s for s in leak["signals"] if s["name"] == "python.blocks")
    assert len(blocks["series"]) == leak["warmup"] + leak["iterations"]
    found = next(f for f in leak["findings"] if f["signal"] == "python.blocks")
    for figure in ("per_iteration", "total", "allowance"):
        assert found[figure] == blocks[figure]


def test_a_run_without_measured_tests_has_a_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_inprocess("--tfleak-json=report.json")
    assert result.ret == pytest.ExitCode.OK
    document = read(pytester)
    assert document["tests"] == []
    assert document["complete"] is True


@pytest.mark.parametrize("way", EACH_WAY)
def test_what_was_measured_before_a_run_was_cut_short_is_in_the_report(
    pytester: pytest.Pytester, run_apart: Run, way: str
) -> None:
    pytester.makepyfile(test_it=CUT.format(how=WAYS[way]))
    result = run_apart("-x", "--tfleak-json=report.json")
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)
    document = read(pytester)
    assert document["complete"] is False
    found = statuses(document)
    assert found["test_first"] == ["clean"]
    assert found["test_cut"] == ["not_measured"]


def test_an_exit_that_says_all_is_well_leaves_the_report_incomplete(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it=CUT.format(how="pytest.exit('', returncode=0)"))
    result = pytester.runpytest_subprocess("--tfleak-json=report.json")
    assert result.ret == pytest.ExitCode.OK
    assert read(pytester)["complete"] is False


def test_checks_before_an_interrupt_are_in_the_report(
    pytester: pytest.Pytester, run_apart: Run
) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_it(tfleak):
            tfleak.check(lambda: None, iterations=10)
            pytest.exit("enough")
        """
    )
    run_apart("--tfleak-json=report.json")
    document = read(pytester)
    assert [test["status"] for test in document["tests"]] == ["clean"]


def test_a_check_in_a_fixture_that_fails_is_in_the_report(
    pytester: pytest.Pytester, leaks: None, run: Run
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from leaks import leak

        @pytest.fixture
        def model(tfleak):
            tfleak.check(leak, iterations=10)

        def test_it(model): pass
        """
    )
    run("--tfleak-json=report.json").assert_outcomes(errors=1)
    assert statuses(read(pytester)) == {"test_it": ["leak"]}


@pytest.mark.parametrize("dist", ["load", "loadscope"])
def test_a_worker_that_crashes_leaves_what_it_had_sent(
    pytester: pytest.Pytester, dist: str
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(test_it=CUT.format(how="os._exit(7)"))
    # with loadscope, a new worker gets the same test again, and crashes again
    restarts = "--max-worker-restart=1"
    result = pytester.runpytest_inprocess(
        "-n2", f"--dist={dist}", restarts, "--tfleak-json=report.json"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    document = read(pytester)
    assert document["complete"] is False
    assert statuses(document)["test_first"] == ["clean"]
    result.stdout.fnmatch_lines(["*= tfleak =*", "* clean"])


@hears_interrupts
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signals here")
def test_an_interrupted_controller_writes_what_workers_had_sent(
    pytester: pytest.Pytester,
) -> None:
    pytest.importorskip("xdist")
    cut = "os.kill(os.getppid(), signal.SIGINT); time.sleep(30)"
    # run one test at a time, so that the report of the first has arrived
    source = CUT.format(how=cut).replace("iterations=10", "iterations=5, warmup=0")
    pytester.makepyfile(test_it=source)
    result = pytester.runpytest_subprocess("-n1", "--tfleak-json=report.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    document = read(pytester)
    assert document["complete"] is False
    assert statuses(document) == {"test_first": ["clean"]}


@pytest.fixture
def evil(pytester: pytest.Pytester) -> None:
    """Make a suite with the worst possible names and messages."""
    pytester.makeconftest(
        f"""
        from itertools import count
        from pytest_tfleak.testing import FakeProbe

        EVIL = {EVIL!r}

        class EvilProbe(FakeProbe):
            name = EVIL
            def reasons(self):
                return {{"none" + EVIL: EVIL + "y" * 100_000}}
            def notes(self):
                return [EVIL + "n" * 100_000]

        def pytest_tfleak_probes(census):
            series = {{"things" + EVIL: count(), "none" + EVIL: []}}
            return [EvilProbe(series, unit="u" + EVIL)]
        """
    )
    pytester.makepyfile(
        test_it=f"""
        import pytest

        EVIL = {EVIL!r}

        @pytest.mark.tfleak(iterations=10)
        @pytest.mark.parametrize("x", [1], ids=[EVIL])
        def test_evil(x): pass

        @pytest.mark.tfleak(enabled=False, reason=EVIL + "r" * 100_000)
        def test_opted_out(): pass
        """
    )


@pytest.mark.usefixtures("evil")
def test_bad_text_does_no_harm(pytester: pytest.Pytester, run: Run) -> None:
    result = run("-v", "--tfleak-json=report.json")
    result.assert_outcomes(failed=1, passed=1)
    assert "\x1b" not in result.stdout.str()
    assert "\x00" not in result.stdout.str()
    document = read(pytester)
    leak = next(test for test in document["tests"] if test["status"] == "leak")
    shown = EVIL.replace("\udcff", "\\udcff")  # the rest is unchanged
    (finding,) = [f for f in leak["findings"] if f["signal"].startswith("things")]
    assert finding["signal"] == "things" + shown
    assert finding["unit"] == "u" + shown
    assert leak["notes"][0] == shown + "n" * 100_000


def test_collecting_leaves_an_old_report(suite: pytest.Pytester) -> None:
    (suite.path / "report.json").write_text("old")
    suite.runpytest_inprocess("--collect-only", "--tfleak-json=report.json")
    assert (suite.path / "report.json").read_text() == "old"
