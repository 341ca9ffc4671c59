"""Objects kept by Python's own library: mocks, timers, queues; with mended code."""

import asyncio
import collections
import contextvars
import io
import itertools
import logging
import multiprocessing
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from multiprocessing.shared_memory import SharedMemory
from unittest.mock import Mock

import pytest
import tensorflow as tf

#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    iterations=12, warmup=3, host_per_iteration="1 GiB", blocks=1_000_000
)
weighed = pytest.mark.tfleak(iterations=20, host_per_iteration="1 KiB", blocks=24)
KEPT = []
LAST = collections.deque(maxlen=1)
STEPS = itertools.count()
LOG = logging.getLogger("planted")


@pytest.fixture(scope="module", autouse=True)
def closed():
    """Close what leaked when the tests are done."""
    yield
    for kept in KEPT:
        if isinstance(kept, threading.Timer):
            kept.cancel()
        if isinstance(kept, (SharedMemory, Queue, asyncio.AbstractEventLoop)):
            kept.close()
        if isinstance(kept, SharedMemory):
            kept.unlink()
    for log in (LOG, tf.get_logger()):
        for added in list(log.filters):
            log.removeFilter(added)


class Server:
    pass


SERVER = Server()


def clean_up(x):
    pass


def test_finalizer_keeps_arguments():
    weakref.finalize(SERVER, clean_up, tf.ones([64]))  # planted


def test_finalizer_keeps_arguments_mended():
    finalizer = weakref.finalize(SERVER, clean_up, tf.ones([64]))
    finalizer.detach()


def batches():
    while True:
        yield tf.ones([64])  # planted


TRAIN, PREVIEW = itertools.tee(batches())


def test_iterator_falls_behind():
    next(TRAIN)


def test_iterator_falls_behind_mended():
    for x, y in zip(TRAIN, PREVIEW):  # noqa: B905 - as printed
        LAST.append(float(x[0] + y[0]))
        if next(STEPS) % 57 == 0:  # tee() frees 57 items at once
            break


REPORTER = Mock()


def test_mock_keeps_calls():
    REPORTER.report(gradients=tf.ones([64]))  # planted


def test_mock_keeps_calls_mended():
    REPORTER.report(gradients=tf.ones([64]))
    REPORTER.reset_mock()


class Sink(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        return len(data)


PICKLER = pickle.Pickler(Sink())


@weighed
def test_pickler_keeps_objects():
    PICKLER.dump([str(n) for n in range(1000, 1200)])  # planted


@weighed
def test_pickler_keeps_objects_mended():
    PICKLER.dump([str(n) for n in range(1000, 1200)])
    PICKLER.clear_memo()


CONTEXT = multiprocessing.get_context("spawn")


def fed_queue():
    queue = CONTEXT.Queue()  # planted
    queue.put(b"x")  # planted
    queue.get()
    return queue


def test_queue_not_closed():
    KEPT.append(fed_queue())


def test_queue_not_closed_mended():
    queue = CONTEXT.Queue()
    try:
        queue.put(b"x")
        queue.get()
    finally:
        queue.close()
        queue.join_thread()


def start_timer():
    timer = threading.Timer(3600, print, args=[tf.ones([64])])  # planted
    timer.daemon = True
    timer.start()
    return timer


def test_timer_not_cancelled():
    KEPT.append(start_timer())


def test_timer_not_cancelled_mended():
    timer = threading.Timer(3600, print, args=[tf.ones([64])])
    timer.daemon = True
    try:
        timer.start()
    finally:
        timer.cancel()
        timer.join()


class AddLoss(logging.Filter):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def filter(self, record):
        record.loss = float(self.loss)
        return True


def test_log_filter_not_removed():
    add_loss = AddLoss(tf.ones([]))  # planted
    LOG.addFilter(add_loss)  # planted
    LOG.info("step")


def test_log_filter_not_removed_mended():
    add_loss = AddLoss(tf.ones([]))
    LOG.addFilter(add_loss)
    try:
        LOG.info("step")
    finally:
        LOG.removeFilter(add_loss)


def test_log_filter_not_removed__function():
    x = tf.ones([64])  # planted
    tf.get_logger().addFilter(lambda record: float(x[0]) > 0)


def test_log_filter_not_removed__function_mended():
    x = tf.ones([64])

    def log_filter(record):
        return float(x[0]) > 0

    tf.get_logger().addFilter(log_filter)
    try:
        tf.get_logger().info("step")
    finally:
        tf.get_logger().removeFilter(log_filter)


async def work():
    await asyncio.sleep(0)


def test_event_loop_not_closed():
    loop = asyncio.new_event_loop()  # planted
    KEPT.append(loop)
    loop.run_until_complete(work())


def test_event_loop_not_closed_mended():
    loop = asyncio.new_event_loop()
    KEPT.append(loop)
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()


def test_shared_memory_left():
    KEPT.append(SharedMemory(create=True, size=1000))  # planted


def test_shared_memory_left_mended():
    segment = SharedMemory(create=True, size=1000)
    try:
        segment.buf[0] = 1
    finally:
        segment.close()
        segment.unlink()


POOL = ThreadPoolExecutor(1)
POOL.submit(int).result()
PENDING = set()


def test_future_kept():
    future = POOL.submit(tf.ones, [64])  # planted
    PENDING.add(future)
    future.result()


def test_future_kept_mended():
    future = POOL.submit(tf.ones, [64])
    PENDING.add(future)
    future.result()
    future.add_done_callback(PENDING.discard)


BATCH = contextvars.ContextVar("batch")


def test_context_token_kept():
    BATCH.set(tf.ones([64]))  # planted
    KEPT.append(BATCH.set(None))


def test_context_token_kept_mended():
    BATCH.set(tf.ones([64]))
    token = BATCH.set(None)
    try:
        BATCH.get()
    finally:
        BATCH.reset(token)
