"""Each shape of test leaks, is clean and fails, on real TensorFlow.

The names of the measured tests say what their verdicts are.
"""

from __future__ import annotations

import pytest

from tests.plugin.shapes.conftest import Measure

FUNCTION = """
import tensorflow as tf
KEPT = []

def test_leak(): KEPT.append(tf.ones([2]))
def test_clean(): tf.ones([2])
def test_failed(): assert not KEPT.append(tf.ones([2])) and False

class TestPlain:
    def test_leak(self): KEPT.append(tf.ones([2]))
    def test_clean(self): self.x = tf.ones([2])
    def test_failed(self): assert False
"""
TEST_CASE = """
import unittest
import tensorflow as tf
KEPT = []

class Test(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = [tf.ones([2])]

    def setUp(self):
        self.x = tf.Variable([1.0])
        self.addCleanup(self.made.clear)

    def test_leak(self): KEPT.append(self)
    def test_clean(self):
        self.made.append(self.x + 1.0)
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(float(self.x[0]), 1.0)
    def test_failed(self): self.fail()
    def test_failed_subtest(self):
        with self.subTest("of two"): self.fail()
    def test_body_skipped(self): self.skipTest("why")
    @unittest.expectedFailure
    def test_xfailed(self): self.fail()

class LeaksInSetUp(unittest.TestCase):
    def setUp(self): KEPT.append(tf.ones([2]))
    def test_leak(self): pass

class LeaksInCleanup(unittest.TestCase):
    def test_leak(self): self.addCleanup(lambda: KEPT.append(tf.ones([2])))

class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self): self.x = tf.ones([2])
    async def test_leak(self): KEPT.append(self.x)
    async def test_clean(self): self.x += 1.0
    async def test_failed(self): self.fail()
"""
TENSORFLOW = """
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.python.framework import test_util
tf1 = tf.compat.v1
combinations = tf.__internal__.test.combinations
in_both_modes = combinations.generate(combinations.combine(mode=["graph", "eager"]))
OPEN = []

class Generated(tf.test.TestCase, parameterized.TestCase):
    @in_both_modes
    def test_generated_clean(self): self.assertEqual(tf.ones([2]).shape, [2])

    @in_both_modes
    def test_generated_leak(self): OPEN.append(tf.ones([2]))

    @in_both_modes
    def test_generated_failed(self): self.fail()

class Test(tf.test.TestCase, parameterized.TestCase):
    def test_clean_cached(self):
        with tf.Graph().as_default(), self.cached_session():
            self.assertAllEqual(self.evaluate(tf.constant(1) + 1), 2)

    @test_util.run_in_graph_and_eager_modes
    def test_clean_in_both(self):
        self.assertAllEqual(self.evaluate(tf.constant(1) + 1), 2)

    @test_util.deprecated_graph_mode_only
    def test_clean_in_graph(self):
        with self.session() as session:
            session.run(tf.constant(3.0))

    @test_util.deprecated_graph_mode_only
    def test_leak(self):
        with self.cached_session() as session:
            session.run(tf.constant(3.0))
        OPEN.append(tf1.Session())

    @parameterized.named_parameters(("leak", True), ("clean", False))
    def test_parameter_(self, is_kept):
        OPEN.append(tf.ones([2]) if is_kept else None)

    @parameterized.parameters((1,))
    def test_failed(self, number):
        self.assertAllEqual(tf.constant(number), 2)
"""
KERAS = """
import tensorflow as tf
from absl.testing import parameterized
from keras import layers
from keras.src import testing
KEPT = []

class Test(testing.TestCase):
    def test_clean(self): self.run_class_serialization_test(layers.ReLU())
    def test_failed(self): self.assertAllClose(tf.ones([2]), tf.zeros([2]))

    @parameterized.named_parameters(("leak", True), ("clean", False))
    def test_parameter_(self, is_kept):
        y = layers.ReLU(name="r")(tf.ones([2]))
        KEPT.append(y if is_kept else None)
"""
DOCTESTS = """
import tensorflow as tf
KEPT = []

def leak():
    '''Keep a tensor.

    >>> KEPT.append(tf.ones([2]))
    '''

def clean():
    '''Define a name.

    >>> x = tf.ones([2])
    >>> float(x[0])
    1.0
    '''

def failed():
    '''Fail.

    >>> KEPT
    1
    '''
"""
HYPOTHESIS = """
import unittest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
KEPT = []
few = settings(max_examples=4, deadline=None)

@few
@given(st.integers())
def test_leak(x): KEPT.append(tf.ones([2]))

@few
@given(st.lists(st.integers(0, 9)))
def test_clean(x): tf.constant(x)

@few
@given(st.integers())
def test_failed(x): assert x < -1e9

class Test(unittest.TestCase):
    @few
    @given(st.integers())
    def test_leak(self, x): KEPT.append(tf.ones([2]))

    @few
    @given(st.integers(0, 9))
    def test_clean(self, x): tf.constant(x)

    @few
    @given(st.integers())
    def test_failed(self, x): self.fail()
"""
ASYNC = """
import {library}
import pytest
import tensorflow as tf
{mark}
KEPT = []

@pytest.fixture
async def x():
    yield tf.ones([2])

async def test_leak(x):
    await {library}.sleep(0)
    KEPT.append(x + 1.0)

async def test_clean(x):
    await {library}.sleep(0)

async def test_failed(x):
    await {library}.sleep(0)
    assert False
"""
TASKS = """
async def test_leak_in_a_task():
    async def wait(x):
        await asyncio.sleep(1_000)
    asyncio.create_task(wait(tf.ones([2])))
    await asyncio.sleep(0)
"""
SHAPES = {
    "test_function": FUNCTION,
    "test_testcase": TEST_CASE,
    "test_tensorflow": TENSORFLOW,
    "test_keras": KERAS,
    "doctests": DOCTESTS,
    "test_hypothesis": HYPOTHESIS,
}
#: The verdict on a test, by a word in its name.
VERDICTS = {
    "leak": "leak",
    "clean": "clean",
    "failed": "body_failed",
    "skipped": "body_skipped",
}
ALSO_ON_WORKERS = pytest.mark.parametrize(
    "workers",
    [(), pytest.param(("-n2",), marks=pytest.mark.slow)],
    ids=["one process", "xdist"],
)


