"""JUnit files, read back: figures of each test as properties, failures in full."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from junitparser import xunit2

from pytest_tfleak.reports import junit
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_verdict

Run = Callable[..., pytest.RunResult]
FILES = ("--junitxml=junit.xml", "--tfleak-json=report.json")
SUITE = """
import pytest
from leaks import leak

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_leaky(): leak()

@pytest.mark.tfleak(iterations=20, warmup=2)
def test_clean(): pass

@pytest.fixture(autouse=True)
def own(request):
    if request.node.name == "test_clean":
        request.node.user_properties.append(("own", "kept"))

@pytest.mark.tfleak(iterations=3)
def test_short(): pass

@pytest.mark.tfleak(enabled=False, reason="slow")
def test_opted_out(): pass

def test_twice(tfleak):
    tfleak.check(lambda: None, iterations=10)
    tfleak.check(lambda: None, iterations=11)

def test_plain(): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, leaks: None) -> pytest.Pytester:
    pytester.makepyfile(test_it=SUITE)
    return pytester


def cases(pytester: pytest.Pytester) -> dict[str, Any]:
    suites = xunit2.JUnitXml.fromfile(str(pytester.path / "junit.xml"))
    return {case.name: case for suite in suites for case in suite}


def properties(case: Any) -> dict[str, str]:
    pairs = [(p.name, p.value) for p in case.properties()]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def entries(pytester: pytest.Pytester) -> dict[str, list[dict[str, Any]]]:
    """Return the entries in the JSON report of the same run, by name of the test."""
    found: dict[str, list[dict[str, Any]]] = {}
    for test in json.loads((pytester.path / "report.json").read_text())["tests"]:
        found.setdefault(test["nodeid"].rpartition("::")[2], []).append(test)
    return found


@pytest.mark.usefixtures("diagnosed")
@pytest.mark.parametrize(
    "family", [pytest.param("xunit1", marks=pytest.mark.slow), "xunit2"]
)
def test_properties_agree_with_the_json_report_to_the_digit(
    suite: pytest.Pytester, run: Run, family: str
) -> None:
    run(*FILES, "-o", f"junit_family={family}")
    in_junit, in_json = cases(suite), entries(suite)
    assert set(in_json) == set(in_junit) - {"test_plain"}
    assert not properties(in_junit["test_plain"])
    for name in ("test_leaky", "test_clean", "test_short", "test_opted_out"):
        found, (test,) = properties(in_junit[name]), in_json[name]
        assert json.loads(found["tfleak.verdict"]) == test
        assert found["tfleak.status"] == test["status"]
        assert found["tfleak.depth"] == test["depth"]
        assert found["tfleak.seconds"] == json.dumps(test["seconds"])
        for finding in test["findings"]:
            if finding["signal"] == found["tfleak.signal"]:
                assert found["tfleak.rate"] == json.dumps(finding["per_iteration"])
                assert found["tfleak.cause"] == finding["cause"]


@pytest.mark.usefixtures("diagnosed")
def test_properties_say_what_was_found(suite: pytest.Pytester) -> None:
    suite.runpytest_inprocess(*FILES)
    found = {name: properties(case) for name, case in cases(suite).items()}
    leaky = {k.removeprefix("tfleak."): v for k, v in found["test_leaky"].items()}
    assert float(leaky.pop("rate")) > 64
    assert float(leaky.pop("seconds")) > 0
    assert json.loads(leaky.pop("verdict"))["status"] == "leak"
    assert leaky == {
        "status": "leak",
        "door": "marker",
        "depth": "full",
        "signal": "python.blocks",
        "unit": "blocks",
        "holder": "leaks.KEPT",
        "line": "leaks.py:4",
        "cause": "object-kept",
    }
    assert set(found["test_clean"]) == {
        *("tfleak.status", "tfleak.door", "tfleak.depth", "tfleak.seconds"),
        *("tfleak.verdict", "own"),
    }
    assert found["test_clean"]["own"] == "kept"
    assert found["test_short"]["tfleak.reason"] == "too_few_iterations"
    assert found["test_opted_out"]["tfleak.detail"] == "slow"


def test_the_door_is_what_asked_for_the_measurement(
    suite: pytest.Pytester, run: Run
) -> None:
    run(*FILES, "--tfleak", "--tfleak-depth=leftovers")
    found = {name: properties(case) for name, case in cases(suite).items()}
    assert found["test_plain"]["tfleak.door"] == "--tfleak"
    assert found["test_clean"]["tfleak.door"] == "marker"
    assert found["test_opted_out"]["tfleak.door"] == "marker"
    assert found["test_twice"]["tfleak.door"] == "fixture"
    assert found["test_twice"]["tfleak.2.door"] == "fixture"
    assert found["test_twice"]["tfleak.3.door"] == "--tfleak"
    assert found["test_plain"]["tfleak.depth"] == "leftovers"


def test_what_is_left_has_a_number_and_no_rate() -> None:
    left = make_finding("tf.sessions", None, total=2)
    found = dict(junit.properties(make_leak(left)))
    assert (found["tfleak.left"], found["tfleak.unit"]) == ("2", left.unit)
    assert "tfleak.rate" not in found


