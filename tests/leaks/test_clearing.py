"""The Keras session is left alone if clearing it would end the process."""

from __future__ import annotations

import pytest

TAKEN_APART = """
import sys
import keras
import pytest

@pytest.fixture
def no_tensorflow(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "tensorflow":
            monkeypatch.delitem(sys.modules, name)

@pytest.fixture
def no_context(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow.python.eager.context")

@pytest.fixture
def blocked(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)

@pytest.mark.tfleak(iterations=5)
@pytest.mark.parametrize("how", ["no_tensorflow", "no_context", "blocked"])
def test_apart(request, how):
    request.getfixturevalue(how)

def test_after():
    import tensorflow as tf
    assert float(tf.constant(1.0)) == 1.0
    keras.utils.clear_session()
"""
RPC = """
import pytest
import tensorflow as tf
import keras

rpc = tf.distribute.experimental.rpc
SERVER = rpc.Server.create("grpc", "localhost:38573")

@tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
def double(x):
    return 2.0 * x

SERVER.register("double", double)
SERVER.start()
CLIENT = rpc.Client.create("grpc", address="localhost:38573")

@pytest.mark.tfleak(iterations=5)
def test_call():
    assert float(CLIENT.double_blocking(tf.constant(1.0))) == 2.0

def test_fixture(clear_keras_session):
    assert float(CLIENT.double_blocking(tf.constant(1.0))) == 2.0

def test_after():
    assert float(CLIENT.double_blocking(tf.constant(1.0))) == 2.0
"""
EAGER = """
import pytest
import tensorflow as tf

@pytest.mark.tfleak(iterations=5)
def test_old_code():
    tf.compat.v1.disable_eager_execution()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.constant(1))

def test_eager_mode_is_back():
    assert tf.executing_eagerly()
"""


@pytest.mark.slow
def test_where_tensorflow_was_taken_apart(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TAKEN_APART)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-vv")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*The Keras session was not cleared*"])


@pytest.mark.slow
def test_where_an_rpc_server_is_alive(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(RPC)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-vv")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*RPC server or client is alive*"])


def test_eager_execution_is_put_back_with_a_note(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(EAGER)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-vv")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*The default execution mode was changed*"])
