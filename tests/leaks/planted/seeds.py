"""Seeds that fixtures set, and what later tests see of them."""

import pytest
import tensorflow as tf

pytestmark = pytest.mark.tfleak(iterations=10)


@pytest.fixture
def own_seed():
    tf.random.set_seed(7)


@pytest.fixture(scope="class")
def seed_of_the_class():
    tf.random.set_seed(11)


def seed():
    from tensorflow.python.eager import context

    return context.context()._seed


def test_seeded(own_seed):
    assert seed() == 7


def test_next_has_no_seed():
    assert seed() is None
    tf.random.uniform([4])


class TestShared:
    def test_first(self, seed_of_the_class):
        assert seed() == 11

    def test_own_seed(self, seed_of_the_class, own_seed):
        assert seed() == 7

    def test_last(self, seed_of_the_class):
        assert seed() == 11
