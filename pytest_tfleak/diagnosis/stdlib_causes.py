"""Causes in what Python's own library keeps: mocks, timers, queues, event loops.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from pytest_tfleak.diagnosis.cause import Cause

#: Those of before, which get more to keep in each call.
_TEES = {"old_itertools._tee", "old_itertools._tee_dataobject"}
_MOCKS = {"old_unittest.mock._CallList"}
_PICKLERS = {"old__pickle.Pickler", "old_pickle._Pickler"}
#: Those that each call makes.
_QUEUES = {"multiprocessing.queues.Queue"}
_SEGMENTS = {"multiprocessing.shared_memory.SharedMemory"}
_LOOPS = {"asyncio.events.AbstractEventLoop"}
_TIMERS = {"threading.Timer"}
_FUTURES = {"concurrent.futures._base.Future"}
_TOKENS = {"_contextvars.Token"}


CAUSES = (
    Cause(
        slug="finalizer-keeps-arguments",
        explains="A weakref.finalize keeps its function and arguments until the object "
        "goes. Here the object stays, or an argument refers to it.",
        remedy="Take it back when it is done: `finalizer.detach()`; pass names and "
        "numbers as arguments, or a `weakref.ref(x)`, and never the object itself.",
        rule=lambda e: e.path.startswith("weakref.finalize._registry"),
    ),
    Cause(
        slug="iterator-falls-behind",
        explains="The iterators of itertools.tee keep each item until all of them have "
        "read it. One of them is read more slowly or not at all.",
        remedy="Read both in step: `for x, y in zip(first, second): ...`; delete the "
        "one that is not needed; or make the items twice: `make_batches()` for each.",
        rule=lambda e: bool(_TEES & e.clues),
    ),
    Cause(
        slug="mock-keeps-calls",
        explains="A mock notes each call with its arguments, and so keeps these.",
        remedy="Empty it after each step: `mock.reset_mock()`; or put a plain function "
        "in its place: `monkeypatch.setattr(module, 'report', lambda *_, **__: None)`.",
        rule=lambda e: bool(_MOCKS & e.clues),
    ),
    Cause(
        slug="pickler-keeps-objects",
        explains="A Pickler remembers each object that it has written, so that a "
        "second time it writes a reference only. It keeps them all.",
        remedy="Forget them after each record: `pickler.clear_memo()`; or use "
        "`pickle.dump(record, file)`, which makes a new one each time.",
        rule=lambda e: bool(_PICKLERS & e.clues),
    ),
    Cause(
        slug="queue-not-closed",
        explains="Each call makes a multiprocessing queue that nobody closes. It has a "
        "pipe, and a thread that feeds it.",
        remedy="Close it in a `finally`: `queue.close()`, then "
        "`queue.join_thread()`; or make one queue before the loop.",
        rule=lambda e: (
            not e.has("process.children")
            and (bool(_QUEUES & e.clues) or "QueueFeederThread" in e.what)
        ),
    ),
    Cause(
        slug="timer-not-cancelled",
        explains="Each call starts a threading.Timer that nobody cancels. Until its "
        "time comes it is a thread, and keeps its arguments.",
        remedy="Cancel it in a `finally`: `timer.cancel()`, then `timer.join()`.",
        rule=lambda e: "process.threads" in e.failing and bool(_TIMERS & e.clues),
    ),
    Cause(
        slug="event-loop-not-closed",
        explains="Each call makes an asyncio event loop that nobody closes. It has a "
        "selector and two sockets, and keeps what was scheduled.",
        remedy="Use `asyncio.run(main())`, which closes its loop; or call "
        "`loop.close()` in a `finally`.",
        rule=lambda e: "process.fds" in e.failing and bool(_LOOPS & e.clues),
    ),
    Cause(
        slug="shared-memory-left",
        explains="Each call makes a segment of shared memory. It stays open until "
        "close(), and in the system until unlink().",
        remedy="Do both in a `finally`: `segment.close()`, and in the process that "
        "made it `segment.unlink()`.",
        rule=lambda e: bool(_SEGMENTS & e.clues) or "/dev/shm/psm_" in e.what,
    ),
)
#: What comes after threads, pools and sessions, which say more.
OF_RESULTS = (
    Cause(
        slug="future-kept",
        explains="The Future of each call is kept after it is done. A Future keeps its "
        "result, or its error with the traceback.",
        remedy="Let it go when it is done: "
        "`future.add_done_callback(pending.discard)`; or keep the numbers that you "
        "need of `future.result()`.",
        rule=lambda e: bool(_FUTURES & e.clues),
    ),
    Cause(
        slug="context-token-kept",
        explains="Each call sets a context variable and keeps the token. A token keeps "
        "the value that the variable had before.",
        remedy="Take the value back in a `finally` and keep no token: "
        "`variable.reset(token)`.",
        rule=lambda e: bool(_TOKENS & e.clues),
    ),
)