def expected(name: str) -> str:
    return next(verdict for word, verdict in VERDICTS.items() if word in name)


@pytest.mark.parametrize(
    "workers",
    [pytest.param((), marks=pytest.mark.slow), ("-n2",)],
    ids=["one process", "xdist"],
)
def test_every_shape_is_measured(measure: Measure, workers: tuple[str, ...]) -> None:
    verdicts = measure(SHAPES, "--doctest-modules", *workers)
    assert verdicts == {name: expected(name) for name in verdicts}
    assert len(verdicts) == 43  # without the test_session of tf.test.TestCase


@ALSO_ON_WORKERS
def test_asyncio_tests_are_measured(measure: Measure, workers: tuple[str, ...]) -> None:
    pytest.importorskip("pytest_asyncio")
    source = ASYNC.format(library="asyncio", mark="") + TASKS
    verdicts = measure({"test_it": source}, "--asyncio-mode=auto", *workers)
    assert verdicts == {name: expected(name) for name in verdicts}
    assert len(verdicts) == 4


@ALSO_ON_WORKERS
def test_anyio_tests_are_measured_in_each_loop(
    measure: Measure, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("anyio")
    pytest.importorskip("trio")
    source = ASYNC.format(library="anyio", mark="pytestmark = pytest.mark.anyio")
    verdicts = measure({"test_it": source}, *workers)
    assert verdicts == {name: expected(name) for name in verdicts}
    assert len(verdicts) == 6
