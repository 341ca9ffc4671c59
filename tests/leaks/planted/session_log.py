"""Sessions and graphs that are made once, and sessions used after they were closed."""

import pytest
import tensorflow as tf

v1 = tf.compat.v1
pytestmark = pytest.mark.tfleak(iterations=20)


class Named(v1.Session):
    def __init__(self, name, **options):
        self.name = name
        super().__init__(**options)

    def close(self):
        super().close()


class Stop(v1.train.SessionRunHook):
    def after_run(self, context, values):
        context.request_stop()


def build():
    graph = tf.Graph()
    with graph.as_default():
        total = tf.reduce_sum(tf.ones([4]))
    return graph, total


def monitored(*hooks):
    v1.train.create_global_step()
    return v1.train.MonitoredTrainingSession(hooks=hooks)


the_session = the_graph = the_named = the_monitored = the_interactive = None
first = second = None
graph, total = build()
shared = v1.Session(graph=graph)
closed_early = v1.Session(graph=graph)
closed_early.close()


def test_session_made_once():
    global the_session
    if the_session is None:
        the_session = v1.Session(graph=tf.Graph())


def test_graph_made_once():
    global the_graph
    if the_graph is None:
        the_graph = tf.Graph()


def test_subclass_made_once():
    global the_named
    if the_named is None:
        the_named = Named("once", graph=tf.Graph())


def test_monitored_made_once():
    global the_monitored
    if the_monitored is None:
        with tf.Graph().as_default():
            the_monitored = monitored()


def test_interactive_made_once():
    global the_interactive
    if the_interactive is None:
        the_interactive = v1.InteractiveSession(graph=tf.Graph())


def test_two_made_once():
    global first, second
    if first is None:
        first = v1.Session(graph=tf.Graph())
        second = v1.Session(graph=tf.Graph())


def test_used_after_its_block():
    with v1.Session(graph=graph) as session:
        session.run(total)
    total.eval(session=session)


def test_used_after_its_block_failed():
    try:
        with v1.Session(graph=graph) as session:
            session.run("missing:0")
    except ValueError:
        session.run(total)


def test_closed_at_the_end_of_each_call():
    shared.run(total)
    shared.close()


def test_callable_after_close():
    session = v1.Session(graph=graph)
    answer = session.make_callable(total)
    session.close()
    answer()


def test_interactive_after_close():
    session = v1.InteractiveSession(graph=graph)
    session.close()
    total.eval(session=session)


def test_subclass_after_close():
    session = Named("used", graph=graph)
    session.close()
    session.run(total)


def test_monitored_after_its_block():
    with tf.Graph().as_default():
        step = tf.constant(1) + 1
        with monitored() as session:
            session.run(step)
        session.run(step)


def test_monitored_after_a_stop():
    with tf.Graph().as_default():
        step = tf.constant(1) + 1
        with monitored(Stop()) as session:
            session.run(step)
            session.run(step)


def test_closed_elsewhere():
    closed_early.run(total)


def test_failing_inside_the_block():
    with v1.Session(graph=graph) as session:
        session.run("no such tensor:0")


def test_nothing_at_all_is_clean():
    pass


def test_made_and_closed_is_clean():
    with v1.Session(graph=tf.Graph()):
        pass


def test_made_and_dropped_is_clean():
    v1.Session(graph=tf.Graph())
