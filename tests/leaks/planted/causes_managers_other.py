"""Context managers of files, graphs, tapes, strategies and writers, each mended."""

import contextlib
import tempfile
from pathlib import Path

import pytest
import tensorflow as tf

#: Memory is not judged, since a diagnosis of it would take long.
pytestmark = pytest.mark.tfleak(
    faults=True, iterations=12, warmup=2, host_per_iteration="1 GiB", blocks=1_000_000
)
FOLDER = Path(tempfile.mkdtemp())
IN_USE = []


def compute():
    return tf.reduce_sum(tf.ones([4]))


# files
class Journal:
    def __enter__(self):
        self.file = (FOLDER / "journal").open("w")  # planted
        IN_USE.append(self.file)
        return self.file

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.close()

    def close(self):
        IN_USE.remove(self.file)
        self.file.close()


class CarefulJournal(Journal):
    def __exit__(self, *error):
        self.close()  # not in an `if` of `__exit__`


def test_exit_only_on_success__file():
    with Journal() as file:
        file.write(str(compute()))


def test_exit_only_on_success__file_mended():
    with CarefulJournal() as file:
        file.write(str(compute()))


@contextlib.contextmanager
def journal():
    file = (FOLDER / "journal").open("w")  # planted
    IN_USE.append(file)
    yield file
    IN_USE.remove(file)
    file.close()


@contextlib.contextmanager
def careful_journal():
    file = (FOLDER / "journal").open("w")
    IN_USE.append(file)
    try:
        yield file
    finally:
        IN_USE.remove(file)
        file.close()


def test_yield_without_finally__file():
    with journal() as file:
        file.write(str(compute()))


def test_yield_without_finally__file_mended():
    with careful_journal() as file:
        file.write(str(compute()))


# the manager that runs derives from one that cleans up only on success
class Journals:
    def __init__(self):
        self.parts = contextlib.ExitStack()
        self.parts.enter_context(CarefulJournal())
        compute()


class CarefulJournals:
    def __init__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(CarefulJournal())
            compute()
            self.parts = stack.pop_all()


def test_exit_stack_half_filled__file():
    Journals().parts.close()


def test_exit_stack_half_filled__file_mended():
    CarefulJournals().parts.close()


# default graphs
class Building:
    def __enter__(self):
        self.graph = tf.Graph()  # planted
        self.scope = self.graph.as_default()
        self.scope.__enter__()
        self.x = tf.constant(1.0)
        self.score()

    def __exit__(self, *error):
        self.scope.__exit__(None, None, None)

    def score(self):
        with tf.compat.v1.Session(graph=self.graph) as session:
            return session.run(self.x)


class CarefulBuilding(Building):
    def __enter__(self):
        self.graph = tf.Graph()
        self.scope = self.graph.as_default()
        self.scope.__enter__()
        try:
            self.x = tf.constant(1.0)
            self.score()
        except BaseException:
            self.scope.__exit__(None, None, None)
            raise


def test_enter_fails_after_opening__graph():
    with Building():
        pass


def test_enter_fails_after_opening__graph_mended():
    with CarefulBuilding():
        pass


# tapes
class Recording:
    def __enter__(self):
        self.tape = tf.GradientTape()
        self.tape.__enter__()  # planted

    def __exit__(self, *error):
        compute()
        self.tape.__exit__(None, None, None)


class CarefulRecording(Recording):
    def __exit__(self, *error):
        try:
            compute()
        finally:
            self.tape.__exit__(None, None, None)


def test_exit_fails_before_closing__tape():
    with Recording():
        pass


def test_exit_fails_before_closing__tape_mended():
    with CarefulRecording():
        pass


# strategies
@contextlib.contextmanager
def distributed():
    scope = tf.distribute.OneDeviceStrategy("/cpu:0").scope()
    scope.__enter__()  # planted
    yield
    scope.__exit__(None, None, None)


@contextlib.contextmanager
def distributed_carefully():
    scope = tf.distribute.OneDeviceStrategy("/cpu:0").scope()
    scope.__enter__()
    try:
        yield
    finally:
        scope.__exit__(None, None, None)


def test_yield_without_finally__strategy():
    with distributed():
        compute()


def test_yield_without_finally__strategy_mended():
    with distributed_carefully():
        compute()


# summary writers
class Recorder:
    def __enter__(self):
        self.writer = tf.summary.create_file_writer(str(FOLDER / "logs"))  # planted
        IN_USE.append(self.writer)

    def __exit__(self, kind, error, trace):
        if kind is not None:
            return True
        self.close()
        return False

    def close(self):
        IN_USE.remove(self.writer)
        self.writer.close()


class CarefulRecorder(Recorder):
    def __exit__(self, *error):
        self.close()
        return True


def test_exit_returns_true__writer():
    with Recorder():
        compute()


def test_exit_returns_true__writer_mended():
    with CarefulRecorder():
        compute()


# the default summary writer
WRITER = tf.summary.create_file_writer(str(FOLDER / "shared"))


class Logging:
    def __enter__(self):
        self.scope = WRITER.as_default()
        self.scope.__enter__()  # planted
        tf.summary.write("start", compute(), step=0)

    def __exit__(self, *error):
        self.scope.__exit__(*error)


class CarefulLogging(Logging):
    def __enter__(self):
        self.scope = WRITER.as_default()
        self.scope.__enter__()
        try:
            tf.summary.write("start", compute(), step=0)
        except BaseException:
            self.scope.__exit__(None, None, None)
            raise


def test_enter_fails_after_opening__default_writer():
    with Logging():
        compute()


def test_enter_fails_after_opening__default_writer_mended():
    with CarefulLogging():
        compute()


# a manager that is entered twice, for scopes
class Counting:
    def __enter__(self):
        self.tape = tf.GradientTape()
        self.tape.__enter__()  # planted
        return self

    def __exit__(self, *error):
        if self.tape is not None:
            self.tape.__exit__(*error)
            self.tape = None


def test_manager_entered_twice__tape():
    counting = Counting()
    with counting:
        compute()
        with counting:
            pass


def test_manager_entered_twice__tape_mended():
    with Counting():
        compute()
        with Counting():
            pass
