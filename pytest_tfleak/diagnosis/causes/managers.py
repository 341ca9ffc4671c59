"""Causes in context managers that do not clean up when a call fails.

They are found in a sweep of faults only: it knows which calls failed.
"""

from __future__ import annotations

from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Priority

CAUSES = (
    Cause(
        slug="exit-fails-before-closing",
        priority=Priority.MANAGERS,
        explains="A call in __exit__ fails before it has cleaned up, and the rest of "
        "__exit__ never runs.",
        remedy="Clean up in a `finally`, whatever else `__exit__` does: "
        "`try: ... finally: ...`.",
        rule=lambda e: e.manager == "exit-fails-before-closing",
    ),
    Cause(
        slug="enter-fails-after-opening",
        priority=Priority.MANAGERS,
        explains="A call in __enter__ fails after it has opened something. Python "
        "calls __exit__ only if __enter__ has returned, so nobody cleans up.",
        remedy="Do it before anything is opened; or let `__enter__` clean up itself: "
        "`except BaseException:`, the clean-up, `raise`.",
        rule=lambda e: e.manager == "enter-fails-after-opening",
    ),
    Cause(
        slug="yield-without-finally",
        priority=Priority.MANAGERS,
        explains="The error of the block is raised at the yield of this context "
        "manager, and what follows the yield never runs.",
        remedy="Put the yield into a `try`, and the clean-up into its `finally`.",
        rule=lambda e: e.manager == "yield-without-finally",
    ),
    Cause(
        slug="exit-only-on-success",
        priority=Priority.MANAGERS,
        explains="The __exit__ cleans up only if the block has not failed: it asks for "
        "the error first.",
        remedy="Clean up whatever the error is: move it out of the `if` in `__exit__`, "
        "or in front of it.",
        rule=lambda e: e.manager == "exit-only-on-success",
    ),
    Cause(
        slug="exit-stack-half-filled",
        priority=Priority.MANAGERS,
        explains="An ExitStack is filled step by step. If a step fails, nobody closes "
        "what it holds by then.",
        remedy="Fill it in a with statement, and take over what it holds at its end: "
        "`with ExitStack() as stack: ...`, then `self.stack = stack.pop_all()`.",
        rule=lambda e: e.manager == "exit-stack-half-filled",
    ),
)
