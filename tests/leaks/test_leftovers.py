"""What one call leaves of TensorFlow: sessions, graphs and entries of stacks."""

from __future__ import annotations

import pytest

from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from tests.leaks.conftest import read_verdicts

SUITE = """
import pytest
import tensorflow as tf

tf1 = tf.compat.v1
KEPT = []


def test_leaves_a_session():
    KEPT.append(tf1.Session(graph=tf.Graph()))


def test_leaves_a_graph():
    KEPT.append(tf.Graph())


def test_leaves_a_tape():
    tape = tf.GradientTape()
    KEPT.append(tape.__enter__())


def test_leaves_a_default_writer(tmp_path):
    scope = tf.summary.create_file_writer(str(tmp_path)).as_default()
    scope.__enter__()


def test_leaves_a_default_session():
    KEPT.append(tf1.InteractiveSession(graph=tf.Graph()))


def test_closes_its_session():
    with tf.Graph().as_default(), tf1.Session() as session:
        assert session.run(tf1.constant(3)) == 3


def test_drops_its_graph():
    with tf.Graph().as_default():
        tf1.constant(3)


def test_eager():
    function = tf.function(lambda x: x + 1)
    assert int(function(tf.constant(1))) == 2


@pytest.fixture
def sessions():
    opened = []
    yield opened
    for session in opened:
        session.close()


def test_its_fixture_closes_it(sessions):
    sessions.append(tf1.Session(graph=tf.Graph()))


@pytest.fixture(scope="module")
def model():
    return {}


def test_a_module_fixture_keeps_it(model):
    model["session"] = tf1.Session(graph=tf.Graph())


class TestModel(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.session_of_test = tf1.Session(graph=tf.Graph())

    def test_drops_it(self):
        assert self.session_of_test is not None

    def test_keeps_it(self):
        KEPT.append(self.session_of_test)

    def test_cached_session(self):
        with tf.Graph().as_default(), self.cached_session():
            assert self.evaluate(tf1.constant(3)) == 3


def test_fails():
    KEPT.append(tf1.Session(graph=tf.Graph()))
    KEPT.append(tf.GradientTape().__enter__())
    tf.distribute.OneDeviceStrategy("/CPU:0").scope().__enter__()
    raise ValueError("fails")
"""
LEAKS = {
    "test_leaves_a_session": ("tf.sessions", 9),
    "test_leaves_a_graph": ("tf.graphs", 13),
    "test_leaves_a_tape": ("tf.tapes", 18),
    "test_leaves_a_default_writer": ("tf.summary_writer", 23),
    "test_leaves_a_default_session": ("tf.sessions", 27),
    "test_keeps_it": ("tf.sessions", 69),
}


def test_what_a_test_leaves_is_found_in_one_call(pytester: pytest.Pytester) -> None:
    verdicts = read_verdicts(pytester, SUITE, "--tfleak", "--tfleak-depth=leftovers")
    leaks = {n: v.failing for n, v in verdicts.items() if v.status is Status.LEAK}
    assert leaks.keys() == LEAKS.keys()
    for name, (signal, line) in LEAKS.items():
        found = next(f for f in leaks[name] if f.signal == signal)
        assert found.origin is not None and found.origin.line == line, name
    (session,) = (
        f for f in leaks["test_leaves_a_session"] if f.signal == "tf.sessions"
    )
    assert session.path is not None and not session.path.is_native
    assert verdicts["test_fails"].reason is Reason.BODY_FAILED
    at = "made at test_it.py:{} in test_fails()"
    assert verdicts["test_fails"].notes == (
        f"Still open when it failed: a session {at.format(83)}.",
        f"1 gradient tape was never left ({at.format(84)}).",
        f"1 strategy scope was never left ({at.format(85)}).",
    )
    del verdicts["test_fails"]
    assert {v.iterations for v in verdicts.values()} == {1}


FILES = """
import h5py
import pytest
import tensorflow as tf

KEPT = []


def open_it(path):
    file = tf.io.gfile.GFile(str(path))
    file.read()
    return file


def test_keeps_what_tensorflow_opens(tmp_path):
    path = tmp_path / "a"
    path.write_text("closed at once")
    KEPT.append(open_it(path))


def test_keeps_what_hdf5_opens(tmp_path):
    KEPT.append(h5py.File(tmp_path / "a", "w"))


def test_closes_both(tmp_path):
    h5py.File(tmp_path / "a", "w").close()
    path = tmp_path / "b"
    path.write_text("closed at once")
    open_it(path).close()
"""


def test_a_file_of_native_code_is_found_by_its_object(
    pytester: pytest.Pytester,
) -> None:
    verdicts = read_verdicts(pytester, FILES, "--tfleak", "--tfleak-depth=leftovers")
    for name, kept, line in (
        ("test_keeps_what_tensorflow_opens", "GFile", 9),
        ("test_keeps_what_hdf5_opens", "File", 21),
    ):
        (found,) = verdicts[name].failing
        assert found.signal == "process.fds"
        assert kept in str(found.what)
        assert found.origin is not None and found.origin.line == line
        assert found.path is not None and not found.path.is_native
    assert verdicts["test_closes_both"].status is Status.CLEAN
