"""The fixtures, and probes that a hook adds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_tfleak.tf import access

Run = Callable[..., pytest.RunResult]


def test_check_returns_the_verdict_of_a_clean_block(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        test_it="""
        def test_it(tfleak):
            calls = []
            verdict = tfleak.check(lambda: calls.append(0), iterations=8, warmup=1)
            assert verdict.status == "clean"
            assert len(calls) == 9 and verdict.iterations == 8
            assert tfleak.check(lambda: None, iterations=6).iterations == 6
        """
    )
    result = run("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines_random(
        [
            "clean*test_it.py::test_it*",
            "*6 iterations*",
            "*8 iterations*",
        ]
    )


def test_check_fails_the_test_at_the_first_leak(
    pytester: pytest.Pytester, leaks: None, run: Run
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest
        from leaks import leak
        from pytest_tfleak import LeakFailed

        def test_it(tfleak):
            tfleak.check(lambda: None, iterations=20)
            tfleak.check(leak, iterations=20)
            raise AssertionError("never reached")

        def test_caught(tfleak):
            with pytest.raises(LeakFailed, match="python.blocks"):
                tfleak.check(leak, iterations=20)

        def test_allowed(tfleak):
            tfleak.check(leak, iterations=20, blocks=1000, host_per_iteration="1 MiB")
        """
    )
    result = run()
    result.assert_outcomes(failed=1, passed=2)
    assert "never reached" not in result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "LEAK  test_it.py::test_*python.blocks*",
            "2 clean",
            "LEAK test_it.py::test_it*",
        ]
    )


def test_check_takes_command_line_options_unless_it_sets_them(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        def test_it(tfleak):
            verdict = tfleak.check(lambda: None, iterations=6)
            assert (verdict.iterations, verdict.warmup) == (6, 3)
            verdict = tfleak.check(lambda: None)
            assert (verdict.iterations, verdict.warmup) == (7, 3)
        """
    )
    result = pytester.runpytest("--tfleak-iterations=7", "--tfleak-warmup=3")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("iterations=0", "*tfleak.check: iterations=0: expected a whole number, 1*"),
        ("itertions=3", "*tfleak.check: unknown keyword 'itertions' (did you mean*"),
        ("enabled=False", "*tfleak.check: unknown keyword 'enabled'*"),
        ("repeat='test'", "*tfleak.check: unknown keyword 'repeat'*"),
    ],
)
def test_check_names_a_bad_option(
    pytester: pytest.Pytester, call: str, message: str
) -> None:
    pytester.makepyfile(f"def test_it(tfleak): tfleak.check(lambda: None, {call})")
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])


def test_what_a_checked_block_raises_reaches_the_test(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import gc, pytest

        def test_it(tfleak):
            frozen = gc.get_freeze_count()
            with pytest.raises(ZeroDivisionError):
                tfleak.check(lambda: 1 / 0)
            assert gc.get_freeze_count() <= frozen
            assert tfleak.check(lambda: None, iterations=6).status == "clean"

        def test_fails(tfleak): tfleak.check(lambda: 1 / 0)
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*", "2 not measured: failed"])


def test_a_check_inside_a_check_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(tfleak):
            tfleak.check(lambda: tfleak.check(lambda: None))

        def test_after(tfleak):
            tfleak.check(lambda: None, iterations=6)
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*this code is already being measured*"])


def test_snapshots_can_be_subtracted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import threading

        def test_it(memory_snapshot, tfleak):
            before = memory_snapshot()
            kept = bytearray(5_000_000)
            done = threading.Event()
            thread = threading.Thread(target=done.wait)
            thread.start()
            grown = memory_snapshot() - before
            done.set()
            thread.join()
            assert before.host["host.rss"] > 0
            assert grown.host["host.rss"] is not None
            assert grown.objects["process.threads"] == 1
            assert grown.objects.keys() == before.objects.keys()
            assert set(grown.gpu.values()) == {None}
            after = tfleak.snapshot() - before
            assert after.objects["process.threads"] == 0
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_clear_keras_session_needs_no_keras(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(clear_keras_session):
            assert clear_keras_session is None
            assert "keras" not in sys.modules
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_clear_keras_session_clears_before_and_after(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import sys, types, pytest

        calls = []

        @pytest.fixture(scope="module", autouse=True)
        def keras():
            name = "keras.src.backend.common.global_state"
            module = sys.modules[name] = types.ModuleType(name)
            module.clear_session = lambda: calls.append("clear")
            yield
            del sys.modules[name]

        def test_it(clear_keras_session): calls.append("body")
        def test_after(): assert calls == ["clear", "body", "clear"]
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_clear_keras_session_says_why_it_did_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "call_clear_session", lambda: "an RPC server is alive")
    pytester.makepyfile("def test_it(clear_keras_session): ...")
    result = pytester.runpytest("-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*PytestWarning: clear_keras_session did nothing: an RPC server is alive*"]
    )


MEASURED = """
import pytest
@pytest.mark.tfleak(iterations=10, warmup=2)
def test_it(): pass
"""


def test_a_probe_from_a_hook_decides(
    pytester: pytest.Pytester, fake_probe: None, run: Run
) -> None:
    pytester.makepyfile(test_it=MEASURED)
    result = run("-v")  # the hook calls are recorded
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["LEAK: fake.things +1*", "LEAK  test_it.py::test_it  fake.things +1*"]
    )
    result.stdout.fnmatch_lines(["tfleak: probes: python, host, process, fake"])


def test_a_hook_may_return_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_tfleak_probes(census): return None")
    pytester.makepyfile(MEASURED)
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_probe_of_a_folder_reads_only_the_tests_in_it(
    pytester: pytest.Pytester,
) -> None:
    for name in ("with", "without"):
        folder = pytester.mkdir(name)
        (folder / f"test_{name}.py").write_text(MEASURED, encoding="utf-8")
    (pytester.path / "with" / "conftest.py").write_text(
        "from itertools import count\n"
        "from pytest_tfleak.testing import FakeProbe\n"
        "def pytest_tfleak_probes(census):\n"
        "    return [FakeProbe({'fake.things': count()})]\n",
        encoding="utf-8",
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["LEAK*test_with.py::test_it*", "1 clean"])


def test_a_probe_that_cannot_read_is_reported(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        """
        from pytest_tfleak.testing import FakeProbe

        class Broken(FakeProbe):
            name = "broken"
            def read(self, buffer, start, deep):
                raise RuntimeError("cannot read")

        def pytest_tfleak_probes(census):
            return [Broken({"broken.things": []})]
        """
    )
    pytester.makepyfile(MEASURED)
    result = pytester.runpytest("-vv")
    result.stdout.fnmatch_lines(["*RuntimeError*cannot read*"])
    assert "INTERNALERROR" not in result.stdout.str()
