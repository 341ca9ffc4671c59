import itertools

import pytest
import tensorflow as tf

measured = pytest.mark.tfleak(iterations=20, warmup=2)
HISTORY, GRAPH, number = [], tf.Graph(), itertools.count()
TWICE, RESERVED = [], {}


class Tracker:
    def __init__(self):
        self.seen = {}

    def put(self, key, value):
        self.seen[key] = value  # stored: attribute


TRACKER = Tracker()


def compute():
    return tf.ones([4]) * 2.0  # made: all


def remember(value):
    HISTORY.append(value)  # stored: list


@measured
def test_list():
    remember(compute())


@measured
def test_attribute():
    value = compute()
    TRACKER.put(next(number), value)


@measured
def test_library():
    value = compute()
    GRAPH.add_to_collection("seen", value)  # stored: library


@measured
def test_two_lines():
    temporary, kept = compute(), compute()
    TWICE.append(temporary)
    TWICE.append(kept)  # stored: two lines
    TWICE[:] = [one for one in TWICE if one is not temporary]


@measured
def test_reserved():
    key = next(number)
    RESERVED[key] = None
    RESERVED[key] = compute()  # stored: reserved


class Node:
    def __init__(self, value, after):
        self.value = value
        self.after = after


class Agent:
    def __init__(self):
        self.ragged = tf.ragged.constant([[0.0]])
        self.head = None

    def batch(self):
        rows = tf.RaggedTensor.from_row_lengths(tf.ones([4000]), [4000])
        self.ragged = tf.concat([self.ragged, rows], axis=0)  # stored: ragged

    def push(self):
        value = compute()
        node = Node(value, self.head)
        self.head = node  # stored: chain


AGENT = Agent()


@measured
def test_ragged():
    AGENT.batch()


@measured
def test_chain():
    AGENT.push()
