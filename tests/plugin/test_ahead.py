"""Nothing is imported or opened for the first time after a body has run."""

from __future__ import annotations

import pytest

IMPORTS = """
import sys
import pytest

BEFORE = set()

def pytest_unconfigure():
    after = {n for n in sys.modules if n.startswith("pytest_tfleak")} - BEFORE
    print("LATE", sorted(after))
"""
TEST = """
import sys
import conftest

def test_it(%s):
    %s
    if not conftest.BEFORE:
        conftest.BEFORE.update(sys.modules)
"""


@pytest.mark.parametrize(
    ("fixtures", "body"), [("", "pass"), ("tfleak", "tfleak.check(lambda: None)")]
)
def test_no_module_of_ours_is_imported_after_a_body(
    pytester: pytest.Pytester, fixtures: str, body: str
) -> None:
    pytester.makeconftest(IMPORTS)
    pytester.makepyfile(TEST % (fixtures, body))
    options = ["--tfleak", "--tfleak-json=r.json", "--junitxml=j.xml", "-v"]
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["LATE []"])
    assert (pytester.path / "r.json").stat().st_size


def test_a_verdict_that_cannot_be_reported_is_a_note_of_its_test(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        """
        import pytest_tfleak.plugin.transport as transport

        whole = transport.Transport._message
        failures = iter(["first"])

        def fails_once(self, verdicts):
            for _ in failures:
                raise OSError(24, "Too many open files")
            return whole(self, verdicts)

        transport.Transport._message = fails_once
        """
    )
    pytester.makepyfile("def test_it(): pass\ndef test_other(): pass")
    result = pytester.runpytest_subprocess("--tfleak")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 clean"])