def test_findings_that_fail_nothing_are_only_in_the_whole_verdict() -> None:
    accepted = make_finding(accepted=True, baseline="accepted")
    found = dict(junit.properties(make_verdict(findings=(accepted,))))
    assert "tfleak.signal" not in found
    (finding,) = json.loads(found["tfleak.verdict"])["findings"]
    assert finding["baseline"] == "accepted"


def test_a_failure_carries_the_whole_message(suite: pytest.Pytester, run: Run) -> None:
    run(*FILES)
    (failure,) = cases(suite)["test_leaky"].result
    assert failure.message.startswith("python.blocks +")
    assert "@pytest.mark.tfleak(blocks=" in failure.text
    assert "warm-up" in failure.text


def test_several_verdicts_of_a_test_are_numbered(
    suite: pytest.Pytester, run: Run
) -> None:
    run(*FILES)
    found = properties(cases(suite)["test_twice"])
    first, second = entries(suite)["test_twice"]
    verdicts = [found["tfleak.verdict"], found["tfleak.2.verdict"]]
    assert sorted(verdicts) == sorted(
        json.dumps(test, separators=(",", ":")) for test in (first, second)
    )
    assert [json.loads(verdict)["iterations"] for verdict in verdicts] == [10, 11]


@pytest.mark.parametrize(
    ("ini", "args"),
    [
        ("tfleak_junit = off", []),
        pytest.param("tfleak_junit = false", [], marks=pytest.mark.slow),
        pytest.param("", ["--tfleak-junit=off"], marks=pytest.mark.slow),
    ],
    ids=["ini", "ini, as a truth value", "command line"],
)
def test_properties_can_be_switched_off(
    suite: pytest.Pytester, run: Run, ini: str, args: list[str]
) -> None:
    suite.makeini(f"[pytest]\n{ini}")
    run("--junitxml=junit.xml", *args)
    found = {name: properties(case) for name, case in cases(suite).items()}
    assert {name for name, pairs in found.items() if pairs} == {"test_clean"}
    assert found["test_clean"] == {"own": "kept"}


def test_other_reporters_get_properties_only_beside_a_junit_file(
    suite: pytest.Pytester,
) -> None:
    suite.makeconftest(
        """
        def pytest_runtest_logreport(report):
            names = [name for name, _ in report.user_properties]
            assert names in ([], ["own"]), names
        """
    )
    result = suite.runpytest_inprocess("--tfleak-json=report.json")
    result.assert_outcomes(failed=1, passed=5)


def test_a_test_that_is_run_again_has_the_properties_of_its_last_run(
    suite: pytest.Pytester,
) -> None:
    suite.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            runtestprotocol(item, nextitem=nextitem, log=False)
            item._initrequest()
        """
    )
    suite.runpytest_inprocess(*FILES, "-k", "short or twice")
    found = {name: properties(case) for name, case in cases(suite).items()}
    assert "tfleak.2.verdict" not in found["test_short"]
    assert "tfleak.2.verdict" in found["test_twice"]
    assert "tfleak.3.verdict" not in found["test_twice"]


def test_a_teardown_that_fails_keeps_the_properties(
    pytester: pytest.Pytester, leaks: None, run: Run
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from leaks import leak

        @pytest.fixture
        def model():
            yield
            assert 0

        @pytest.mark.tfleak(iterations=20)
        def test_it(model): leak()
        """
    )
    run(*FILES).assert_outcomes(failed=1, errors=1)
    suites = xunit2.JUnitXml.fromfile(str(pytester.path / "junit.xml"))
    failed = next(c for suite in suites for c in suite if c.is_failure)
    assert properties(failed)["tfleak.status"] == "leak"


def test_bad_text_gives_well_formed_xml(pytester: pytest.Pytester, run: Run) -> None:
    evil = "<b>\x1b[31m|]]>&\udcff\r\n\x00\ufffe\"'"
    pytester.makeconftest(
        f"""
        from itertools import count
        from pytest_tfleak.testing import FakeProbe

        def pytest_tfleak_probes(census):
            series = {{"things" + {evil!r}: count(), "more" + "x" * 100_000: count()}}
            return [FakeProbe(series, unit={evil!r})]
        """
    )
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.tfleak(iterations=10)
        @pytest.mark.parametrize("x", [1], ids=[{evil!r}])
        def test_it(x): pass

        @pytest.mark.tfleak(enabled=False, reason={evil!r})
        def test_opted_out(): pass
        """
    )
    run(*FILES)
    by_name = cases(pytester)
    opted_out = properties(by_name.pop("test_opted_out"))
    shown = "<b>\\x1b[31m|]]>&\\udcff\\r\\n\\x00\\ufffe\"'"
    assert opted_out["tfleak.detail"] == shown
    ((_, case),) = by_name.items()
    found = properties(case)
    assert found["tfleak.unit"] == shown
    assert found["tfleak.rate"] == "1.0"
    verdict = json.loads(found["tfleak.verdict"])
    assert evil.replace("\udcff", "\\udcff") in verdict["findings"][0]["unit"]
