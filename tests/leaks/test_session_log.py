"""Messages name the line that made a session that is left, or closed one in use."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.verdict import Reason

RunPlanted = Callable[..., dict[str, Verdict]]

PLANTED = Path(__file__).parent / "planted" / "session_log.py"
ADVICE = "run what needs the session before closing it, or open a new one"

#: Tests that leave an object made once: the signal, and the line that made it.
MADE = {
    "test_session_made_once": ("tf.sessions", "the_session = v1.Session("),
    "test_graph_made_once": ("tf.graphs", "the_graph = tf.Graph()"),
    "test_subclass_made_once": ("tf.sessions", "the_named = Named("),
    "test_monitored_made_once": (
        "tf.sessions",
        "return v1.train.MonitoredTrainingSession(",
    ),
    "test_interactive_made_once": (
        "tf.sessions",
        "the_interactive = v1.InteractiveSession(",
    ),
    "test_two_made_once": ("tf.sessions", " = v1.Session(graph=tf.Graph())"),
}

#: Tests that use a closed session: the line that closed it.
CLOSED = {
    "test_used_after_its_block": "with v1.Session(graph=graph) as session:",
    "test_used_after_its_block_failed": "with v1.Session(graph=graph) as session:",
    "test_closed_at_the_end_of_each_call": "shared.close()",
    "test_callable_after_close": "session.close()",
    "test_interactive_after_close": "session.close()",
    "test_subclass_after_close": "session.close()",
    "test_monitored_after_its_block": "with monitored() as session:",
}

#: A conftest.py without the hooks, to see what the hooks cost.
WITHOUT_SESSION_LOG = """
import pytest_tfleak.measurement

class NoSessionLog:
    def watch(self):
        pass

    def stop(self):
        pass

    def forget(self):
        pass

    def created_at(self, made):
        return []

pytest_tfleak.measurement.SessionLog = NoSessionLog
"""

#: A conftest.py with hooks of its own that count sessions made and closed.
COUNTING = """
import pytest
from tensorflow.python.client.session import BaseSession

calls = []

def counted(method):
    def count(self, *args, **kwargs):
        calls.append(method.__name__)
        return method(self, *args, **kwargs)
    return count

BaseSession.__init__ = ours = counted(BaseSession.__init__)

@pytest.fixture
def closes(monkeypatch):
    monkeypatch.setattr(BaseSession, "close", counted(BaseSession.close))
    return calls

def pytest_unconfigure():
    assert BaseSession.__init__ is ours
    assert calls.count("__init__") == 25  # iterations
    assert "pytest_tfleak" not in BaseSession.close.__module__
    print("COUNTED")
