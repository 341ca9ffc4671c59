"""The log of lines that create and close sessions, with fake TensorFlow modules."""

from __future__ import annotations

import gc
import importlib
import sys
import types
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.diagnosis.closed_session import ADVICE
from pytest_tfleak.diagnosis.closed_session import after_close
from pytest_tfleak.run.session_log import MOST_CLOSED
from pytest_tfleak.run.session_log import MOST_CREATED
from pytest_tfleak.run.session_log import SessionLog
from pytest_tfleak.user_code import origin_of

#: A fake of TensorFlow's modules, in a folder like that of an installed package.
SESSION = """
import threading

class BaseSession:
    def __init__(self, graph=None):
        self._closed = False

    def close(self):
        self._closed = True

    def run(self):
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not kind:
            return self.close()
        thread = threading.Thread(target=self.close)
        thread.start()
        thread.join()

    def __del__(self):
        self.close()
"""
OPS = """
class Graph:
    def __init__(self):
        self.made = True

class FuncGraph(Graph):
    pass
"""
MONITORED = """
class _MonitoredSession:
    def __init__(self, session):
        self._sess = session

    def _close_internal(self):
        if self._sess is None:
            raise RuntimeError("Session is already closed.")
        self._sess = None

    def close(self):
        self._close_internal()

    def run(self):
        return self._sess.run()

    def run_stopped(self):
        raise RuntimeError("Run called even after should_stop requested.")
"""
SOURCES = {
    "tensorflow.python.client.session": SESSION,
    "tensorflow.python.framework.ops": OPS,
    "tensorflow.python.training.monitored_session": MONITORED,
}


