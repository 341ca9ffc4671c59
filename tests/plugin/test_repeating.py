"""Tests that pass once but fail when they are repeated."""

from __future__ import annotations

import sys

import pytest

MKDIR = """
    import pytest

    {mark}
    def test_mkdir(tmp_path):
        (tmp_path / "folder").mkdir()
"""


def test_an_unmarked_test_passes_as_without_the_plugin(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(MKDIR.format(mark=""))
    result = pytester.runpytest("--tfleak")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "NOT MEASURED *::test_mkdir",
            "*cannot be repeated: passed at first, FileExistsError in iteration 2;*",
        ]
    )


def test_a_marked_test_fails_and_says_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MKDIR.format(mark="@pytest.mark.tfleak"))
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * FileExistsError: *",
            'not measured: passed at first*in iteration 2; repeat="test"*',
        ]
    )


def test_with_new_fixtures_it_is_measured(pytester: pytest.Pytester) -> None:
    mark = '@pytest.mark.tfleak(repeat="test", iterations=5)'
    pytester.makepyfile(MKDIR.format(mark=mark))
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_test_that_fails_at_once_fails_as_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_wrong(): assert 1 == 2")
    result = pytester.runpytest("--tfleak")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["not measured: the test ended with Assert* in iteration 1"]
    )


LATER = """
    import asyncio, itertools, sys
    import pytest
    from leaks import leak
    calls = itertools.count(1)

    {mark}
    def test_it({fixtures}):
        {before}
        if next(calls) == {call}:
            {ending}
"""


@pytest.mark.parametrize("call", [2, 9])
@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("raise ValueError", "ValueError"),
        ("pytest.fail('no')", "Failed"),
        ("sys.exit('already running')", "SystemExit"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise asyncio.CancelledError", "CancelledError"),
        ("pytest.skip('the port is taken')", "skipped"),
        ("pytest.xfail('the port is taken')", "xfailed"),
    ],
)
def test_an_unmarked_test_has_the_outcome_of_its_first_call(
    pytester: pytest.Pytester, leaks: None, ending: str, words: str, call: int
) -> None:
    source = LATER.format(mark="", fixtures="", before="", call=call, ending=ending)
    pytester.makepyfile(source)
    result = pytester.runpytest_inprocess("--tfleak")
    assert set(result.parseoutcomes()) == {"passed"}
    text = " ".join(result.stdout.str().split())
    assert f"cannot be repeated: passed at first, {words} in iteration {call};" in text


@pytest.mark.parametrize(
    "ending", ["sys.exit(3)", "pytest.skip('taken')", "pytest.xfail('taken')"]
)
def test_a_later_call_says_how_a_marked_test_ended(
    pytester: pytest.Pytester, leaks: None, ending: str
) -> None:
    pytester.makepyfile(
        LATER.format(
            mark="@pytest.mark.tfleak", fixtures="", before="", call=2, ending=ending
        )
    )
    result = pytester.runpytest_inprocess()
    assert "passed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["*cannot be repeated: passed at first*"])


@pytest.mark.parametrize("ending", ["raise KeyboardInterrupt", "pytest.exit('enough')"])
def test_what_ends_the_run_ends_it_in_a_later_call_too(
    pytester: pytest.Pytester, leaks: None, ending: str
) -> None:
    source = LATER.format(mark="", fixtures="", before="", call=2, ending=ending)
    pytester.makepyfile(source)
    result = pytester.runpytest_subprocess("--tfleak")
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_a_leak_that_was_found_stands_however_the_search_for_it_ends(
    pytester: pytest.Pytester, leaks: None
) -> None:
    """After 20 and 20 iterations, the 45th belongs to the search for the cause."""
    source = LATER.format(
        mark="@pytest.mark.tfleak(iterations=20, warmup=2)",
        fixtures="",
        before="leak()",
        call=45,
        ending="sys.exit(3)",
    )
    pytester.makepyfile(source)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["LEAK: python.blocks*", "* was interrupted."])
    result.stdout.no_fnmatch_line("*: SystemExit*")


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="this pytest has no subtests")
@pytest.mark.parametrize(
    ("mark", "call", "outcomes"),
    [
        ("", 1, {"failed": 2}),
        ("", 2, {"passed": 1}),
        ("@pytest.mark.tfleak", 2, {"failed": 2}),
    ],
)
def test_a_subtest_that_fails_in_a_later_call_fails_a_marked_test_only(
    pytester: pytest.Pytester,
    leaks: None,
    mark: str,
    call: int,
    outcomes: dict[str, int],
) -> None:
    source = LATER.format(
        mark=mark,
        fixtures="subtests",
        before="",
        call=call,
        ending="with subtests.test('s'): assert 0",
    )
    pytester.makepyfile(source)
    result = pytester.runpytest_inprocess("--tfleak")
    assert result.parseoutcomes() == outcomes
    result.stdout.fnmatch_lines(["NOT MEASURED *"])


def test_a_later_call_that_measures_by_itself_is_not_run_again(
    pytester: pytest.Pytester, leaks: None
) -> None:
    source = LATER.format(
        mark="",
        fixtures="",
        before="assert next(calls) < 4",
        call=4,
        ending="__import__('pytest_tfleak').find_leaks(lambda: None)",
    )
    pytester.makepyfile(source)
    result = pytester.runpytest_inprocess("--tfleak")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*calls the library*"])


def test_a_later_failure_says_in_which_iteration(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import itertools, pytest
        calls = itertools.count(1)

        @pytest.mark.tfleak(iterations=20, warmup=2)
        def test_it():
            assert next(calls) < 9
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*assert 9 < 9",
            "not measured: passed at first*",
            "  It failed in iteration 7 of 20 (after 2 warm-up).",
        ]
    )


OPENED = "a file descriptor opened at test_it.py:14"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc to list descriptors"
)
@pytest.mark.parametrize(
    ("depth", "options", "fails", "which", "file"),
    [
        ("leftovers", [], 1, "", OPENED),
        ("leftovers", ["--tfleak-iterations=20"], 9, "call 9 of 20", OPENED),
        ("full", [], 9, "iteration 7 of 20 (after 2 warm-up)", "the file "),
    ],
)
def test_a_failure_says_what_is_open_at_that_moment(
    pytester: pytest.Pytester,
    depth: str,
    options: list[str],
    fails: int,
    which: str,
    file: str,
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import itertools, threading, pytest
        calls = itertools.count(1)

        @pytest.fixture
        def files():
            yield (files := [])
            files.pop().close()

        @pytest.mark.tfleak(iterations=20, warmup=2, depth="{depth}")
        def test_it(tmp_path, files):
            ends = threading.Event()
            thread = threading.Thread(target=ends.wait, daemon=True)
            thread.start()
            files.append((tmp_path / "journal").open("w"))
            assert next(calls) < {fails}
            files.pop().close()
            ends.set()
            thread.join()
        """
    )
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1)
    text = " ".join(result.stdout.str().split())
    thread = "a thread started at test_it.py:13 in test_it()"
    which = f"It failed in {which}. " if which else ""
    assert f"{which}Still open when it failed: {thread}, {file}" in text
    assert ("It failed in" in text) == bool(which)
    named = "journal (put into `files` at test_it.py:14 in test_it())"
    assert (named in text) == (file != OPENED)


def test_builtins_stay_what_they_are(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        imported="my_open = open",
        test_it="""
        import io, pickle, pytest
        OPEN = open

        @pytest.mark.tfleak(iterations=5, warmup=1)
        def test_it():
            import imported
            assert imported.my_open is open is io.open is OPEN
            pickle.dumps(open)
        """,
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
