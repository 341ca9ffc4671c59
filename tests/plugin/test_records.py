"""pytest's records of a measured test are those of one call, and do not look leaked."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

MARKED = """
import logging, os, sys, warnings
import pytest
pytestmark = pytest.mark.tfleak(iterations=12, warmup=2)
"""
BODIES = {
    "prints": """
def test_it():
    print("x" * 20_000)
    print("y" * 20_000, file=sys.stderr)
""",
    "logging": """
def test_it():
    logging.getLogger("some").warning("%s", [object() for _ in range(500)])
""",
    "caplog": """
def test_it(caplog):
    with caplog.at_level("INFO"):
        logging.info("%s", [object() for _ in range(500)])
    assert len(caplog.records) == 1
    assert caplog.text.count("INFO") == 1
""",
    "capsys": """
def test_it(capsys):
    print("x" * 20_000)
    assert len(capsys.readouterr().out) == 20_001
    print("y" * 20_000)
""",
    "capfd": """
def test_it(capfd):
    os.write(1, b"x" * 20_000)
    assert len(capfd.readouterr().out) == 20_000
    os.write(1, b"y")
""",
    "warnings": """
def test_it():
    warnings.warn("x" * 20_000, DeprecationWarning)
    warnings.warn("x" * 20_000)
""",
    "recwarn": """
def test_it(recwarn):
    warnings.warn("once")
    assert len(recwarn) == 1
""",
    "properties": """
def test_it(record_property, request):
    record_property("text", "x" * 20_000)
    assert len(request.node.user_properties) == 1
""",
    "monkeypatch": """
def test_it(monkeypatch):
    assert not hasattr(logging, "patched")
    monkeypatch.setattr(logging, "patched", "x" * len(os.environ), raising=False)
    monkeypatch.setenv("TFLEAK_TEST", "x" * 20_000)
    monkeypatch.syspath_prepend(".")
""",
    "raises": """
def test_it():
    with pytest.raises(OSError) as error:
        raise OSError([object() for _ in range(500)])
    with pytest.warns(UserWarning):
        warnings.warn("expected")
""",
    "nothing": "def test_it(): pass",
}


def test_bodies_are_clean_whatever_pytest_records_of_them(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(**{f"test_{n}": MARKED + body for n, body in BODIES.items()})
    # not in process, where the outer pytest's handlers would keep the log records
    result = pytester.runpytest_subprocess("-v", "-Wdefault")
    result.assert_outcomes(passed=len(BODIES), warnings=2)
    result.stdout.fnmatch_lines_random([f"clean*test_{n}.py::test_it*" for n in BODIES])


def test_what_fixtures_have_patched_stays_patched(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""{MARKED}
@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("TFLEAK_HOME", "fixture")
    yield
    assert os.environ["TFLEAK_HOME"] == "fixture"

def test_it(home, monkeypatch):
    assert os.environ["TFLEAK_HOME"] == "fixture"
    monkeypatch.setenv("TFLEAK_HOME", "body")
"""
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_failing_call_shows_what_it_printed_and_no_other_call(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        f"""{MARKED}
calls = []
def test_it():
    calls.append(0)
    print(f"call {{len(calls)}}.")
    logging.warning(f"log {{len(calls)}}.")
    assert len(calls) < 7
"""
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "call 7." in text and "log 7." in text
    assert "call 6." not in text and "log 6." not in text


SUBTESTS = f"""{MARKED}
def test_it(subtests):
    for number in range(3):
        with subtests.test("digit", number=number):
            assert number != {{}}
"""
needs_subtests = pytest.mark.skipif(
    pytest.version_tuple < (9,), reason="this pytest has no subtests"
)


@needs_subtests
def test_subtests_are_reported_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUBTESTS.format(3))
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("SUBPASSED") == 3
    result.stdout.fnmatch_lines(["clean *"])


@needs_subtests
def test_a_failed_subtest_ends_the_measurement(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUBTESTS.format(1))
    result = pytester.runpytest()
    assert result.parseoutcomes()["failed"] == 2  # the subtest, and its test
    result.stdout.fnmatch_lines(["*contains 1 failed subtest*", "NOT MEASURED *"])


@pytest.mark.parametrize("repeat", ["body", "test"])
def test_fixtures_and_finalizers_that_the_body_asks_for(
    pytester: pytest.Pytester, repeat: str
) -> None:
    pytester.makepyfile(
        f"""
import pytest
DONE = []

@pytest.fixture
def thing():
    yield [1]

@pytest.mark.tfleak(iterations=10, repeat={repeat!r})
def test_it(request):
    assert request.getfixturevalue("thing") == [1]
    assert request.getfixturevalue("tmp_path").is_dir()
    big = bytearray(20_000)
    request.addfinalizer(lambda: DONE.append(len(big)))

def test_after():
    assert len(DONE) >= 15
"""
    )
    result = pytester.runpytest_subprocess("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["clean *"])


OTHERS = {
    "pytest_cov": ["--cov=.", "--cov-report="],
    "pytest_timeout": ["--timeout=60"],
    "pytest_randomly": ["-p", "randomly"],
    "pytest_mock": [],
    "faulthandler": ["-o", "faulthandler_timeout=60"],
}


@pytest.mark.parametrize("module", OTHERS)
def test_a_body_is_clean_beside_another_plugin(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
    body = "def test_it(): sum(range(100))"
    if module == "pytest_mock":
        body = """
def test_it(mocker, monkeypatch):
    patched = mocker.patch("os.getcwd", return_value="here")
    spy = mocker.spy(logging, "getLogger")
    logging.getLogger("a")
    assert os.getcwd() == "here"
    patched.assert_called_once_with()
    spy.assert_called_once_with("a")
"""
    pytester.makepyfile(MARKED + body)
    result = pytester.runpytest_subprocess("-v", *OTHERS[module])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["clean *"])
