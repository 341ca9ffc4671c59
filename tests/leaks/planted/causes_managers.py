"""Context managers that do not clean up when a call fails: each cause, mended."""

import contextlib
import threading

import pytest
import tensorflow as tf

#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    faults=True, iterations=12, warmup=2, host_per_iteration="1 GiB", blocks=1_000_000
)
OPEN = []


def compute():
    return tf.reduce_sum(tf.ones([4]))


class OnSuccess:
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted

    def __exit__(self, kind, error, trace):
        if kind is None:
            OPEN.pop().close()


class Always(OnSuccess):
    def __exit__(self, kind, error, trace):
        OPEN.pop().close()


def test_exit_only_on_success():
    with OnSuccess():
        compute()


def test_exit_only_on_success_mended():
    with Always():
        compute()


class WarmsUp(Always):
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
        compute()


class WarmsUpCarefully(Always):
    def __enter__(self):
        super().__enter__()
        try:
            compute()
        except BaseException:
            self.__exit__(None, None, None)
            raise


def test_enter_fails_after_opening():
    with WarmsUp():
        pass


def test_enter_fails_after_opening_mended():
    with WarmsUpCarefully():
        pass


class Reports(Always):
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted

    def __exit__(self, *error):
        compute()
        OPEN.pop().close()


class ReportsCarefully(Reports):
    def __exit__(self, *error):
        try:
            compute()
        finally:
            OPEN.pop().close()


def test_exit_fails_before_closing():
    with Reports():
        pass


def test_exit_fails_before_closing_mended():
    with ReportsCarefully():
        pass


@contextlib.contextmanager
def ticking():
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, daemon=True)  # planted
    thread.start()
    yield
    ends.set()
    thread.join()


@contextlib.contextmanager
def ticking_carefully():
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def test_yield_without_finally():
    with ticking():
        compute()


def test_yield_without_finally_mended():
    with ticking_carefully():
        compute()


class Plain:
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted

    def __exit__(self, *error):
        OPEN.pop().close()


class Bundle:
    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(Plain())
        compute()


class CarefulBundle:
    def __init__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(Plain())
            compute()
            self.stack = stack.pop_all()


def test_exit_stack_half_filled():
    bundle = Bundle()
    bundle.stack.close()


def test_exit_stack_half_filled_mended():
    bundle = CarefulBundle()
    bundle.stack.close()
