"""Lines of birth and of close, on a stand-in for TensorFlow's modules."""

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

from pytest_tfleak.births import MOST_BORN
from pytest_tfleak.births import MOST_CLOSED
from pytest_tfleak.births import Births
from pytest_tfleak.diagnosis.closing import ADVICE
from pytest_tfleak.diagnosis.closing import after_close

#: What stands in for TensorFlow's modules; installed packages are not the user's.
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
    """Return a namespace with the stand-in's classes, which are in sys.modules."""
    found: dict[str, Any] = {}
    for name, source in SOURCES.items():
        module = types.ModuleType(name)
        file = f"/lib/site-packages/{name.replace('.', '/')}.py"
        exec(compile(source, file, "exec"), vars(module))
        monkeypatch.setitem(sys.modules, name, module)
        found.update(vars(module))
    return types.SimpleNamespace(**found)


@pytest.fixture
def births(tf: Any) -> Iterator[Births]:
    watching = Births()
    watching.watch()
    yield watching
    watching.stop()


def functions_at(births: Births, made: object) -> list[str]:
    origin, callers = births.origin_of(made)
    return [line.function for line in (origin, *callers) if line is not None]


def lines_at(frames: list[tuple[str, int]] | None) -> list[str]:
    assert frames is not None
    source = Path(__file__).read_text("utf-8").splitlines()
    return [source[line - 1].strip() for file, line in frames if file == __file__]


def test_the_line_that_made_an_object_is_noted_with_its_callers(
    tf: Any, births: Births
) -> None:
    def make() -> Any:
        return tf.BaseSession()

    session = make()
    lines = lines_at(births.frames_of(session))
    assert lines[:2] == ["return tf.BaseSession()", "session = make()"]
    here = functions_at(births, session)
    name = "test_the_line_that_made_an_object_is_noted_with_its_callers"
    assert here[:2] == [f"{name}.make", name]


def test_no_more_than_eight_lines_are_noted(tf: Any, births: Births) -> None:
    def make(depth: int) -> Any:
        return make(depth - 1) if depth else tf.Graph()

    graph = make(20)
    assert len(births.frames_of(graph)) == 8
    assert len(births.frames_of(tf.Graph())) < 8


def test_what_was_made_before_the_watch_is_not_known(tf: Any) -> None:
    graph = tf.Graph()
    births = Births()
    births.watch()
    births.stop()
    assert births.frames_of(graph) == []
    assert births.origin_of(graph) == (None, ())


def test_the_graph_of_a_function_is_not_noted(tf: Any, births: Births) -> None:
    assert births.frames_of(tf.FuncGraph()) == []


def test_a_subclass_is_made_where_it_is_called(tf: Any, births: Births) -> None:
    class Mine(tf.BaseSession):  # type: ignore[misc]
        def __init__(self) -> None:
            self.name = "mine"
            super().__init__()

        def close(self) -> None:
            super().close()

    mine = Mine()
    mine.close()
    assert lines_at(births.frames_of(mine))[0] == "mine = Mine()"
    assert lines_at(births.closed_at(mine))[0] == "mine.close()"


def test_an_object_that_dies_makes_room(tf: Any, births: Births) -> None:
    for _ in range(10 * MOST_BORN):
        tf.Graph()
    graph = tf.Graph()
    assert births.frames_of(graph)


def test_of_what_lives_the_first_are_noted(tf: Any, births: Births) -> None:
    graphs = [tf.Graph() for _ in range(MOST_BORN + 1)]
    assert all(map(births.frames_of, graphs[:-1]))
    assert births.frames_of(graphs[-1]) == []


def test_of_closes_the_last_are_noted(tf: Any, births: Births) -> None:
    sessions = [tf.BaseSession() for _ in range(MOST_CLOSED)]
    for session in sessions:
        session.close()
    assert not births.has_forgotten
    assert all(map(births.closed_at, sessions))
    last = tf.BaseSession()
    last.close()
    assert births.has_forgotten
    assert births.closed_at(sessions[0]) is None
    assert births.closed_at(sessions[1])
    assert births.closed_at(last)


