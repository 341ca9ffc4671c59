"""Threads, files, processes, native memory: each cause, with mended code."""

import ctypes
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf

v1 = tf.compat.v1
#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    iterations=12, warmup=3, host_per_iteration="1 GiB", blocks=1_000_000
)
weighed = pytest.mark.tfleak(iterations=20, host_per_iteration="1 KiB", blocks=24)
KEPT = []
STOP = threading.Event()


@pytest.fixture(scope="module", autouse=True)
def stopped():
    """End the threads and processes when the tests are done."""
    yield
    STOP.set()
    for kept in KEPT:
        if isinstance(kept, subprocess.Popen):
            kept.kill()
            kept.wait()
            kept.stdin.close()


def queue_graph():
    with tf.Graph().as_default() as graph:
        queue = v1.FIFOQueue(4, [tf.float32], [[]])
        runner = v1.train.QueueRunner(queue, [queue.enqueue(1.0)])
        v1.train.add_queue_runner(runner)
    return graph


def test_queue_runner_threads():
    graph = queue_graph()
    with graph.as_default():
        v1.train.start_queue_runners(v1.Session())  # planted


def test_queue_runner_threads_mended():
    graph = queue_graph()
    with graph.as_default():
        session, coordinator = v1.Session(), v1.train.Coordinator()
        threads = v1.train.start_queue_runners(session, coordinator)
        try:
            assert threads
        finally:
            coordinator.request_stop()
            coordinator.join(threads)
            session.close()


def test_executor_not_shut_down():
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()  # planted
    KEPT.append(pool)


def test_executor_not_shut_down_mended():
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(int).result()
    finally:
        pool.shutdown()


def work(x):
    STOP.wait()


def test_thread_never_joined():
    thread = threading.Thread(target=work, args=[tf.ones([64])], daemon=True)  # planted
    thread.start()


def test_thread_never_joined_mended():
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, daemon=True)
    thread.start()
    try:
        assert thread.is_alive()
    finally:
        ends.set()
        thread.join()


COMMAND = ["cat"]


def test_process_never_joined():
    KEPT.append(subprocess.Popen(COMMAND, stdin=subprocess.PIPE))  # planted


def test_process_never_joined_mended():
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE)
    with process:
        process.terminate()


@weighed
def test_summary_writer_not_closed(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))  # planted
    KEPT.append(writer)


@weighed
def test_summary_writer_not_closed_mended(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    try:
        writer.flush()
    finally:
        writer.close()


def test_file_not_closed(tmp_path):
    KEPT.append((tmp_path / "file").open("w"))  # planted


def test_file_not_closed_mended(tmp_path):
    file = (tmp_path / "file").open("w")
    KEPT.append(file)
    file.close()


GRAPH = tf.Graph()
with GRAPH.as_default():
    QUEUE = v1.FIFOQueue(1_000_000, [tf.float32])
    PUT = QUEUE.enqueue(tf.random.uniform([5000]))
    GET = QUEUE.dequeue()


@pytest.fixture(scope="module")
def session():
    """Open a session."""
    with v1.Session(graph=GRAPH) as session:
        yield session


@weighed
def test_session_keeps_data(session):
    session.run(PUT)  # planted


@weighed
def test_session_keeps_data_mended(session):
    session.run(PUT)
    session.run(GET.op)


LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]


@weighed
def test_native_memory():
    LIBC.malloc(20_000)


@weighed
def test_native_memory_mended():
    LIBC.free(LIBC.malloc(20_000))