@pytest.fixture
def tf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a namespace with the classes of the fake modules in sys.modules."""
    found: dict[str, Any] = {}
    for name, source in SOURCES.items():
        module = types.ModuleType(name)
        file = f"/lib/site-packages/{name.replace('.', '/')}.py"
        exec(compile(source, file, "exec"), vars(module))
        monkeypatch.setitem(sys.modules, name, module)
        found.update(vars(module))
    return types.SimpleNamespace(**found)


@pytest.fixture
def log(tf: Any) -> Iterator[SessionLog]:
    watching = SessionLog()
    watching.watch()
    yield watching
    watching.stop()


def functions_at(log: SessionLog, made: object) -> list[str]:
    origin, callers = origin_of(log.created_at(made))
    return [line.function for line in (origin, *callers) if line is not None]


def lines_at(frames: list[tuple[str, int]] | None) -> list[str]:
    assert frames is not None
    source = Path(__file__).read_text("utf-8").splitlines()
    return [source[line - 1].strip() for file, line in frames if file == __file__]


def test_the_line_that_made_an_object_is_recorded_with_its_callers(
    tf: Any, log: SessionLog
) -> None:
    def make() -> Any:
        return tf.BaseSession()

    session = make()
    lines = lines_at(log.created_at(session))
    assert lines[:2] == ["return tf.BaseSession()", "session = make()"]
    here = functions_at(log, session)
    name = "test_the_line_that_made_an_object_is_recorded_with_its_callers"
    assert here[:2] == [f"{name}.make", name]


def test_no_more_than_eight_lines_are_recorded(tf: Any, log: SessionLog) -> None:
    def make(depth: int) -> Any:
        return make(depth - 1) if depth else tf.Graph()

    graph = make(20)
    assert len(log.created_at(graph)) == 8
    assert len(log.created_at(tf.Graph())) < 8


def test_what_was_made_before_the_watch_is_not_known(tf: Any) -> None:
    graph = tf.Graph()
    log = SessionLog()
    log.watch()
    log.stop()
    assert log.created_at(graph) == []


def test_the_graph_of_a_function_is_not_recorded(tf: Any, log: SessionLog) -> None:
    assert log.created_at(tf.FuncGraph()) == []


def test_a_subclass_is_made_where_it_is_called(tf: Any, log: SessionLog) -> None:
    class Mine(tf.BaseSession):  # type: ignore[misc]
        def __init__(self) -> None:
            self.name = "mine"
            super().__init__()

        def close(self) -> None:
            super().close()

    mine = Mine()
    mine.close()
    assert lines_at(log.created_at(mine))[0] == "mine = Mine()"
    assert lines_at(log.closed_at(mine))[0] == "mine.close()"


def test_an_object_that_dies_makes_room(tf: Any, log: SessionLog) -> None:
    for _ in range(10 * MOST_CREATED):
        tf.Graph()
    graph = tf.Graph()
    assert log.created_at(graph)


def test_the_first_living_objects_are_recorded(tf: Any, log: SessionLog) -> None:
    graphs = [tf.Graph() for _ in range(MOST_CREATED + 1)]
    assert all(map(log.created_at, graphs[:-1]))
    assert log.created_at(graphs[-1]) == []


def test_the_last_closes_are_recorded(tf: Any, log: SessionLog) -> None:
    sessions = [tf.BaseSession() for _ in range(MOST_CLOSED)]
    for session in sessions:
        session.close()
    assert not log.has_forgotten
    assert all(map(log.closed_at, sessions))
    last = tf.BaseSession()
    last.close()
    assert log.has_forgotten
    assert log.closed_at(sessions[0]) is None
    assert log.closed_at(sessions[1])
    assert log.closed_at(last)


def test_the_first_of_two_closes_counts(tf: Any, log: SessionLog) -> None:
    session = tf.BaseSession()
    session.close()  # the one
    session.close()  # the other
    assert lines_at(log.closed_at(session))[0] == "session.close()  # the one"


def test_a_session_that_is_dropped_takes_no_room(tf: Any, log: SessionLog) -> None:
    session = tf.BaseSession()
    session.close()
    for _ in range(2 * MOST_CLOSED):
        tf.BaseSession()
    assert log.closed_at(session)
    assert not log.has_forgotten


def test_a_close_in_the_owner_s_del_is_recorded(tf: Any, log: SessionLog) -> None:
    class Owner:
        def __init__(self) -> None:
            self.session = tf.BaseSession()

        def __del__(self) -> None:
            self.session.close()

    owner = Owner()
    session = owner.session
    del owner
    assert lines_at(log.closed_at(session))[0] == "self.session.close()"


def test_a_block_that_fails_closes_in_a_thread_and_is_found(
    tf: Any, log: SessionLog
) -> None:
    with pytest.raises(KeyError), tf.BaseSession() as session:
        raise KeyError
    (line, *_) = lines_at(log.closed_at(session))
    assert line.startswith("with pytest.raises(KeyError), tf.BaseSession()")


def test_the_next_test_knows_who_closed_its_session(tf: Any, log: SessionLog) -> None:
    session = tf.BaseSession()
    session.close()
    log.stop()
    log.forget()
    later = SessionLog()
    assert lines_at(later.closed_at(session))[0] == "session.close()"
    assert log.created_at(session) == []


def test_stop_leaves_nothing_behind(tf: Any) -> None:
    before = dict(vars(tf.BaseSession)), dict(vars(tf.Graph)), list(sys.meta_path)
    log = SessionLog()
    log.watch()
    log.watch()
    assert vars(tf.BaseSession)["__init__"] is not before[0]["__init__"]
    log.stop()
    log.stop()
    after = dict(vars(tf.BaseSession)), dict(vars(tf.Graph)), list(sys.meta_path)
    assert after == before


def test_another_wrapper_below_ours_works_and_stays(tf: Any) -> None:
    calls = count_calls(tf.BaseSession, "__init__")
    theirs = vars(tf.BaseSession)["__init__"]
    log = SessionLog()
    log.watch()
    session = tf.BaseSession()
    assert lines_at(log.created_at(session))[0] == "session = tf.BaseSession()"
    log.stop()
    assert vars(tf.BaseSession)["__init__"] is theirs
    assert len(calls) == 1


def test_another_wrapper_above_ours_works_and_stays(tf: Any) -> None:
    original = vars(tf.BaseSession)["__init__"]
    log = SessionLog()
    log.watch()
    ours = vars(tf.BaseSession)["__init__"]
    calls = count_calls(tf.BaseSession, "__init__")
    theirs = vars(tf.BaseSession)["__init__"]
    log.stop()
    assert vars(tf.BaseSession)["__init__"] is theirs
    assert log.created_at(tf.BaseSession()) == []
    assert len(calls) == 1
    tf.BaseSession.__init__ = ours  # as other code does when it undoes its patch later
    tf.BaseSession()
    assert vars(tf.BaseSession)["__init__"] is original


def count_calls(owner: type, name: str) -> list[object]:
    calls: list[object] = []
    original = vars(owner)[name]

    def counting(self: object, *args: object) -> None:
        calls.append(None)
        original(self, *args)

    setattr(owner, name, counting)
    return calls


def test_what_the_constructor_raises_passes_through(tf: Any, log: SessionLog) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'grph'"):
        tf.BaseSession(grph=None)


def test_an_import_while_it_watches_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages" / "tensorflow" / "python" / "client"
    folder.mkdir(parents=True)
    for package in (folder, *folder.parents[:2]):
        package.joinpath("__init__.py").touch()
    # as in TensorFlow: when the second module is imported, the first is complete
    folder.parents[1].joinpath("__init__.py").write_text(
        "import tensorflow.python.client.session\nimport tensorflow.last\n"
    )
    folder.parents[1].joinpath("last.py").touch()
    folder.joinpath("session.py").write_text(SESSION)
    for name in list(sys.modules):
        if name.partition(".")[0] == "tensorflow":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder.parents[2])
    log = SessionLog()
    log.watch()
    module: Any = importlib.import_module("tensorflow")
    session = module.python.client.session.BaseSession()
    lines = lines_at(log.created_at(session))
    log.stop()
    for name in list(sys.modules):
        if name.partition(".")[0] == "tensorflow":
            del sys.modules[name]
    assert lines[0] == "session = module.python.client.session.BaseSession()"
    assert not [f for f in sys.meta_path if type(f).__module__ == SessionLog.__module__]


def make_and_close(tf: Any) -> None:
    with tf.BaseSession():
        tf.Graph()


def make_and_drop(tf: Any) -> None:
    tf.BaseSession()


@pytest.mark.parametrize("body", [make_and_close, make_and_drop])
def test_a_body_that_keeps_nothing_leaves_nothing_here(
    tf: Any, log: SessionLog, body: Callable[[Any], None]
) -> None:
    def blocks_after(times: int) -> int:
        for _ in range(times):
            body(tf)
        gc.collect()
        return sys.getallocatedblocks()

    blocks_after(300)
    before = blocks_after(300)
    assert blocks_after(1000) - before < 20


def failure_of(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except Exception as error:
        return error
    pytest.fail("it did not fail")


def test_an_error_says_where_the_session_was_closed(tf: Any, log: SessionLog) -> None:
    def close_all() -> None:
        session.close()

    session = tf.BaseSession()
    close_all()
    text = after_close(failure_of(session.run), log)
    assert text is not None
    closed, made, advice = text.split("; ")
    assert closed.startswith("the session was closed at ")
    assert closed.endswith(".close_all()")
    assert made.startswith("it was made at ")
    assert "was_closed()" in made
    assert advice == ADVICE


def test_the_end_of_a_block_is_named_as_such(tf: Any, log: SessionLog) -> None:
    with tf.BaseSession() as session:
        session.run()
    text = after_close(failure_of(session.run), log)
    assert text is not None
    assert "(), at the end of its with block; " in text


def test_the_session_is_found_behind_an_error_of_the_user_s(
    tf: Any, log: SessionLog
) -> None:
    def serve() -> None:
        try:
            session.run()
        except RuntimeError as error:
            raise ValueError("no answer") from error

    session, other = tf.BaseSession(), tf.BaseSession()
    session.close()
    other.close()
    text = after_close(failure_of(serve), log)
    assert text is not None
    assert "the session was closed at " in text


def test_an_error_with_only_the_text_identifies_the_only_closed_session(
    tf: Any, log: SessionLog
) -> None:
    def serve() -> None:
        raise ValueError("Attempted to use a closed Session.")

    session = tf.BaseSession()
    session.close()
    text = after_close(failure_of(serve), log)
    assert text is not None
    assert "the session was closed at " in text
    other = tf.BaseSession()
    other.close()
    assert after_close(failure_of(serve), log) == ADVICE


def test_an_error_says_that_a_session_was_closed_earlier(tf: Any) -> None:
    session = tf.BaseSession()
    session.close()
    log = SessionLog()
    log.watch()
    text = after_close(failure_of(session.run), log)
    log.stop()
    assert text is not None
    assert text.startswith("the session was closed before this test was measured")


@pytest.mark.parametrize("method", ["run", "close"])
def test_a_monitored_session_says_where_it_was_closed(
    tf: Any, log: SessionLog, method: str
) -> None:
    monitored = tf._MonitoredSession(tf.BaseSession())
    monitored.close()
    text = after_close(failure_of(getattr(monitored, method)), log)
    assert text is not None
    assert "the session was closed at " in text


def test_a_session_that_was_asked_to_stop_is_not_a_closed_one(
    tf: Any, log: SessionLog
) -> None:
    monitored = tf._MonitoredSession(tf.BaseSession())
    text = after_close(failure_of(monitored.run_stopped), log)
    assert text is not None
    assert "should_stop() is false" in text
    assert "closed" not in text


def test_an_error_about_something_else_says_nothing(tf: Any, log: SessionLog) -> None:
    class UnshownError(Exception):
        def __str__(self) -> str:
            raise ValueError

    session = tf.BaseSession()
    session.close()
    assert after_close(ValueError("shapes differ"), log) is None
    assert after_close(UnshownError(), log) is None
    assert after_close(failure_of(lambda: len(session)), log) is None