def test_the_first_of_two_closes_counts(tf: Any, births: Births) -> None:
    session = tf.BaseSession()
    session.close()  # the one
    session.close()  # the other
    assert lines_at(births.closed_at(session))[0] == "session.close()  # the one"


def test_a_session_that_is_dropped_takes_no_room(tf: Any, births: Births) -> None:
    session = tf.BaseSession()
    session.close()
    for _ in range(2 * MOST_CLOSED):
        tf.BaseSession()
    assert births.closed_at(session)
    assert not births.has_forgotten


def test_a_close_in_the_owner_s_del_is_noted(tf: Any, births: Births) -> None:
    class Owner:
        def __init__(self) -> None:
            self.session = tf.BaseSession()

        def __del__(self) -> None:
            self.session.close()

    owner = Owner()
    session = owner.session
    del owner
    assert lines_at(births.closed_at(session))[0] == "self.session.close()"


def test_a_block_that_fails_closes_in_a_thread_and_is_found(
    tf: Any, births: Births
) -> None:
    with pytest.raises(KeyError), tf.BaseSession() as session:
        raise KeyError
    (line, *_) = lines_at(births.closed_at(session))
    assert line.startswith("with pytest.raises(KeyError), tf.BaseSession()")


def test_the_next_test_knows_who_closed_its_session(tf: Any, births: Births) -> None:
    session = tf.BaseSession()
    session.close()
    births.stop()
    later = Births()
    assert lines_at(later.closed_at(session))[0] == "session.close()"
    assert births.frames_of(session) == []


def test_stop_leaves_nothing_behind(tf: Any) -> None:
    before = dict(vars(tf.BaseSession)), dict(vars(tf.Graph)), list(sys.meta_path)
    births = Births()
    births.watch()
    births.watch()
    assert vars(tf.BaseSession)["__init__"] is not before[0]["__init__"]
    births.stop()
    births.stop()
    after = dict(vars(tf.BaseSession)), dict(vars(tf.Graph)), list(sys.meta_path)
    assert after == before


def test_a_wrapper_of_somebody_else_s_below_ours_works_and_stays(tf: Any) -> None:
    calls = count_calls(tf.BaseSession, "__init__")
    theirs = vars(tf.BaseSession)["__init__"]
    births = Births()
    births.watch()
    session = tf.BaseSession()
    assert lines_at(births.frames_of(session))[0] == "session = tf.BaseSession()"
    births.stop()
    assert vars(tf.BaseSession)["__init__"] is theirs
    assert len(calls) == 1


def test_a_wrapper_of_somebody_else_s_above_ours_works_and_stays(tf: Any) -> None:
    original = vars(tf.BaseSession)["__init__"]
    births = Births()
    births.watch()
    ours = vars(tf.BaseSession)["__init__"]
    calls = count_calls(tf.BaseSession, "__init__")
    theirs = vars(tf.BaseSession)["__init__"]
    assert births.frames_of(kept := tf.BaseSession())
    births.stop()
    assert vars(tf.BaseSession)["__init__"] is theirs
    assert births.frames_of(kept) == births.frames_of(tf.BaseSession()) == []
    assert len(calls) == 2
    tf.BaseSession.__init__ = ours  # as they undo their patch, after us
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


def test_what_the_constructor_raises_passes_through(tf: Any, births: Births) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'grph'"):
        tf.BaseSession(grph=None)


