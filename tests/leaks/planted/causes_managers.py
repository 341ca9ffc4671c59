"""Context managers that do not clean up when a call fails: each cause, mended."""

import asyncio
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


class WarmsUp:
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
        compute()

    def __exit__(self, *error):
        OPEN.pop().close()


class WarmsUpCarefully(WarmsUp):
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
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


class Reports:
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


# the exit returns True
class Quiet:
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted

    def __exit__(self, kind, error, trace):
        if kind is not None:
            return True
        OPEN.pop().close()
        return False


class QuietAfterCleaningUp(Quiet):
    def __exit__(self, kind, error, trace):
        OPEN.pop().close()
        return True


def test_exit_returns_true():
    with Quiet():
        compute()


def test_exit_returns_true_mended():
    with QuietAfterCleaningUp():
        compute()


class Forgiving:
    def __enter__(self): ...

    def __exit__(self, *error):
        return True


def test_exit_hides_error():
    with Forgiving():
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
        compute()
        OPEN.pop().close()


def test_exit_hides_error_mended():
    with Forgiving():
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
        try:
            compute()
        finally:
            OPEN.pop().close()


# entered twice
class Lease:
    def __enter__(self):
        self.session = tf.compat.v1.Session(graph=tf.Graph())  # planted
        OPEN.append(self.session)

    def __exit__(self, *error):
        OPEN.remove(self.session)
        self.session.close()


def score(lease, manager):
    with lease:
        with contextlib.suppress(tf.errors.OpError):
            return compute()
        with manager:
            return compute()


def test_manager_entered_twice():
    lease = Lease()
    score(lease, lease)


def test_manager_entered_twice_mended():
    score(Lease(), Lease())  # a new `Lease` for each


class CountedLease(Lease):
    depth = 0

    def __enter__(self):
        self.depth += 1
        if self.depth == 1:
            super().__enter__()

    def __exit__(self, *error):
        self.depth -= 1
        if not self.depth:
            super().__exit__(*error)


class ForgivingLease(Lease):
    def __exit__(self, *error):
        self.session.close()
        with contextlib.suppress(ValueError):
            OPEN.remove(self.session)


@pytest.mark.tfleak(faults=False)
def test_manager_entered_twice__without_fault():
    lease = ForgivingLease()
    with lease, lease:
        compute()


@pytest.mark.tfleak(faults=False)
def test_manager_entered_twice__without_fault_mended():
    lease = CountedLease()
    with lease, lease:
        compute()


# async with
class Remote:
    async def __aenter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
        await asyncio.sleep(0)

    async def __aexit__(self, kind, error, trace):
        await asyncio.sleep(0)
        if error is None:
            OPEN.pop().close()


class CarefulRemote(Remote):
    async def __aexit__(self, *error):
        OPEN.pop().close()
        await asyncio.sleep(0)


async def ask(remote):
    async with remote:
        compute()


def test_exit_only_on_success__async():
    asyncio.run(ask(Remote()))


def test_exit_only_on_success__async_mended():
    asyncio.run(ask(CarefulRemote()))


class WarmRemote(CarefulRemote):
    async def __aenter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
        compute()


class CarefulWarmRemote(CarefulRemote):
    async def __aenter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
        try:
            compute()
        except BaseException:
            OPEN.pop().close()
            raise


def test_enter_fails_after_opening__async():
    asyncio.run(ask(WarmRemote()))


def test_enter_fails_after_opening__async_mended():
    asyncio.run(ask(CarefulWarmRemote()))


class ReportingRemote(Remote):
    async def __aenter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted

    async def __aexit__(self, *error):
        compute()
        OPEN.pop().close()


class CarefulReportingRemote(Remote):
    async def __aexit__(self, *error):
        try:
            compute()
        finally:
            OPEN.pop().close()


async def wait_with(remote):
    async with remote:
        await asyncio.sleep(0)


def test_exit_fails_before_closing__async():
    asyncio.run(wait_with(ReportingRemote()))


def test_exit_fails_before_closing__async_mended():
    asyncio.run(wait_with(CarefulReportingRemote()))


@contextlib.asynccontextmanager
async def connected():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
    yield
    await asyncio.sleep(0)
    OPEN.pop().close()


@contextlib.asynccontextmanager
async def connected_carefully():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
    try:
        yield
        await asyncio.sleep(0)
    finally:
        OPEN.pop().close()