"""


def place_of(verdict: Verdict) -> tuple[str, str]:
    """Return the file and the source line of the close that a verdict names."""
    found = re.search(
        r"; the session was closed at (\S+):(\d+) in \w+\(\)(, at the end of its with "
        rf"block)?(?:; it was made at (\S+:\d+) in \w+\(\))?; {ADVICE}(; repeat=.*)?$",
        verdict.detail or "",
    )
    assert found, verdict.detail
    source = PLANTED.read_text("utf-8").splitlines()
    return found[1], source[int(found[2]) - 1].strip()


@pytest.mark.slow
def test_an_object_made_once_has_a_holder_and_a_line(run_planted: RunPlanted) -> None:
    verdicts = run_planted("session_log", "-k", "made_once")
    assert set(verdicts) == set(MADE)
    for name, (signal, line) in MADE.items():
        assert verdicts[name].status is Status.LEAK, name
        found = [f for f in verdicts[name].findings if f.signal == signal]
        assert found, name
        for finding in found:
            assert finding.per_iteration is None
            assert finding.origin is not None, name
            assert Path(finding.origin.file).name == "test_session_log.py"
            assert line in finding.origin.text, name
            assert finding.path, name
    (named,) = verdicts["test_monitored_made_once"].findings[:1]
    assert [o.function for o in named.stack] == ["test_monitored_made_once"]


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_a_session_used_after_its_close_says_who_closed_it(
    run_planted: RunPlanted, arguments: tuple[str, ...]
) -> None:
    if arguments and find_spec("xdist") is None:
        pytest.skip("pytest-xdist is not installed")
    verdicts = run_planted("session_log", "-k", "after or closed or inside", *arguments)
    for name, line in CLOSED.items():
        assert verdicts[name].status is Status.NOT_MEASURED, name
        assert place_of(verdicts[name]) == ("test_session_log.py", line), name
    across = verdicts["test_closed_at_the_end_of_each_call"]
    assert across.reason is Reason.NOT_REPEATABLE
    assert (across.detail or "").startswith(
        "passed at first, RuntimeError in iteration 2; the session was closed at "
    )
    assert "should_stop() is false" in str(verdicts["test_monitored_after_a_stop"])
    earlier = verdicts["test_closed_elsewhere"].detail
    assert "; the session was closed before this test was measured" in str(earlier)
    failing = verdicts["test_failing_inside_the_block"].detail
    assert failing == "the test ended with ValueError in iteration 1"


def test_the_failure_of_the_test_itself_stays_as_it_is(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_session_log=PLANTED.read_text("utf-8"))
    result = pytester.runpytest_subprocess("-k", "subclass_after")
    result.assert_outcomes(failed=1, deselected=18)
    result.stdout.fnmatch_lines(
        [
            "E * RuntimeError: Attempted to use a closed Session.",
            "*- tfleak -*",
            "not measured: the test ended with RuntimeError in iteration 1*",
            "*closed at *",
            "NOT MEASURED  test_session_log.py::test_subclass_after_close*",
            "FAILED *::test_subclass_after_close - RuntimeError: *",
        ]
    )
    result.stdout.no_fnmatch_line("*session_log.py:*: in hook*")


def test_a_session_between_two_modules_names_the_one_that_closed_it(
    pytester: pytest.Pytester, run_planted: RunPlanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body itself imports TensorFlow, in its first call."""
    pytester.makepyfile(
        model="""
        def build():
            import tensorflow as tf
            graph = tf.Graph()
            with graph.as_default():
                total = tf.reduce_sum(tf.ones([4]))
            return tf.compat.v1.Session(graph=graph), total
        """,
        monitor="""
        def report(session, total):
            value = session.run(total)
            session.close()
            return value
        """,
        test_shared="""
        import model, monitor, pytest

        @pytest.mark.tfleak
        def test_shared():
            session, total = model.build()
            monitor.report(session, total)
            session.run(total)

        def test_in_a_block(tfleak):
            session, total = model.build()
            with pytest.raises(RuntimeError):
                tfleak.check(lambda: monitor.report(session, total))
        """,
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=":")
    verdicts = run_planted("session_log", "test_shared.py")
    closed = "the session was closed at monitor.py:3 in report()"
    made = "it was made at model.py:6 in build()"
    first = "the test ended with RuntimeError in iteration"
    shared, in_a_block = verdicts["test_shared"], verdicts["test_in_a_block"]
    assert shared.detail == f"{first} 1; {closed}; {made}; {ADVICE}"
    # made before the check began
    assert in_a_block.detail == f"{first} 2; {closed}; {ADVICE}"


@pytest.mark.slow
def test_the_user_s_own_hooks_work_beside_ours(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(COUNTING)
    pytester.makepyfile(
        test_counted="""
        import pytest, tensorflow as tf

        @pytest.mark.tfleak(iterations=20)
        def test_counted(closes):
            closed = closes.count("close")
            tf.compat.v1.Session(graph=tf.Graph()).close()
            assert closes.count("close") > closed
        """
    )
    result = pytester.runpytest_subprocess("test_counted.py", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["COUNTED"])


def test_the_hooks_leave_nothing_if_the_body_leaves_nothing(
    pytester: pytest.Pytester, run_planted: RunPlanted
) -> None:
    """Recording must not change the figures that it helps to explain."""
    pytester.makepyfile(without_session_log=WITHOUT_SESSION_LOG)
    pytester.syspathinsert()
    these = ("session_log", "-k", "is_clean")
    with_hooks = run_planted(*these)
    without = run_planted(*these, "-p", "without_session_log")
    assert with_hooks.keys() == without.keys()
    assert len(with_hooks) == 3
    for name, verdict in with_hooks.items():
        assert verdict.status is without[name].status is Status.CLEAN
        for signal, least in (("python.blocks", 0.2), ("host.heap", 100.0)):
            ours = verdict.signal(signal).per_iteration
            assert ours is not None, (name, signal)
            bare = without[name].signal(signal).per_iteration
            assert ours == pytest.approx(bare, abs=least), (name, signal)