def test_an_import_while_it_watches_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages" / "tensorflow" / "python" / "client"
    folder.mkdir(parents=True)
    for package in (folder, *folder.parents[:2]):
        package.joinpath("__init__.py").touch()
    # as in TensorFlow, one module is imported after another: then the first is there
    folder.parents[1].joinpath("__init__.py").write_text(
        "import tensorflow.python.client.session\nimport tensorflow.last\n"
    )
    folder.parents[1].joinpath("last.py").touch()
    folder.joinpath("session.py").write_text(SESSION)
    for name in list(sys.modules):
        if name.partition(".")[0] == "tensorflow":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder.parents[2])
    births = Births()
    births.watch()
    module: Any = importlib.import_module("tensorflow")
    session = module.python.client.session.BaseSession()
    lines = lines_at(births.frames_of(session))
    births.stop()
    for name in list(sys.modules):
        if name.partition(".")[0] == "tensorflow":
            del sys.modules[name]
    assert lines[0] == "session = module.python.client.session.BaseSession()"
    assert not [f for f in sys.meta_path if type(f).__module__ == Births.__module__]


def make_and_close(tf: Any) -> None:
    with tf.BaseSession():
        tf.Graph()


def make_and_drop(tf: Any) -> None:
    tf.BaseSession()


@pytest.mark.parametrize("body", [make_and_close, make_and_drop])
def test_a_body_that_keeps_nothing_leaves_nothing_here(
    tf: Any, births: Births, body: Callable[[Any], None]
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


def test_an_error_says_where_the_session_was_closed(tf: Any, births: Births) -> None:
    def close_all() -> None:
        session.close()

    session = tf.BaseSession()
    close_all()
    text = after_close(failure_of(session.run), births)
    assert text is not None
    place, _, advice = text.partition("; ")
    assert place.startswith("the session was closed at ")
    assert place.endswith(".close_all()")
    assert advice == ADVICE


def test_the_end_of_a_block_is_called_so(tf: Any, births: Births) -> None:
    with tf.BaseSession() as session:
        session.run()
    text = after_close(failure_of(session.run), births)
    assert text is not None
    assert "(), at the end of its with block; " in text


def test_the_session_is_found_behind_an_error_of_the_user_s(
    tf: Any, births: Births
) -> None:
    def serve() -> None:
        try:
            session.run()
        except RuntimeError as error:
            raise ValueError("no answer") from error

    session, other = tf.BaseSession(), tf.BaseSession()
    session.close()
    other.close()
    text = after_close(failure_of(serve), births)
    assert text is not None
    assert "the session was closed at " in text


def test_of_an_error_written_down_anew_only_one_session_can_be_told(
    tf: Any, births: Births
) -> None:
    def serve() -> None:
        raise ValueError("Attempted to use a closed Session.")

    session = tf.BaseSession()
    session.close()
    text = after_close(failure_of(serve), births)
    assert text is not None
    assert "the session was closed at " in text
    other = tf.BaseSession()
    other.close()
    assert after_close(failure_of(serve), births) == ADVICE


def test_a_session_that_was_closed_earlier_is_told_so(tf: Any) -> None:
    session = tf.BaseSession()
    session.close()
    births = Births()
    births.watch()
    text = after_close(failure_of(session.run), births)
    births.stop()
    assert text is not None
    assert text.startswith("the session was closed before this test was measured")


@pytest.mark.parametrize("method", ["run", "close"])
def test_a_monitored_session_says_where_it_was_closed(
    tf: Any, births: Births, method: str
) -> None:
    monitored = tf._MonitoredSession(tf.BaseSession())
    monitored.close()
    text = after_close(failure_of(getattr(monitored, method)), births)
    assert text is not None
    assert "the session was closed at " in text


def test_a_session_that_was_to_stop_is_no_closed_one(tf: Any, births: Births) -> None:
    monitored = tf._MonitoredSession(tf.BaseSession())
    text = after_close(failure_of(monitored.run_stopped), births)
    assert text is not None
    assert "should_stop() is false" in text
    assert "closed" not in text


def test_an_error_about_something_else_says_nothing(tf: Any, births: Births) -> None:
    class UnshownError(Exception):
        def __str__(self) -> str:
            raise ValueError

    session = tf.BaseSession()
    session.close()
    assert after_close(ValueError("shapes differ"), births) is None
    assert after_close(UnshownError(), births) is None
    assert after_close(failure_of(lambda: len(session)), births) is None
