"""What stays open, each with the printed remedy typed in, and nothing else changed."""

import collections
import itertools
import logging
import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor

import pytest

#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    iterations=12, warmup=3, host_per_iteration="1 GiB", blocks=1_000_000
)
few = pytest.mark.tfleak(iterations=8, warmup=2, host_per_iteration="1 GiB")
counted = pytest.mark.tfleak(iterations=20, warmup=3, blocks=8)
FORK = multiprocessing.get_context("fork")
FOLDER = tempfile.mkdtemp()
RUNS = f"{FOLDER}/runs.db"
LOG = logging.getLogger("planted")
NUMBERS = itertools.count()
OPEN = []
BY_NUMBER = {}
BY_NUMBER_MENDED = {}
DIRECTORIES = []
DIRECTORIES_MENDED = []


@pytest.fixture(scope="module", autouse=True)
def ended():
    """End the processes and threads when the tests are done."""
    yield
    for kept in [*OPEN, *BY_NUMBER.values()]:
        if isinstance(kept, subprocess.Popen | multiprocessing.process.BaseProcess):
            kept.terminate()
            kept.wait() if isinstance(kept, subprocess.Popen) else kept.join()
        if isinstance(kept, ProcessPoolExecutor):
            kept.shutdown()
    for handler in list(LOG.handlers):
        LOG.removeHandler(handler)


def log_to_file():
    handler = logging.FileHandler(os.devnull)  # planted
    LOG.addHandler(handler)  # planted


def test_handler_not_removed():
    log_to_file()


def test_handler_not_removed_mended():
    handler = logging.FileHandler(os.devnull)
    LOG.addHandler(handler)
    try:
        LOG.warning("x")
    finally:
        LOG.removeHandler(handler)
        handler.close()


class Store:
    opened = []  # noqa: RUF012 - the leak

    def save(self):
        connection = sqlite3.connect(RUNS)  # planted
        connection.execute("create table if not exists runs (loss)")
        self.opened.append(connection)  # planted


def test_file_not_closed__database():
    Store().save()


class StoreMended:
    opened = []  # noqa: RUF012 - shared, as in the leaking class

    def save(self):
        connection = sqlite3.connect(RUNS)
        connection.execute("create table if not exists runs (loss)")
        self.opened.append(connection)
        connection.close()
        del StoreMended.opened[:-10]


def test_file_not_closed__database_mended():
    StoreMended().save()


class Feed:
    def __init__(self):
        self.sock = socket.socket()  # planted


def test_file_not_closed__attribute():
    feed = Feed()  # planted
    BY_NUMBER[next(NUMBERS)] = feed


def test_file_not_closed__attribute_mended():
    feed = Feed()
    BY_NUMBER_MENDED[next(NUMBERS)] = feed
    feed.sock.close()
    while len(BY_NUMBER_MENDED) > 10:
        BY_NUMBER_MENDED.pop(next(iter(BY_NUMBER_MENDED)))


def test_file_not_closed__descriptor():
    fd = os.open(os.devnull, os.O_RDONLY)  # planted
    if os.read(fd, 1) != b"x":
        return
    os.close(fd)


def test_file_not_closed__descriptor_mended():
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        if os.read(fd, 1) != b"x":
            return
    finally:
        os.close(fd)


@counted
def test_directory_not_removed():
    directory = tempfile.TemporaryDirectory(dir=FOLDER)  # planted
    DIRECTORIES.append(directory)  # planted


@counted
def test_directory_not_removed_mended():
    directory = tempfile.TemporaryDirectory(dir=FOLDER)
    DIRECTORIES_MENDED.append(directory)
    directory.cleanup()
    del DIRECTORIES_MENDED[:-10]


def test_process_never_joined__pipe():
    job = subprocess.Popen(["true"], stdout=subprocess.PIPE)  # planted
    OPEN.append(job)  # planted


def test_process_never_joined__pipe_mended():
    job = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    OPEN.append(job)
    with job:
        job.terminate()


class Loader:
    def __init__(self):
        self.pool = ThreadPoolExecutor(1)

    def load(self):
        return self.pool.submit(int).result()  # planted


@pytest.mark.tfleak(objects=100)  # only threads are judged
def test_executor_not_shut_down__attribute():
    loader = Loader()
    OPEN.append(loader)
    loader.load()


class LoaderMended:
    def __init__(self):
        self.pool = ThreadPoolExecutor(1)

    def load(self):
        try:
            return self.pool.submit(int).result()
        finally:
            self.pool.shutdown()


@pytest.mark.tfleak(objects=100)
def test_executor_not_shut_down__attribute_mended():
    loader = LoaderMended()
    OPEN.append(loader)
    loader.load()


@few
def test_executor_not_shut_down__processes():
    pool = ProcessPoolExecutor(1, FORK)  # planted
    pool.submit(int).result()
    OPEN.append(pool)


@few
def test_executor_not_shut_down__processes_mended():
    pool = ProcessPoolExecutor(1, FORK)
    OPEN.append(pool)
    try:
        pool.submit(int).result()
    finally:
        pool.shutdown()


class Worker:
    def __init__(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)  # planted
        self.thread.start()  # planted

    def work(self):
        self.stop.wait()

    def end(self):
        self.stop.set()
        self.thread.join()


def test_thread_never_joined__method():
    Worker()


def test_thread_never_joined__method_mended():
    worker = Worker()
    try:
        assert worker.thread.is_alive()
    finally:
        worker.end()


class Figure:
    def __init__(self):
        self.lines = [str(n) for n in range(100)]


def as_in_matplotlib(keeper):
    """Put a class where pyplot has the one that keeps figures."""
    module = types.ModuleType("matplotlib._pylab_helpers")
    module.Gcf = keeper
    sys.modules.setdefault(module.__name__, module)
    return keeper


@as_in_matplotlib
class Gcf:
    figs = collections.OrderedDict()  # noqa: RUF012 - as in matplotlib


class Pyplot(types.ModuleType):
    """Stands for matplotlib, whose pyplot keeps the figures in this place."""

    def figure(self):
        figure = Gcf.figs[next(NUMBERS)] = Figure()  # planted
        return figure

    def close(self, figure):
        for number in [n for n, made in Gcf.figs.items() if made is figure]:
            del Gcf.figs[number]


plt = Pyplot("pyplot")


@counted
def test_figure_not_closed():
    figure = plt.figure()  # planted
    assert figure.lines


@counted
def test_figure_not_closed_mended():
    figure = plt.figure()
    assert figure.lines
    plt.close(figure)