def test_yield_without_finally__async():
    asyncio.run(ask(connected()))


def test_yield_without_finally__async_mended():
    asyncio.run(ask(connected_carefully()))


@contextlib.asynccontextmanager
async def serving():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
    try:
        yield
    except Exception:
        OPEN.pop().close()
        raise
    OPEN.pop().close()


@contextlib.asynccontextmanager
async def serving_carefully():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
    try:
        yield
    except BaseException:
        OPEN.pop().close()
        raise
    OPEN.pop().close()


@contextlib.asynccontextmanager
async def serving_with_finally():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
    try:
        yield
    finally:
        OPEN.pop().close()


async def fail_beside(manager):
    is_done = asyncio.Event()

    async def work():
        await asyncio.sleep(0)
        compute()
        is_done.set()

    async def serve():
        async with manager:
            await is_done.wait()

    await asyncio.gather(serve(), work())


def test_cancelled_without_finally():
    asyncio.run(fail_beside(serving()))


def test_cancelled_without_finally_mended():
    asyncio.run(fail_beside(serving_with_finally()))


def test_cancelled_without_finally__by_except():
    asyncio.run(fail_beside(serving()))


def test_cancelled_without_finally__by_except_mended():
    asyncio.run(fail_beside(serving_carefully()))


class AsyncBundle:
    async def open(self):
        self.parts = contextlib.AsyncExitStack()
        await self.parts.enter_async_context(CarefulRemote())
        compute()


class CarefulAsyncBundle:
    async def open(self):
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(CarefulRemote())
            compute()
            self.parts = stack.pop_all()


async def open_and_close(bundle):
    await bundle.open()
    await bundle.parts.aclose()


def test_exit_stack_half_filled__async():
    asyncio.run(open_and_close(AsyncBundle()))


def test_exit_stack_half_filled__async_mended():
    asyncio.run(open_and_close(CarefulAsyncBundle()))


# what a generator does around its yield
@contextlib.contextmanager
def warmed_up():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
    compute()
    try:
        yield
    finally:
        OPEN.pop().close()


@contextlib.contextmanager
def warmed_up_carefully():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
    try:
        compute()
        yield
    finally:
        OPEN.pop().close()


def test_fails_before_yield():
    with warmed_up():
        pass


def test_fails_before_yield_mended():
    with warmed_up_carefully():
        pass


@contextlib.contextmanager
def reporting():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
    try:
        yield
    finally:
        compute()
        OPEN.pop().close()


@contextlib.contextmanager
def reporting_carefully():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))
    try:
        yield
    finally:
        try:
            compute()
        finally:
            OPEN.pop().close()


def test_exit_fails_before_closing__generator():
    with reporting():
        pass


def test_exit_fails_before_closing__generator_mended():
    with reporting_carefully():
        pass


# the exit fails by itself, since the block has
class WritesLast:
    def __enter__(self):
        OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
        self.results = []
        return self.results

    def __exit__(self, *error):
        str(self.results[-1])
        OPEN.pop().close()


class WritesLastCarefully(WritesLast):
    def __exit__(self, *error):
        try:
            str(self.results[-1])
        finally:
            OPEN.pop().close()


def test_exit_fails_before_closing__by_itself():
    with WritesLast() as results:
        results.append(compute())


def test_exit_fails_before_closing__by_itself_mended():
    with WritesLastCarefully() as results:
        results.append(compute())


# no manager of its own, but what makes sure to clean up comes too late
def connect():
    OPEN.append(tf.compat.v1.Session(graph=tf.Graph()))  # planted
    return OPEN[-1]


def disconnect(session):
    OPEN.remove(session)
    session.close()


def test_guarded_too_late():
    session = connect()
    compute()
    try:
        session.list_devices()
    finally:
        disconnect(session)


def test_guarded_too_late_mended():
    session = connect()
    try:
        compute()
        session.list_devices()
    finally:
        disconnect(session)


def beat():
    done = threading.Event()
    thread = threading.Thread(target=done.wait, daemon=True)  # planted
    thread.start()
    return done, thread


def end(done, thread):
    done.set()
    thread.join()


def test_guarded_too_late__exit_stack():
    with contextlib.ExitStack() as stack:
        done, thread = beat()
        compute()
        stack.callback(end, done, thread)


def test_guarded_too_late__exit_stack_mended():
    with contextlib.ExitStack() as stack:
        done, thread = beat()
        stack.callback(end, done, thread)
        compute()
