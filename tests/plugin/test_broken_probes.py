"""A failing probe of another plugin is reported, and ends neither test nor run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]
TESTS = """
    import pytest
    from leaks import leak

    measured = pytest.mark.tfleak(iterations=20, warmup=2, diagnose=False)

    @measured
    def test_clean(): pass

    @measured
    def test_leaky(): leak()
"""
METHODS = [
    *("signals", "has_more_signals", "settle", "read", "why_off", "reasons", "codes"),
    *("untrusted", "still_there", "notes", "close", "remark"),
]


@pytest.mark.parametrize("method", METHODS)
def test_a_probe_that_fails_in_any_method_ends_nothing(
    pytester: pytest.Pytester, leaks: None, method: str
) -> None:
    pytester.makeconftest(
        f"""
        from itertools import repeat
        from pytest_tfleak.testing import FakeProbe

        class Broken(FakeProbe):
            name = "broken"
            def {method}(self, *_):
                raise LookupError("no such sensor")

        def pytest_tfleak_probes(census):
            return [Broken({{"sensor": repeat(1)}})]
        """
    )
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["LEAK *::test_leaky*"])
    if method not in ("why_off", "remark"):  # these are only called for the header
        text = " ".join(result.stdout.str().split())
        assert "LookupError: no such sensor" in text
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_hook_that_fails_keeps_the_built_in_probes(
    pytester: pytest.Pytester, leaks: None, run: Run
) -> None:
    pytester.makeconftest(
        """
        def pytest_tfleak_probes(census):
            raise LookupError("no such sensor")
        """
    )
    pytester.makepyfile(TESTS)
    result = run("-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["LEAK *::test_leaky*"])
    text = " ".join(result.stdout.str().split())
    assert "not read to the end: pytest_tfleak_probes (LookupError: no such" in text
