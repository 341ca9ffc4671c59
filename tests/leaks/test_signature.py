"""The signature that a message advises ends the retraces of a tf.function."""

from __future__ import annotations

import sys

import pytest

SCRIPT = """
import tensorflow as tf

from pytest_tfleak.diagnosis.what.retraces import explain_retraces
from pytest_tfleak.diagnosis.what.retraces import newest_types
from pytest_tfleak.diagnosis.what.signature import declare


def ragged(n):
    lengths = tf.fill([n], tf.constant(2, tf.int64))
    return tf.RaggedTensor.from_row_lengths(tf.ones([2 * n], tf.int32), lengths)


def sparse(n):
    return tf.sparse.from_dense(tf.eye(n))


class Model:
    def double(self, x):
        return x * 2


two = tf.constant(2)
CALLS = {
    "a dimension": (lambda x, y: tf.size(x) + y, lambda n: (tf.ones([n, 4]), two)),
    "a rank": (lambda x: tf.size(x), lambda n: (tf.ones([1] * n),)),
    "ragged": (lambda x: tf.reduce_sum(x, axis=1), lambda n: (ragged(n),)),
    "sparse": (lambda x: tf.sparse.reduce_sum(x), lambda n: (sparse(n),)),
    "a number": (lambda x, n: x * n, lambda n: (tf.ones([3], tf.int32), n)),
    "a large number": (lambda n: n, lambda n: (2**40 + n,)),
    "a text": (lambda x: tf.strings.length(x), lambda n: (str(n),)),
    "a method": (Model().double, lambda n: (tf.ones([n]),)),
}
for name, (python, make) in CALLS.items():
    traced = tf.function(python)
    for n in range(1, 6):
        traced(*make(n))
    retrace = explain_retraces(traced)
    text = declare(newest_types(traced), retrace.argument)
    code = text.strip("`").removeprefix("@")
    mended = eval(code, {"tf": tf})(python)
    for n in range(1, 6):
        mended(*make(n))
    assert mended.experimental_get_tracing_count() == 1, (name, text)
    print(name, text)

part = tf.function(lambda options, x: x * options["by"])
for n in range(1, 6):
    part({"by": 2}, tf.ones([n]))
print("in part", declare(newest_types(part), "x"))
mode = tf.function(lambda x, mode: x)
for n in range(1, 6):
    mode(tf.ones([n]), "train")
print("with a mode", declare(newest_types(mode), "x"))
print("not at all", repr(declare(newest_types(part), "options['by']")))
"""


def test_the_advised_signature_is_typed_in(pytester: pytest.Pytester) -> None:
    result = pytester.run(sys.executable, pytester.makepyfile(script=SCRIPT))
    assert result.ret == 0, result.stderr.str()
    told = dict(line.split(" `", 1) for line in result.outlines if " `" in line)
    assert told["a dimension"] == (
        "@tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32), "
        "tf.TensorSpec([], tf.int32)])`"
    )
    assert "tf.RaggedTensorSpec([None, None], tf.int32)" in told["ragged"]
    assert told["in part"] == (
        "@tf.function(input_signature=[...])` for all arguments, with "
        "`tf.TensorSpec([None], tf.float32)` for `x`"
    )
    assert "(input_signature=[...])` for all arguments" in told["with a mode"]
    assert "not at all ''" in result.outlines
